from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.errors import TaskError
from batcher.tasks.entry import RouterSpec, Rule
from batcher.tasks.spec import TaskSpec

SPEC = TaskSpec(
    name="invoices",
    version=1,
    instructions="Read the invoice.",
    merge_instructions="Merge.",
    schema={"type": "object", "properties": {"zeta": {"type": "string"}, "alpha": {"type": "integer"}}},
    schema_name="invoices",
    params={"labels": ["a", "b"]},
    locators={"model": "a.py:A"},
    max_output_tokens=100,
    temperature=0.0,
    tier="economy",
    ladder=("economy", "premium"),
    floor=0.8,
    correct_at=1.0,
    long_documents="merge",
    ref="invoices",
)
SHAPING: dict[str, Any] = {
    "name": "bills",
    "version": 2,
    "instructions": "Read the bill.",
    "merge_instructions": "Merge them.",
    "schema": {"type": "object"},
    "params": {"labels": ["a"]},
    "max_output_tokens": 101,
    "temperature": 0.5,
    "long_documents": "reject",
}
NOT_SHAPING: dict[str, Any] = {
    "schema_name": "other",
    "locators": {"model": "b.py:A"},
    "tier": "premium",
    "ladder": ("premium",),
    "floor": 0.1,
    "correct_at": 0.5,
    "ref": "/elsewhere",
    "typical_output_tokens": 40,
    "rubric": "Right is what a lawyer would sign.",
    "judged": True,
    "stage": "extract",
    "hands_over": "answer",
    "entry": (Rule(tier="premium", min_tokens=6_000), Rule(tier="economy", language="de", matches="x+")),
    "router": RouterSpec("economy", "Is it hard?", {"yes": "premium", "no": "economy"}, 8, 1_000),
}
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FINITE | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    version=st.integers(0, 10**6) | st.text(),
    texts=st.tuples(st.text(), st.text(), st.text()),
    schema=st.dictionaries(st.text(), JSON, max_size=3),
    params=st.dictionaries(st.text(), JSON, max_size=3),
    ladder=st.lists(st.text(), min_size=1, max_size=3),
    temperature=st.none() | st.floats(0, 2),
)
def test_json_round_trip(
    version: int | str,
    texts: tuple[str, str, str],
    schema: dict[str, Any],
    params: dict[str, Any],
    ladder: list[str],
    temperature: float | None,
) -> None:
    name, instructions, merge = texts
    spec = replace(
        SPEC,
        name=name,
        version=version,
        instructions=instructions,
        merge_instructions=merge,
        schema=schema,
        params=params,
        ladder=tuple(ladder),
        temperature=temperature,
    )
    restored = TaskSpec.from_json(spec.to_json())
    assert restored == spec
    assert restored.fingerprint == spec.fingerprint
    assert hash(restored) == hash(spec)


def test_the_fields_of_the_schema_keep_their_order() -> None:
    assert list(TaskSpec.from_json(SPEC.to_json()).schema["properties"]) == ["zeta", "alpha"]


@pytest.mark.parametrize("field", SHAPING)
def test_the_fingerprint_changes_with_what_shapes_an_answer(field: str) -> None:
    assert replace(SPEC, **{field: SHAPING[field]}).fingerprint != SPEC.fingerprint


@pytest.mark.parametrize("field", NOT_SHAPING)
def test_the_fingerprint_does_not_change_with_the_rest(field: str) -> None:
    assert replace(SPEC, **{field: NOT_SHAPING[field]}).fingerprint == SPEC.fingerprint


def test_every_field_is_covered_by_the_two_tests_above() -> None:
    assert SHAPING.keys() | NOT_SHAPING.keys() == TaskSpec.__dataclass_fields__.keys()


def test_the_fingerprint_is_the_one_that_stored_results_carry() -> None:
    assert SPEC.fingerprint.hex() == "66fe28a0f3fbad10d473b8685cdd32b645fd21c9"
    assert len(SPEC.fingerprint) == 20


def test_equal_temperatures_are_equal() -> None:
    assert replace(SPEC, temperature=0).fingerprint == SPEC.fingerprint
    assert replace(SPEC, temperature=None).fingerprint != SPEC.fingerprint


def test_a_spec_of_a_newer_version_can_be_read() -> None:
    stored = {**orjson.loads(SPEC.to_json()), "added_later": True}
    assert TaskSpec.from_json(orjson.dumps(stored)) == SPEC


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"ladder": []}', "null"])
def test_what_is_no_spec_is_named(text: str) -> None:
    with pytest.raises(TaskError, match="stored task"):
        TaskSpec.from_json(text)
