"""Steps before the last: a task may extract cheaply and judge well, each step with a tier of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from pydantic import BaseModel

from batcher.errors import TaskError

HandsOver = Literal["answer", "answer_and_document"]

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A step of a task before its last one, which is the task itself.

    Its answer is checked against its own schema, and is what the next step reads.

    Attributes:
        name: lower-case letters, digits and ``_``; its spend stands under ``TASK.NAME``.
        prompt: the instructions, in Jinja with the task's parameters: a ``Path`` relative to task.py, or the
            text itself.
        output: a pydantic model; or a function of the parameters that returns one, or a JSON Schema.
        hands_over: what the next step reads: ``answer``, as JSON; or ``answer_and_document``, the document as
            it was submitted beside it.
        version: raise it when answers should be made anew though prompt and schema look the same; the task's
            own if left out.
        tier: where the step's work starts.
        ladder: the tiers it may climb, cheapest first, ``tier`` among them; ``tier`` alone if left out.
        max_output_tokens: the output limit of a call. Money is reserved for all of it: keep it tight.
        typical_output_tokens: how long a usual answer is, for plans; no part of a result's identity.
        long_documents: ``merge`` (split, answer the parts, merge the answers) or ``reject``.
        merge_prompt: instructions of the merging call; a text of batcher's own if left out.
        temperature: None leaves the vendor's default.

    Raises:
        TaskError: if a value is out of its range.
    """

    name: str
    prompt: Path | str = field(repr=False)
    output: type[BaseModel] | Callable[[Any], type[BaseModel] | dict[str, Any]]
    hands_over: HandsOver = "answer"
    version: int | str | None = None
    tier: str = "economy"
    ladder: tuple[str, ...] = ()
    max_output_tokens: int = 512
    typical_output_tokens: int | None = None
    long_documents: Literal["merge", "reject"] = "reject"
    merge_prompt: Path | str | None = field(default=None, repr=False)
    temperature: float | None = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "ladder", tuple(self.ladder) or (self.tier,))
        faults = {
            f"its name must fit {_NAME.pattern}": not _NAME.fullmatch(str(self.name)),
            'hands_over must be "answer" or "answer_and_document"': self.hands_over
            not in ("answer", "answer_and_document"),
        }
        for wrong in [*(fault for fault, present in faults.items() if present), *step_faults(self)]:
            raise TaskError(f"Stage {self.name!r}: {wrong}.")


class Step(Protocol):
    """What the last step of a task and those before it have in common."""

    @property
    def tier(self) -> str:
        """Where its work starts."""

    @property
    def ladder(self) -> tuple[str, ...]:
        """The tiers that it may climb."""

    @property
    def max_output_tokens(self) -> int:
        """The output limit of a call."""

    @property
    def typical_output_tokens(self) -> int | None:
        """How long a usual answer is."""

    @property
    def long_documents(self) -> str:
        """What becomes of a document that is too long for one call."""

    @property
    def output(self) -> Any:
        """What makes the answer's schema."""


def step_faults(step: Step) -> list[str]:
    """What is wrong with a step, whatever its place in the task."""
    faults = {
        f"max_output_tokens {step.max_output_tokens} is not positive": step.max_output_tokens <= 0,
        f"typical_output_tokens {step.typical_output_tokens} is not from 1 to max_output_tokens": not (
            step.typical_output_tokens is None or 0 < step.typical_output_tokens <= step.max_output_tokens
        ),
        f"its ladder {step.ladder} does not hold its tier {step.tier!r}": step.tier not in step.ladder,
        f"its ladder {step.ladder} names a tier twice": len(set(step.ladder)) < len(step.ladder),
        'long_documents must be "merge" or "reject"': step.long_documents not in ("merge", "reject"),
        "output must be a pydantic model or a function that returns one": not callable(step.output),
    }
    return [fault for fault, present in faults.items() if present]


def stage_faults(stages: Sequence[Any]) -> list[str]:
    """What is wrong with the steps before the last, taken together."""
    if not all(isinstance(stage, Stage) for stage in stages):
        return ["before must hold Stage(...) objects"]
    names = [stage.name for stage in stages]
    return ["two of its stages have the same name"] if len(set(names)) < len(names) else []
