from __future__ import annotations

import time
from contextlib import suppress
from datetime import date
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator

from batcher.errors import TaskError
from batcher.tasks import Task, scorers
from batcher.tasks.answers import AnswerParser, InvalidAnswerError
from batcher.tasks.spec import TaskSpec


class Answer(BaseModel):
    label: str = Field(max_length=10)
    tags: list[str] = Field(max_length=3)


class Strict(BaseModel):
    code: str = Field(max_length=10)
    day: date

    @field_validator("code")
    @classmethod
    def _upper(cls, code: str) -> str:
        if code == "boom":
            raise KeyError("a bug of the author's")
        if code.startswith("x"):
            raise ValueError("codes do not start with x")
        return code.upper()


def _task(output: Any) -> Task:
    return Task(name="t", version=1, prompt="Do it.", output=output, scorer=scorers.exact)


def _any_schema(schema: dict[str, Any]) -> TaskSpec:
    return TaskSpec("t", 1, "", schema, "t", 10, "economy", ("economy",), 0.8, 1.0)


PARSER = AnswerParser(_task(Answer).spec())
OPEN = AnswerParser(_any_schema({}))
RIGHT = {"label": "a", "tags": ["x"]}
TEXT = '{"label": "a", "tags": ["x"]}'


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"\ufeff{TEXT}",
        f" \n{TEXT}\n\n",
        f"```json\n{TEXT}\n```",
        f"```\n{TEXT}```",
        f"Sure! Here is the answer:\n{TEXT}\nLet me know [if] you need more.",
        f'<think>Maybe {{"label": "b", "tags": []}}?</think>\n{TEXT}',
        f"{TEXT}\n{TEXT}",
        f"As asked by {{name}}: {TEXT}",
        f"{TEXT}\x00\x00",
        f'{TEXT} {{"note": "done"}}',
        f'He said "hi" and [1], then: {TEXT}',
    ],
)
def test_what_stands_around_an_answer_is_passed_over(text: str) -> None:
    assert PARSER.parse(text) == RIGHT


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("I cannot help with that.", "not JSON"),
        ('{"label": "a", "tags": ["x"', "not JSON"),
        ('{"label": NaN, "tags": []}', "not JSON"),
        ('{"label": "a", "tags": [1e999]}', "not JSON"),
        ('{"label": "\\ud800", "tags": []}', "not JSON"),
        ('{"label": "\ud800", "tags": []}', "not JSON"),
        ('{"label": "a"}', '"tags" is a required property'),
        ('{"label": "a", "tags": [], "more": 1}', "more"),
        ('{"label": 1, "tags": []}', "label: 1 is not of type"),
        ('{"label": "a", "tags": ["x", 2]}', "tags[1]: 2 is not of type"),
        ('{"label": "a", "tags": [1, 2, 3, 4, 5, 6]}', "tags"),
        ("[]", "is not of type"),
        ('"{}"', "is not of type"),
        (TEXT + '{"label": "b", "tags": []}', "2 different answers"),
        ("Mind the {" + TEXT, "not JSON"),
        ("`{'label': 'a', 'tags': []}`", "not JSON"),
    ],
)
def test_a_wrong_answer_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidAnswerError) as caught:
        PARSER.parse(text)
    assert reason in caught.value.reason


def test_nothing_is_picked_out_of_a_truncated_answer() -> None:
    inner_fits = AnswerParser(_any_schema({"type": "object"}))
    with pytest.raises(InvalidAnswerError, match="not JSON"):
        inner_fits.parse('Here: {"entities": {"people": []}, "topics": ["a", "b')


def test_the_reason_is_one_short_line_that_can_be_stored() -> None:
    with pytest.raises(InvalidAnswerError) as caught:
        PARSER.parse(orjson.dumps({"label": "line\nbreak" * 5_000, "tags": ["é\n"] * 900}).decode())
    assert len(caught.value.reason) <= 400
    assert "\n" not in caught.value.reason
    assert "label: maxLength 10" in caught.value.reason
    assert InvalidAnswerError("a \ud800 b").reason == "a ? b"


@given(st.text() | st.text(alphabet='{}[]",:\\ab1 \n`', max_size=60))
def test_no_text_raises_anything_else(text: str) -> None:
    for parser in (PARSER, OPEN):
        with suppress(InvalidAnswerError):
            value = parser.parse(text)
            assert orjson.loads(orjson.dumps(value)) == value


@given(st.text(alphabet=st.characters(), max_size=40))
def test_texts_with_lone_surrogates_raise_nothing_else(text: str) -> None:
    with pytest.raises(InvalidAnswerError):
        PARSER.parse(f"{text}\udfff")


@pytest.mark.parametrize("depth", [250, 255, 300, 1_100, 100_000])
def test_deep_nesting_is_refused_or_can_be_stored(depth: int) -> None:
    for text in ("[" * depth + "]" * depth, "x " + '{"a":' * depth + "1" + "}" * depth):
        with suppress(InvalidAnswerError):
            assert orjson.dumps(OPEN.parse(text))


@pytest.mark.parametrize("text", ["{" * 50_000, '{"\\"' + '\\"' * 50_000, "{}x" * 30_000, '{"' * 30_000])
def test_garbage_takes_no_long_time(text: str) -> None:
    started = time.process_time()
    with pytest.raises(InvalidAnswerError):
        PARSER.parse(text)
    assert time.process_time() - started < 1.0


def test_an_ordinary_answer_takes_under_30_microseconds() -> None:
    started = time.process_time()
    for _ in range(20_000):
        PARSER.parse(TEXT)
    assert (time.process_time() - started) / 20_000 < 30e-6


def test_the_models_validators_run_where_the_code_is_at_hand() -> None:
    task = _task(Strict)
    spec = TaskSpec.from_json(task.spec().to_json())
    parser = AnswerParser(spec, task)
    assert parser.parse('{"code": "ab", "day": "2025-01-31"}') == {"code": "AB", "day": "2025-01-31"}
    with pytest.raises(InvalidAnswerError, match="code: codes do not start with x"):
        parser.parse('{"code": "xy", "day": "2025-01-31"}')
    with pytest.raises(InvalidAnswerError, match="a validator failed: KeyError"):
        parser.parse('{"code": "boom", "day": "2025-01-31"}')
    assert AnswerParser(spec).parse('{"code": "ab", "day": "2025-01-31"}')["code"] == "ab"


def test_formats_are_checked() -> None:
    with pytest.raises(InvalidAnswerError, match="day"):
        AnswerParser(_task(Strict).spec()).parse('{"code": "ab", "day": "yesterday"}')


def test_a_model_that_changed_since_the_job_was_submitted_is_left_out() -> None:
    parser = AnswerParser(_task(Answer).spec(), _task(Strict))
    assert parser.parse(TEXT) == RIGHT


def test_a_stored_schema_that_cannot_be_compiled_is_named() -> None:
    with pytest.raises(TaskError, match="schema of task 't'"):
        AnswerParser(_any_schema({"type": "strin"}))
    with pytest.raises(TaskError, match="schema of task 't'"):
        AnswerParser(_any_schema({"$ref": "http://127.0.0.1:9/x"}))
