"""How long an answer is taken to be before there was one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.planning.answer_length import Length, length_of_known, length_of_schema
from batcher.simulator.answers import fitting_json
from batcher.tasks.golden import load_golden
from batcher.tasks.registry import load_task

ROOT = Path(__file__).resolve().parents[3]
LOANS = ROOT / "examples" / "loan_agreements"


def obj(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    file = folder / "golden.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_known_answers_count_as_they_would_be_written(tmp_path: Path) -> None:
    schema = obj(title={"type": "string"}, pages={"type": "integer"})
    golden = load_golden(
        write(
            tmp_path,
            {"id": "a", "text": "x", "expected": {"title": ["Rivers", "Of rivers"], "pages": 3}},
            {"id": "b", "text": "y", "expected": {"title": "On bridges and rivers", "pages": 12}},
        )
    )
    written = [b'{"title":"Rivers","pages":3}', b'{"title":"On bridges and rivers","pages":12}']
    found = length_of_known(golden, schema)
    assert found is not None
    assert found.typical == pytest.approx(sum(map(len, written)) / 2 / 4)
    assert found.least == len(written[0]) / 4
    assert found.answers == 2


def test_answers_that_are_parts_or_do_not_fit_tell_nothing(tmp_path: Path) -> None:
    schema = obj(label={"type": "string", "enum": ["red", "blue"]}, sure={"type": "boolean"})
    part = {"id": "a", "text": "x", "expected": {"label": "red"}}
    misfit = {"id": "b", "text": "y", "expected": {"label": "green", "sure": True}}
    assert length_of_known(load_golden(write(tmp_path, part, misfit)), schema) is None
    whole = {"id": "c", "text": "z", "expected": {"label": "blue", "sure": True}}
    found = length_of_known(load_golden(write(tmp_path, part, misfit, whole)), schema)
    assert found == Length(
        len(orjson.dumps(whole["expected"])) / 4, len(orjson.dumps(whole["expected"])) / 4, 1
    )


def test_a_large_golden_file_is_sampled_over_its_length(tmp_path: Path) -> None:
    rows = [
        {"id": str(n), "text": f"x {n}", "expected": {"title": "x" * (10 if n < 1000 else 30)}}
        for n in range(2000)
    ]
    found = length_of_known(load_golden(write(tmp_path, *rows)), obj(title={"type": "string"}))
    assert found is not None
    assert 100 < found.answers <= 200
    assert found.typical == pytest.approx((12 + 20) / 4, rel=0.02)


def test_the_guess_from_the_schema_is_near_what_people_wrote() -> None:
    spec = load_task("extraction").spec({"schema": str(LOANS / "fields.schema.json")})
    known = length_of_known(load_golden(LOANS / "golden.jsonl"), spec.schema)
    guess = length_of_schema(spec.schema)
    assert known is not None
    assert guess is not None
    assert known.answers == 20
    assert guess.typical == pytest.approx(known.typical, rel=0.15)
    assert guess.least < known.least


@pytest.mark.parametrize("name", ["enrichment", "summarization"])
def test_every_built_in_task_has_known_answers_that_tell(name: str) -> None:
    task = load_task(name)
    assert task.home is not None
    found = length_of_known(load_golden(task.home / "golden.jsonl"), task.spec({}).schema)
    assert found is not None
    assert 50 < found.typical < task.max_output_tokens


LEAF = st.sampled_from(
    [
        {"type": "string"},
        {"type": "string", "maxLength": 20, "minLength": 3},
        {"type": "string", "maxLength": 500},
        {"type": "string", "format": "date"},
        {"type": "integer", "minimum": 0, "maximum": 9},
        {"type": "number"},
        {"type": "boolean"},
        {"type": ["string", "null"], "maxLength": 10},
        {"enum": ["a", "bcd", 7]},
        {"const": "yes"},
        {"anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}]},
        {"type": "null"},
    ]
)
FIELD = st.recursive(
    LEAF,
    lambda inner: (
        st.builds(
            lambda item, most: {"type": "array", "items": item, "maxItems": most}, inner, st.integers(1, 6)
        )
        | st.dictionaries(st.sampled_from("abcd"), inner, min_size=1).map(lambda fields: obj(**fields))
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=8), FIELD, min_size=1, max_size=4), st.integers()
)
def test_a_short_answer_is_no_longer_than_any_that_fits(fields: dict[str, Any], seed: int) -> None:
    schema = obj(**fields)
    found = length_of_schema(schema)
    assert found is not None
    assert 1 <= found.least <= found.typical
    answer = fitting_json(schema, seed & 0xFFFF, "some words of a document", nulls=True)
    assert found.least <= max(1, len(answer) / 4)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        obj(part={"$ref": "#/$defs/Part"}),
        obj(part={"type": "array"}),
        obj(part={"type": "something"}),
        obj(part={"enum": []}),
    ],
)
def test_a_schema_that_does_not_tell_gives_no_guess(schema: dict[str, Any]) -> None:
    assert length_of_schema(schema) is None
