from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, field_validator

from batcher.errors import TaskError, UsageError
from batcher.tasks import Task, scorers
from batcher.tasks.params import describe_params, parse_assignments, read_params


class Params(BaseModel):
    labels: list[Annotated[str, Field(max_length=20)]] = Field(
        min_length=1, description="what to choose from"
    )
    count: int = Field(3, gt=0)
    tone: Literal["kind", "strict"] = "kind"
    note: str | None = None
    weights: dict[str, float] = Field(default_factory=dict)
    more: Annotated[list[int] | None, Field(alias="extra")] = None

    @field_validator("note")
    @classmethod
    def _no_bug(cls, note: str | None) -> str | None:
        if note == "bug":
            raise ZeroDivisionError("a bug of the author's")
        return note


def _read(**given: str) -> Any:
    return read_params("t", Params, given)


def test_words_become_values() -> None:
    params = _read(labels="a, b ,c,", count="7", tone="strict", note="x=y,z", weights='{"a": 1}', extra="1,2")
    assert params.labels == ["a", "b", "c"]
    assert (params.count, params.tone, params.note) == (7, "strict", "x=y,z")
    assert params.weights == {"a": 1.0}
    assert params.more == [1, 2]


def test_lists_come_from_json_and_from_files(tmp_path: Path) -> None:
    lines, array = tmp_path / "labels.txt", tmp_path / "labels.json"
    lines.write_text("\ufeffone, with a comma\n\n two \r\n", encoding="utf-8")
    array.write_text('["[x]", "y"]', encoding="utf-8")
    assert _read(labels=f"@{lines}").labels == ["one, with a comma", "two"]
    assert _read(labels=f"@{array}").labels == ["[x]", "y"]
    assert _read(labels='["a,b"]').labels == ["a,b"]
    array.write_text('{"a": 2}', encoding="utf-8")
    assert _read(labels="a", weights=f"@{array}").weights == {"a": 2.0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "--param labels=... is missing (what to choose from)"),
        ({"label": "a"}, "has no parameter 'label'; did you mean 'labels'?"),
        (
            {"labels": "a", "zzz": "1"},
            "has no parameter 'zzz' (it takes labels, count, tone, note, weights, extra)",
        ),
        ({"labels": "a", "count": "many"}, "--param count is wrong: Input should be a valid integer"),
        ({"labels": "a", "tone": "rude"}, "--param tone is wrong: Input should be 'kind' or 'strict'"),
        ({"labels": ""}, "--param labels is wrong"),
        ({"labels": "@/no/such/file"}, "/no/such/file cannot be read"),
        ({"labels": "[1"}, "--param labels is not JSON"),
        ({"labels": "a", "note": "bug"}, "ZeroDivisionError: a bug of the author's"),
        ({"labels": "x" * 30, "count": "0"}, "--param count is wrong"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, str], message: str) -> None:
    with pytest.raises(TaskError) as caught:
        _read(**given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_wrong_parameter_is_named_at_once() -> None:
    with pytest.raises(TaskError, match=r"labels=\.\.\. is missing.*count is wrong"):
        _read(count="0")


def test_a_task_without_parameters_takes_none() -> None:
    assert read_params("t", None, {}) is None
    with pytest.raises(TaskError, match=r"has no parameter 'a' \(it takes none\)"):
        read_params("t", None, {"a": "1"})


def test_assignments() -> None:
    assert parse_assignments(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    for words, message in ((["a"], "NAME=VALUE"), (["=1"], "NAME=VALUE"), (["a=1", "a=2"], "twice")):
        with pytest.raises(UsageError, match=message):
            parse_assignments(words)


def test_parameters_are_described_by_their_public_names() -> None:
    infos = {info.name: info for info in describe_params(Params)}
    assert list(infos) == ["labels", "count", "tone", "note", "weights", "extra"]
    assert infos["labels"].required
    assert infos["labels"].description == "what to choose from"
    assert [name for name, info in infos.items() if info.is_list] == ["labels", "extra"]
    assert infos["weights"].default == {}
    assert describe_params(None) == []


def test_the_prompt_sees_the_parameters_and_nothing_undefined() -> None:
    def task(prompt: str) -> Task:
        output = {"type": "object", "properties": {}, "additionalProperties": False}
        return Task(
            name="t",
            version=1,
            prompt=prompt,
            params=Params,
            output=lambda params: output,
            scorer=scorers.exact,
        )

    prompt = "{% for label in labels %}\n- {{ label }}\n{% endfor %}\nTone: {{ tone }}"
    assert task(prompt).spec({"labels": "<a>,b"}).instructions == "- <a>\n- b\nTone: kind"
    for wrong, message in (
        ("{{ labells }}", "labells"),
        ("{% if %}", "line 1"),
        ("{{ 1 / 0 }}", "division"),
        ("{{ ''.__class__.__mro__ }}", "unsafe|undefined|access"),
        ("  ", "empty"),
        ("{{ labels.append('x') }}", "unsafe|not safely|access"),
    ):
        with pytest.raises(TaskError, match=message):
            task(wrong).spec({"labels": "a"})
