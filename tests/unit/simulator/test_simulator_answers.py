"""The simulator's answers fit the request's schema, and vary."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batcher.simulator.answers import fitting_json, plain_answer
from batcher.simulator.told_limits import with_told_limits

TEXT = "the lender pays the borrower a sum of money on the first day of every month until the loan is repaid"
NAMES = st.sampled_from(["title", "summary", "score", "tags", "where", "x"])


def bounds(low: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[int, int]]:
    return low.flatmap(lambda first: st.tuples(st.just(first), st.integers(first, first + 30)))


def string_schema(sizes: tuple[int, int], formatted: str | None) -> dict[str, Any]:
    if formatted:
        return {"type": "string", "format": formatted}
    return {"type": "string", "minLength": sizes[0], "maxLength": sizes[1]}


LEAVES = st.one_of(
    st.builds(string_schema, bounds(st.integers(0, 20)), st.sampled_from([None, "date", "uuid", "email"])),
    bounds(st.integers(-20, 20)).map(lambda b: {"type": "integer", "minimum": b[0], "maximum": b[1]}),
    bounds(st.integers(-20, 20)).map(lambda b: {"type": "number", "minimum": b[0], "maximum": b[1] + 1}),
    st.just({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5}),
    st.just({"type": "number", "multipleOf": 0.5, "minimum": 1, "maximum": 9}),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"const": 4}, {"enum": ["a", 1, None]}]),
    st.sampled_from([{"type": ["string", "null"]}, {"type": ["null", "integer"]}]),
)


def wider(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    lists = st.tuples(inner, bounds(st.integers(0, 3))).map(
        lambda made: {"type": "array", "items": made[0], "minItems": made[1][0], "maxItems": made[1][1]}
    )
    objects = st.dictionaries(NAMES, inner, max_size=4).map(
        lambda properties: {
            "type": "object",
            "properties": properties,
            "required": sorted(properties)[:2],
            "additionalProperties": False,
        }
    )
    return lists | objects | inner.map(lambda made: {"anyOf": [made, {"type": "null"}]})


@given(st.recursive(LEAVES, wider, max_leaves=8), st.integers(0, 1 << 64), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_schema_is_fitted(schema: dict[str, Any], seed: int, nulls: bool) -> None:
    answer = fitting_json(schema, seed, TEXT, nulls=nulls)
    jsonschema_rs.validator_for(schema, validate_formats=True).validate(json.loads(answer))
    assert answer == fitting_json(schema, seed, TEXT, nulls=nulls)


def test_definitions_that_refer_to_themselves_come_to_an_end() -> None:
    node = {"$ref": "#/$defs/node"}
    schema = {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": node}},
                "required": ["name", "children"],
            }
        },
    }  # fmt: skip
    answer = fitting_json(schema, 5, TEXT)
    jsonschema_rs.validator_for(schema).validate(json.loads(answer))
    assert len(answer) < 1_000_000


def test_unique_items_are_different() -> None:
    schema = {
        "type": "array",
        "items": {"type": "integer", "minimum": 0, "maximum": 9},
        "minItems": 5,
        "uniqueItems": True,
    }
    for seed in range(200):
        jsonschema_rs.validator_for(schema).validate(json.loads(fitting_json(schema, seed, TEXT)))


def test_sentences_are_longer_than_names_and_answers_differ() -> None:
    properties = {"title": {"type": "string"}, "summary": {"type": "string"}, "kind": {"enum": ["a", "b"]}}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    answers = [json.loads(fitting_json(schema, seed << 40, TEXT)) for seed in range(200)]
    assert {answer["kind"] for answer in answers} == {"a", "b"}
    assert len({answer["summary"] for answer in answers}) > 150
    lengths = sorted(len(answer["summary"].split()) for answer in answers)
    assert lengths[0] >= 15
    assert lengths[-1] >= lengths[0] + 20
    assert max(len(answer["title"].split()) for answer in answers) <= 4


@pytest.mark.parametrize("text", ["", "12 34 ??", TEXT])
def test_plain_answers_have_words(text: str) -> None:
    lengths = [len(plain_answer(seed << 40, text).split()) for seed in range(100)]
    assert 20 <= min(lengths) < max(lengths) <= 130


def test_limits_that_descriptions_tell_are_heeded_and_those_that_are_there_stay() -> None:
    schema = {
        "type": "object",
        "properties": {
            "language": {"type": "string", "description": "ISO code (maxLength: 3, minLength: 2)"},
            "score": {"type": "number", "description": '{"minimum": 0.5, "maximum": 0.75}'},
            "day": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": '(format: "date")'},
            "tags": {
                "type": "array",
                "items": {"type": "string"},
                "maxItems": 2,
                "description": "maxItems: 9",
            },
            "plain": {"type": "string", "description": "Anything: at all"},
        },
        "required": ["language", "score", "day", "tags", "plain"],
    }
    heeding = with_told_limits(schema)
    assert heeding["properties"]["tags"]["maxItems"] == 2
    assert heeding["properties"]["plain"] == schema["properties"]["plain"]  # type: ignore[index]
    for seed in range(100):
        answer = json.loads(fitting_json(heeding, seed << 33, TEXT))
        assert 2 <= len(answer["language"]) <= 3
        assert 0.5 <= answer["score"] <= 0.75
        assert len(answer["day"]) == 10
