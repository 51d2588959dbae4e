"""Models without schema enforcement are told the schema in words; the simulated ones heed it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.simulator.core import Simulator
from batcher.simulator.outlines import schema_of_outline
from batcher.tasks.outline import answer_format
from batcher.tasks.registry import load_task

EVERYTHING: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["a b", "when", "kind", "sizes", "rows", "flag"],
    "properties": {
        "a b": {"type": "string", "minLength": 2, "maxLength": 9, "description": "Two, or at most 9. One of"},
        "when": {"type": "string", "format": "date"},
        "kind": {"enum": ["x, y", 'a "b"', 3, None, True, -1.5e3]},
        "always": {"const": "so"},
        "sizes": {
            "type": "array", "minItems": 2, "maxItems": 2,
            "items": {"type": "integer", "minimum": 5, "exclusiveMaximum": 9},
        },
        "share": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "choices": {"type": "array", "minItems": 3, "items": {"enum": ["p", "q"]}},
        "rows": {
            "type": "array", "maxItems": 3,
            "items": {
                "type": "object",
                "required": ["deep"],
                "properties": {
                    "deep": {
                        "type": "object",
                        "required": ["n"],
                        "properties": {"n": {"type": "number", "exclusiveMinimum": 0}},
                    },
                    "name": {"type": "string"},
                },
            },
        },
        "flag": {"type": "boolean"},
        "flags": {"type": "array", "items": {"type": "boolean"}},
    },
}  # fmt: skip


def answer_to(text: str, number: int = 0) -> str:
    """What a simulated model without schema enforcement answers."""
    messages = [
        {"role": "system", "content": text},
        {"role": "user", "content": f"Document {number} of mine"},
    ]
    body = {"model": "llama-3.3-70b-versatile", "messages": messages}
    reply = Simulator().handle("/groq/openai/v1/chat/completions", body, {"authorization": "Bearer k"}, 0.0)
    assert reply.status == 200
    return str(orjson.loads(reply.body)["choices"][0]["message"]["content"])


@pytest.mark.parametrize("name", ["enrichment", "summarization", "classification", "extraction"])
def test_answers_to_the_outlines_of_the_built_in_tasks_fit(name: str) -> None:
    params = {"classification": {"labels": "a,b"}, "extraction": {"schema": str(LOANS)}}
    schema = load_task(name).spec(params.get(name, {})).schema
    text = f"Do it.\n\n{answer_format(schema)}\nMore words."
    validator = jsonschema_rs.validator_for(schema)
    for number in range(20):
        validator.validate(orjson.loads(answer_to(text, number)))


LOANS = Path(__file__).parents[3] / "examples" / "loan_agreements" / "fields.schema.json"


def test_everything_that_an_outline_can_say_is_heeded() -> None:
    text = answer_format(EVERYTHING)
    assert "Its fields, in this order" in text
    validator = jsonschema_rs.validator_for(EVERYTHING, validate_formats=True)
    for number in range(50):
        validator.validate(orjson.loads(answer_to(text, number)))


_CHOICES = st.one_of(st.text(max_size=8), st.integers(-(2**53), 2**53), st.none())
_SCALARS = st.one_of(
    st.builds(
        lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more},
        st.integers(0, 9), st.integers(0, 30),
    ),
    st.builds(
        lambda least, more: {"type": "integer", "minimum": least, "maximum": least + more},
        st.integers(-50, 50), st.integers(0, 50),
    ),
    st.sampled_from([{"type": "boolean"}, {"type": "number"}, {"type": "string", "format": "date"}]),
    st.lists(_CHOICES, min_size=1, max_size=4).map(lambda values: {"enum": values}),
)  # fmt: skip


def _objects(parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    fields = st.dictionaries(st.text(min_size=1, max_size=8), parts, min_size=1, max_size=4)
    return fields.map(lambda told: {"type": "object", "properties": told, "required": list(told)})


def _lists(parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    bounds = st.tuples(st.integers(0, 3), st.integers(0, 3))
    return st.builds(
        lambda items, span: {
            "type": "array", "items": items, "minItems": span[0], "maxItems": span[0] + span[1]
        },
        parts, bounds,
    )  # fmt: skip


@given(_objects(st.recursive(_SCALARS, lambda parts: _objects(parts) | _lists(parts), max_leaves=5)))
def test_answers_fit_whatever_the_outline_says(schema: dict[str, Any]) -> None:
    text = answer_format(schema)
    jsonschema_rs.validator_for(schema).validate(orjson.loads(answer_to(text)))


@pytest.mark.parametrize(
    "text",
    [
        "Say what it is about.",
        "Its fields, in this order:\nnone",
        'Its fields, in this order:\n    - "too": string\n    - "deep": string',
    ],
)
def test_what_is_no_outline_gets_plain_words(text: str) -> None:
    assert schema_of_outline(text) is None
    assert answer_to(text).startswith("An answer to")
