"""Answers as columns: which ones a schema makes, and that nothing of an answer is lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.export.columns import Column, Kind, answer_columns

TEXT = {"type": "string"}
NULL = {"type": "null"}


def test_nested_objects_become_dotted_names_in_order() -> None:
    schema = {
        "type": "object",
        "properties": {
            "title": TEXT,
            "author": {
                "type": "object",
                "properties": {"name": TEXT, "age": {"type": "integer"}},
                "additionalProperties": False,
            },
            "score": {"type": "number"},
        },
    }
    assert answer_columns(schema) == [
        Column("output.title", ("title",), Kind.TEXT),
        Column("output.author.name", ("author", "name"), Kind.TEXT),
        Column("output.author.age", ("author", "age"), Kind.INTEGER),
        Column("output.score", ("score",), Kind.NUMBER),
    ]


@pytest.mark.parametrize(
    ("schema", "kind", "is_list"),
    [
        (TEXT, Kind.TEXT, False),
        ({"type": ["string", "null"]}, Kind.TEXT, False),
        ({"anyOf": [{"type": "integer"}, NULL]}, Kind.INTEGER, False),
        ({"anyOf": [{"type": "integer"}, TEXT]}, Kind.JSON, False),
        ({"type": ["integer", "string"]}, Kind.JSON, False),
        ({"enum": ["a", "b"]}, Kind.TEXT, False),
        ({"enum": ["a", 1]}, Kind.JSON, False),
        ({"enum": [None]}, Kind.JSON, False),
        ({"const": "a"}, Kind.TEXT, False),
        ({"type": "boolean"}, Kind.BOOLEAN, False),
        ({"type": "array", "items": TEXT}, Kind.TEXT, True),
        ({"type": "array", "items": {"type": "integer"}}, Kind.INTEGER, True),
        ({"type": "array", "items": {"anyOf": [TEXT, NULL]}}, Kind.JSON, False),
        ({"type": "array", "items": {"type": "object"}}, Kind.JSON, False),
        ({"type": "array"}, Kind.JSON, False),
        ({"type": "object"}, Kind.JSON, False),
        ({"type": "object", "properties": {"a": TEXT}, "additionalProperties": TEXT}, Kind.JSON, False),
        ({"type": "object", "properties": {"a": TEXT}, "patternProperties": {"x": TEXT}}, Kind.JSON, False),
        ({}, Kind.JSON, False),
    ],
)
def test_kinds(schema: dict[str, Any], kind: Kind, is_list: bool) -> None:
    [column] = answer_columns({"type": "object", "properties": {"field": schema}})
    assert (column.kind, column.is_list) == (kind, is_list)


def test_an_answer_that_is_no_object_is_one_column() -> None:
    assert answer_columns({"type": "array", "items": TEXT}) == [Column("output", (), Kind.TEXT, is_list=True)]


def test_a_missing_or_null_object_gives_none() -> None:
    column = Column("output.author.name", ("author", "name"), Kind.TEXT)
    assert column.value({"author": None}) is None
    assert column.value({}) is None
    assert column.value(None) is None


_leaves = st.sampled_from([({"type": "string"}, "x"), ({"type": "integer"}, 3), ({"type": "boolean"}, True)])
_names = st.text(alphabet="abc.", min_size=1, max_size=3)


def _objects(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(_names, children, min_size=1, max_size=4).map(
        lambda parts: (
            {"type": "object", "properties": {name: part[0] for name, part in parts.items()}},
            {name: part[1] for name, part in parts.items()},
        )
    )


@given(st.recursive(_leaves, _objects, max_leaves=12))
def test_every_leaf_of_an_answer_is_in_one_column(pair: tuple[dict[str, Any], Any]) -> None:
    schema, answer = pair
    columns = answer_columns(schema)
    rebuilt: Any = None if isinstance(answer, dict) else columns[0].value(answer)
    for column in columns if isinstance(answer, dict) else ():
        rebuilt = rebuilt or {}
        place = rebuilt
        for key in column.path[:-1]:
            place = place.setdefault(key, {})
        place[column.path[-1]] = column.value(answer)
    assert rebuilt == answer
