from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import jsonschema_rs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from batcher.providers.schemas import ANTHROPIC, OPENAI, SchemaCache, as_it_is, rewritten, without_added_nulls
from tests.support.vendor_answers import claude_schema_fault, fitting_json, strict_schema_fault


class Level(StrEnum):
    EASY = "easy"
    HARD = "hard"


class Place(BaseModel):
    name: str = Field(description="As written", max_length=60)
    kind: Literal["city"] = "city"


class Everything(BaseModel):
    title: str = Field(min_length=1, max_length=80, pattern="^[A-Z]")
    topics: list[str] = Field(min_length=2, max_length=5)
    level: Level = Field(description="How hard it reads")
    score: float = Field(ge=0, le=1)
    day: str | None = Field(None, json_schema_extra={"format": "date"})
    place: Place | None = None
    places: list[Place] = []
    note: str = ""


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


SCHEMA = Everything.model_json_schema()


def test_openai_takes_what_pydantic_makes() -> None:
    enforced = rewritten(SCHEMA, OPENAI)
    assert enforced is not None
    schema = orjson.loads(enforced.encoded)
    assert strict_schema_fault(schema) == ""
    assert set(schema["required"]) == set(SCHEMA["properties"])
    assert "maxLength: 80" in schema["properties"]["title"]["description"]
    assert schema["properties"]["topics"]["maxItems"] == 5
    assert schema["properties"]["level"]["description"] == "How hard it reads"
    assert enforced.nulls_added


def test_anthropic_takes_what_pydantic_makes() -> None:
    enforced = rewritten(SCHEMA, ANTHROPIC)
    assert enforced is not None
    schema = orjson.loads(enforced.encoded)
    assert claude_schema_fault(schema) == ""
    assert schema["required"] == SCHEMA["required"]
    assert "maximum: 1" in schema["properties"]["score"]["description"]


@pytest.mark.parametrize("seed", range(40))
def test_answers_to_the_strict_schema_fit_the_original_once_added_nulls_are_gone(seed: int) -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "string"},
            "b": {"type": "integer"},
            "c": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "d": {"$ref": "#/$defs/d"},
            "e": {"type": "array", "items": {"$ref": "#/$defs/d"}},
        },
        "required": ["a"],
        "$defs": {"d": {"type": "object", "properties": {"x": {"type": "string"}}}},
    }
    enforced = rewritten(schema, OPENAI)
    assert enforced is not None
    answer = orjson.loads(fitting_json(orjson.loads(enforced.encoded), seed, "some words"))
    jsonschema_rs.validator_for(orjson.loads(enforced.encoded)).validate(answer)
    for name in ("b", "c", "d", "e"):
        if (seed >> "bcde".index(name)) & 1:
            answer[name] = None
    if answer["e"]:
        answer["e"][0]["x"] = None
    mended = orjson.loads(without_added_nulls(orjson.dumps(answer).decode(), schema))
    jsonschema_rs.validator_for(schema).validate(mended)
    assert ("c" in mended) is True
    assert all(mended[name] == answer[name] for name in mended if name != "e")


def test_a_recursive_schema_is_for_those_who_take_it() -> None:
    enforced = rewritten(Tree.model_json_schema(), OPENAI)
    assert enforced is not None
    assert strict_schema_fault(orjson.loads(enforced.encoded)) == ""
    assert rewritten(Tree.model_json_schema(), ANTHROPIC) is None


@pytest.mark.parametrize(
    "part",
    [
        {},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "object"},
        {"type": "array"},
        {"prefixItems": [{"type": "string"}]},
        {"allOf": [{"type": "string"}, {"maxLength": 3}]},
        {"$ref": "#/$defs/missing"},
    ],
)
def test_what_cannot_be_enforced_is_said_so(part: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"a": part}, "required": ["a"]}
    assert rewritten(schema, OPENAI) is None
    assert rewritten(schema, ANTHROPIC) is None


def test_a_root_that_is_no_object_cannot_be_enforced() -> None:
    assert rewritten({"type": "array", "items": {"type": "string"}}, OPENAI) is None


def test_it_is_computed_once_for_each_schema_object() -> None:
    computed = []
    cache = SchemaCache(lambda schema: computed.append(schema) or as_it_is(schema))  # type: ignore[func-returns-value]
    for _ in range(5):
        cache.get(SCHEMA)
    assert cache.get(dict(SCHEMA)) is not None
    assert len(computed) == 2


def test_the_cache_does_not_grow() -> None:
    cache = SchemaCache(as_it_is)
    for number in range(1000):
        encoded = cache.get({"type": "object", "title": str(number)})
        assert encoded is not None
        assert str(number).encode() in encoded.encoded
    assert len(cache._known) <= 256


@given(
    st.recursive(
        st.none() | st.integers(-(2**60), 2**60) | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3),
    )
)
def test_answers_without_objects_stay_as_they_are(value: Any) -> None:
    text = orjson.dumps(value).decode()
    assert orjson.loads(without_added_nulls(text, {})) == value


def test_text_that_is_no_json_stays_as_it_is() -> None:
    assert without_added_nulls("{no", {}) == "{no"
