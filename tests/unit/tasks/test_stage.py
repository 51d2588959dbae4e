"""What an author says of a task's stages, and what that makes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, field_validator

from batcher.tasks import Stage, Task, TaskError, scorers
from batcher.tasks.answers import AnswerParser, InvalidAnswerError
from batcher.tasks.checking import check_task
from batcher.tasks.spec import TaskSpec


class Params(BaseModel):
    tone: str = "plain"
    field: str = "fact"


class Facts(BaseModel):
    fact: str = Field(max_length=20)

    @field_validator("fact")
    @classmethod
    def _no_shouting(cls, value: str) -> str:
        if value.isupper():
            raise ValueError("do not shout")
        return value


class Verdict(BaseModel):
    label: str = Field(max_length=20)


EXTRACT = Stage(name="extract", prompt="Extract it {{ tone }}.", output=Facts, tier="economy")


def make(*before: Stage, **changes: Any) -> Task:
    given: dict[str, Any] = {
        "name": "staged",
        "version": 3,
        "params": Params,
        "before": before,
        "prompt": "Judge it.",
        "output": Verdict,
        "scorer": scorers.exact,
        "tier": "premium",
        "ladder": ("standard", "premium"),
    }
    return Task(**{**given, **changes})


def only(task: Task, **params: str) -> TaskSpec:
    [spec] = task.stage_specs(params)
    return spec


def test_a_stage_is_a_spec_of_its_own() -> None:
    spec = only(make(EXTRACT), tone="dry")
    assert (spec.name, spec.task, spec.stage, spec.hands_over) == (
        "staged.extract",
        "staged",
        "extract",
        "answer",
    )
    assert (spec.instructions, spec.version, spec.tier, spec.ladder) == (
        "Extract it dry.",
        3,
        "economy",
        ("economy",),
    )
    assert list(spec.schema["properties"]) == ["fact"]
    assert TaskSpec.from_json(spec.to_json()) == spec


def test_the_last_step_is_the_task_itself_and_a_task_without_stages_is_as_it_was() -> None:
    assert make(EXTRACT).spec().fingerprint == make().spec().fingerprint
    assert make().stage_specs() == ()
    assert (make(EXTRACT).spec().stage, make(EXTRACT).spec().hands_over) == ("", "")


def test_where_each_stage_starts_can_be_said_for_all_of_them() -> None:
    wide = replace(EXTRACT, tier="economy", ladder=("economy", "standard", "premium"))
    [spec] = make(wide).stage_specs(start=lambda own: "standard" if own == "economy" else own)
    assert (spec.tier, spec.ladder) == ("standard", ("standard", "premium"))


@pytest.mark.parametrize(
    "changed",
    [
        replace(EXTRACT, prompt="Extract all."),
        replace(EXTRACT, output=Verdict),
        replace(EXTRACT, max_output_tokens=99),
        replace(EXTRACT, version=4),
        replace(EXTRACT, temperature=None),
        replace(EXTRACT, name="other"),
    ],
)
def test_a_changed_stage_is_another_one(changed: Stage) -> None:
    assert only(make(changed)).fingerprint != only(make(EXTRACT)).fingerprint


def test_a_stage_stays_the_same_while_only_later_ones_change() -> None:
    before = only(make(EXTRACT))
    later = make(EXTRACT, prompt="Judge it {{ field }}.", output=Facts)
    assert only(later, field="new").fingerprint == before.fingerprint
    assert only(later, tone="dry").fingerprint != before.fingerprint, "its own prompt holds the tone"
    own_version = replace(EXTRACT, version=1)
    assert only(make(own_version, version=3)).fingerprint == only(make(own_version, version=4)).fingerprint, (
        "a version of its own"
    )


def test_validators_of_a_stages_model_run_and_only_its_own() -> None:
    task = make(EXTRACT)
    spec = only(task)
    assert AnswerParser(spec, task).parse('{"fact": "it rains"}') == {"fact": "it rains"}
    with pytest.raises(InvalidAnswerError, match="do not shout"):
        AnswerParser(spec, task).parse('{"fact": "RAIN"}')
    assert task.output_model(spec) is Facts
    assert task.output_model(task.spec()) is Verdict
    assert make().output_model(spec) is None, "the stage is gone from the code"


def test_a_stages_output_may_be_a_function_of_the_parameters() -> None:
    def schema(params: Params) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {params.field: {"type": "string"}},
            "required": [params.field],
            "additionalProperties": False,
        }

    task = make(replace(EXTRACT, output=schema))
    assert list(only(task, field="amount").schema["properties"]) == ["amount"]
    assert only(task, field="amount").fingerprint != only(task, field="date").fingerprint


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "Extract"}, "its name must fit"),
        ({"name": "a.b"}, "its name must fit"),
        ({"hands_over": "everything"}, "hands_over must be"),
        ({"max_output_tokens": 0}, "max_output_tokens 0 is not positive"),
        ({"typical_output_tokens": 9_999}, "typical_output_tokens 9999"),
        ({"ladder": ("premium",)}, "does not hold its tier"),
        ({"ladder": ("economy", "economy")}, "names a tier twice"),
        ({"long_documents": "cut"}, "long_documents must be"),
        ({"output": {"type": "object"}}, "output must be"),
    ],
)
def test_a_stage_out_of_its_range_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(TaskError, match=f"Stage .*{told}"):
        replace(EXTRACT, **changes)


def test_two_stages_of_one_name_and_what_is_no_stage_are_refused() -> None:
    with pytest.raises(TaskError, match="the same name"):
        make(EXTRACT, EXTRACT)
    with pytest.raises(TaskError, match="must hold Stage"):
        make("extract")  # type: ignore[arg-type]


def test_a_prompt_of_a_stage_names_a_parameter_that_is_not_there() -> None:
    with pytest.raises(TaskError, match="nowhere"):
        make(replace(EXTRACT, prompt="{{ nowhere }}")).stage_specs()


def test_the_name_of_a_stages_schema_is_one_that_every_vendor_takes() -> None:
    spec = only(make(replace(EXTRACT, name="e" * 32), name="n" * 48))
    assert len(spec.schema_name) <= 64
    assert "." not in spec.schema_name


def test_the_example_is_in_order_and_check_looks_at_its_stages(tmp_path: Path) -> None:
    example = Path(__file__).resolve().parents[3] / "examples" / "compliance"
    assert check_task(str(example)) == []
    for file in example.iterdir():
        if file.is_file():
            text = file.read_text().replace("max_length=4, description=", "description=")
            (tmp_path / file.name).write_text(text)
    found = check_task(str(tmp_path))
    assert found
    assert all(one.message.startswith("stage extract: ") for one in found)
