from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any, Literal, Optional

import jsonschema_rs
import orjson
import pytest
from pydantic import BaseModel, Field

from batcher.errors import TaskError
from batcher.tasks.outline import answer_format
from batcher.tasks.schema import check_schema, inline, longest_answer, model_schema


class Place(BaseModel):
    """A place."""

    city: str = Field(max_length=10)


class Node(BaseModel):
    name: str
    children: list[Node]


class Event(BaseModel):
    """For readers of the code."""

    title: str = Field(max_length=20)
    kind: Literal["a", "b"]
    where: Place = Field(description="Where it was")
    others: list[Place] = Field(max_length=2)
    day: date
    rank: int | None = Field(ge=1)


def test_a_models_schema_is_closed_flat_and_lean() -> None:
    schema = model_schema(Event)
    text = orjson.dumps(schema).decode()
    assert "$ref" not in text
    assert "$defs" not in text
    assert '"title":{"maxLength":20,"type":"string"}' in text, "a field may be called title"
    assert "readers" not in text
    assert schema["additionalProperties"] is False
    assert schema["properties"]["where"]["additionalProperties"] is False
    assert schema["properties"]["where"]["description"] == "Where it was"
    assert list(schema["properties"]) == ["title", "kind", "where", "others", "day", "rank"]
    check_schema(schema)


def test_a_recursive_model_keeps_its_definitions() -> None:
    class Tree(BaseModel):
        root: Node

    schema = model_schema(Tree)
    assert "$defs" in schema
    check_schema(schema)
    assert jsonschema_rs.is_valid(
        schema, {"root": {"name": "a", "children": [{"name": "b", "children": []}]}}
    )


def test_a_model_beyond_json_schema_is_named() -> None:
    class Odd(BaseModel):
        call: Callable[[], int]

    with pytest.raises(TaskError, match="Odd has no JSON Schema"):
        model_schema(Odd)


def test_inlining_does_not_touch_data_that_looks_like_schema() -> None:
    schema = {
        "type": "object",
        "properties": {"$ref": {"enum": [{"$ref": "#/x"}]}, "enum": {"$ref": "#/definitions/a~1b"}},
        "definitions": {"a/b": {"type": "integer"}},
    }
    assert inline(schema) == {
        "type": "object",
        "properties": {"$ref": {"enum": [{"$ref": "#/x"}]}, "enum": {"type": "integer"}},
    }


def test_inlining_stops_before_a_schema_explodes() -> None:
    levels = {
        f"l{n}": {"type": "object", "properties": {k: {"$ref": f"#/$defs/l{n + 1}"} for k in "abcdefgh"}}
        for n in range(12)
    }
    schema = {"$ref": "#/$defs/l0", "$defs": {**levels, "l12": {"type": "string"}}}
    assert inline(schema) == schema


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "objekt"}, "not a valid JSON Schema"),
        ({"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}, "nowhere"),
        ({"type": "object", "properties": {"a": {"$ref": "https://example.com/s"}}}, "example.com"),
        ({"type": "array"}, "object"),
        ({}, "object"),
    ],
)
def test_an_unusable_schema_is_refused(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        check_schema(schema)


def test_the_longest_answer_is_one_that_fits() -> None:
    schema = model_schema(Event)
    length, unbounded = longest_answer(schema)
    longest = {
        "title": "x" * 20,
        "kind": "b",
        "where": {"city": "y" * 10},
        "others": [{"city": "y" * 10}] * 2,
        "day": "2025-01-31",
        "rank": -(10**18),
    }
    written = len(orjson.dumps(longest))
    assert unbounded == []
    assert written <= length <= written + 12


def test_places_without_a_bound_are_named() -> None:
    _, unbounded = longest_answer(
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "a": {"type": "string"},
                "b": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
                "c": {"type": "object"},
                "d": {},
                "e": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
        }
    )
    assert unbounded == ["a", "b[]", "c", "d", "e"]


def _told(**properties: Any) -> str:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return answer_format({**schema, "additionalProperties": False})


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string"}, "string"),
        ({"type": "string", "maxLength": 5}, "string of at most 5 characters"),
        ({"type": "string", "minLength": 2, "maxLength": 5}, "string of 2 to 5 characters"),
        ({"type": "string", "minLength": 2, "maxLength": 2}, "string of exactly 2 characters"),
        ({"type": "string", "minLength": 2}, "string of at least 2 characters"),
        ({"type": "string", "pattern": "^a$"}, "string, matching ^a$"),
        ({"type": "string", "format": "date"}, "string, in JSON Schema's format date"),
        ({"type": "integer", "minimum": 0, "exclusiveMaximum": 9}, "whole number, at least 0, less than 9"),
        ({"enum": ["ä", 1, None]}, 'one of "ä", 1, null'),
        ({"type": "string", "enum": ["a"], "description": "x\n y"}, 'one of "a". x y'),
        ({"const": 3}, "always 3"),
        ({"type": "array", "enum": [[1], [2]], "items": {"type": "integer"}}, "one of [1], [2]"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "whole number, or null"),
        ({"type": ["string", "null"], "maxLength": 3}, "string of at most 3 characters, or null"),
        (
            {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
            "list of 1 to 3 true/false values",
        ),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, 'list of values, each one of "a", "b"'),
    ],
)
def test_schemas_in_words(schema: dict[str, Any], words: str) -> None:
    assert _told(x=schema).splitlines()[-1] == f'- "x": {words}'


def test_nested_fields_are_indented_and_optional_ones_marked() -> None:
    class Answer(BaseModel):
        places: list[Place] = Field(max_length=3)
        best: Place
        note: Optional[bool] = None  # noqa: UP045

    assert answer_format(model_schema(Answer)).splitlines()[1:] == [
        '- "places": list of at most 3 objects',
        '  - "city": string of at most 10 characters',
        '- "best": object. A place.',
        '  - "city": string of at most 10 characters',
        '- "note" (may be left out): true or false, or null',
    ]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "object", "properties": {"a": {}}, "additionalProperties": False},
        {"oneOf": [{"type": "string"}]},
        {"anyOf": [{"type": "string"}, {"type": "null"}], "maxLength": 3},
        {"type": "array"},
        {"type": "array", "items": {"type": "array", "items": {"oneOf": []}}},
        {"$ref": "#/$defs/x"},
        {"type": "integer", "multipleOf": 5},
        {"anyOf": [{"type": "object", "properties": {"a": {"type": "null"}}}, {"type": "null"}]},
        True,
    ],
)
def test_what_words_would_lose_is_told_in_json(part: Any) -> None:
    told = _told(x=part)
    assert orjson.loads(told.partition("JSON Schema:\n")[2])["properties"]["x"] == part
