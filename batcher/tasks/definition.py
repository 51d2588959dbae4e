"""What a task author writes: one :class:`Task`, readable at a glance."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, cast

from pydantic import BaseModel

from batcher.errors import TaskError
from batcher.tasks.entry import Router, RouterSpec, Rule, entry_faults
from batcher.tasks.loading import user_code
from batcher.tasks.params import read_params
from batcher.tasks.schema import check_schema, inline, model_schema
from batcher.tasks.scorers import Judged, Score, Scorer, as_scorer, unknown_fields
from batcher.tasks.spec import TaskSpec, canonical_params
from batcher.tasks.stages import Stage, Step, stage_faults, step_faults

Output = type[BaseModel] | dict[str, Any]

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,47}")

MERGE_PROMPT: Final = (
    "A document was too long for one reading and was read in parts. You get the answers for its parts, in "
    "order. Make one answer for the whole document: keep what matters for the whole, remove repeats, and do "
    "not add anything that the parts do not say."
)
"""Used by tasks that merge long documents and bring no ``merge_prompt`` of their own."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A kind of work on one document.

    Attributes:
        name: lower-case letters, digits, ``_`` and ``-``.
        version: raise it when answers should be made anew though prompt and schema look the same.
        description: one line for ``batcher tasks list``.
        prompt: the instructions, in Jinja: a ``Path`` relative to task.py, or the text itself.
        output: a pydantic model; or a function of the parameters that returns one, or a JSON Schema.
        params: pydantic model of the parameters, or None. A field with ``exclude=True`` says where something
            was read, and is no part of a result's identity.
        scorer: a scorer, a mapping of field to scorer, or a function (expected, output) -> number.
        verifier: a function (text of the document, answer) -> number or bool that says how well an answer
            fits its document, without knowing the right one: from 0, surely wrong, to 1. A learned ladder
            weighs it. It is called in the worker for every answer, so it has to be quick.
        correct_at: the score from which an answer counts as correct.
        floor: the least share of correct answers that is good enough.
        tier: where the work starts.
        ladder: the tiers it may climb, cheapest first, ``tier`` among them; ``tier`` alone if left out.
        max_output_tokens: the output limit of a call. Money is reserved for all of it: keep it tight.
        typical_output_tokens: how long a usual answer is: what a plan goes by before there are known answers
            or a run. It is no limit, and no part of a result's identity.
        long_documents: ``merge`` (split, answer the parts, merge the answers) or ``reject``.
        merge_prompt: instructions of the merging call; a text of batcher's own if left out.
        temperature: None leaves the vendor's default.
        rubric: what makes an answer right or wrong, for whoever judges it: a ``Path`` or the text itself, in
            Jinja like the prompt. No part of a result's identity.
        judge: the tier or model that judges samples of the answers, or "none"; None: what the settings say.
        sample: the share of the answers that is drawn for checking; None: what the settings say.
        route: whether the cheapest model whose measured accuracy clears the floor does the work: jobs are
            then routed as with ``submit --floor``.
        before: the steps before this one, in order: what the last of them hands over is this one's document.
        entry: rules for where a document starts, before anything is asked: the first that fits counts. Of
            several steps they are for the first, as is ``router``.
        router: a cheap model that is asked where a document starts for which no rule decides.
        example: parameters, as on the command line, under which ``golden.jsonl`` holds.
        home: folder of task.py; filled in by ``load_task``.
        ref: what ``load_task`` found it by; filled in by ``load_task``.

    Raises:
        TaskError: if a value is out of its range.
    """

    name: str
    version: int | str
    prompt: Path | str = field(repr=False)
    output: type[BaseModel] | Callable[[Any], Output]
    scorer: Scorer | Mapping[str, Any] | Callable[[Any, Any], Any]
    description: str = ""
    params: type[BaseModel] | None = None
    verifier: Callable[[str, Any], float | bool] | None = None
    correct_at: float = 1.0
    floor: float = 0.8
    tier: str = "economy"
    ladder: tuple[str, ...] = ()
    max_output_tokens: int = 512
    typical_output_tokens: int | None = None
    long_documents: Literal["merge", "reject"] = "reject"
    merge_prompt: Path | str | None = field(default=None, repr=False)
    temperature: float | None = 0.0
    rubric: Path | str | None = field(default=None, repr=False)
    judge: str | None = None
    sample: float | None = None
    route: bool = False
    before: tuple[Stage, ...] = ()
    entry: tuple[Rule, ...] = ()
    router: Router | None = None
    example: Mapping[str, str] = field(default_factory=dict)
    home: Path | None = field(default=None, repr=False)
    ref: str = ""

    def __post_init__(self) -> None:
        if not self.ladder:
            object.__setattr__(self, "ladder", (self.tier,))
        object.__setattr__(self, "ladder", tuple(self.ladder))
        object.__setattr__(self, "before", tuple(self.before))
        object.__setattr__(self, "entry", tuple(self.entry))
        for wrong in self._faults():
            raise TaskError(f"Task {self.name!r}: {wrong}.")
        object.__setattr__(self, "scorer", as_scorer(self.scorer))
        if isinstance(self.output, type) and issubclass(self.output, BaseModel):
            self._check_scorer(self._schema(self.output))

    def _check_scorer(self, schema: Mapping[str, Any]) -> None:
        if unknown := unknown_fields(self.scorer, schema):
            raise TaskError(
                f"Task {self.name!r}: its scorer names fields that the answer does not have: "
                f"{', '.join(unknown)}. The answer's are: {', '.join(schema.get('properties', ()))}."
            )

    def _faults(self) -> list[str]:
        faults = {
            f"its name must fit {_NAME.pattern}": not _NAME.fullmatch(str(self.name)),
            f"floor {self.floor} is not between 0 and 1": not 0 <= self.floor <= 1,
            f"correct_at {self.correct_at} is not between 0 and 1": not 0 <= self.correct_at <= 1,
            f"sample {self.sample} is not between 0 and 1": self.sample is not None
            and not 0 <= self.sample <= 1,
            f"its verifier is {self.verifier!r}, not a function (text, answer) -> number": (
                self.verifier is not None and not callable(self.verifier)
            ),
        }
        own = [fault for fault, present in faults.items() if present]
        wrong = [*own, *step_faults(self), *stage_faults(self.before)]
        first = self.before[0] if self.before else self
        return wrong or entry_faults(self.entry, self.router, first.tier, first.ladder)

    def spec(
        self,
        params: Mapping[str, str] | None = None,
        *,
        tier: str | None = None,
        floor: float | None = None,
        max_output_tokens: int | None = None,
    ) -> TaskSpec:
        """The task, or its last step, with its parameters filled in, as a job stores it.

        Args:
            params: K=V strings of the command line; lists as ``a,b,c``, ``@file`` or JSON.
            tier: where to start instead; the ladder begins there, and ends there if it is not on it.
            floor: instead of the task's own.
            max_output_tokens: instead of the task's own.

        Raises:
            TaskError: naming the parameters that are wrong or missing, or the mistake in the task's files.
        """
        from batcher.tasks.prompts import render_prompt

        values = read_params(self.name, self.params, params or {})
        schema = self._schema(self._output(values))
        check_schema(schema)
        self._check_scorer(schema)
        names = values.model_dump() if values else {}
        start, ladder = _start(self, tier)
        merging = "" if self.long_documents == "reject" else self.merge_prompt or MERGE_PROMPT
        return TaskSpec(
            name=self.name,
            version=self.version,
            instructions=render_prompt(self.prompt, names, self.home),
            merge_instructions=render_prompt(merging, names, self.home) if merging else "",
            schema=schema,
            schema_name=self.name,
            params=canonical_params(values.model_dump(mode="json", by_alias=True)) if values else {},
            locators=_locators(values),
            max_output_tokens=max_output_tokens or self.max_output_tokens,
            temperature=self.temperature,
            tier=start,
            ladder=ladder,
            floor=self.floor if floor is None else floor,
            correct_at=self.correct_at,
            long_documents=self.long_documents,
            ref=self.ref or self.name,
            typical_output_tokens=self.typical_output_tokens,
            rubric=render_prompt(self.rubric, names, self.home) if self.rubric else "",
            judged=self.is_judged,
            entry=() if self.before else self.entry,
            router=None if self.before else self._router_spec(names),
        )

    def stage_specs(
        self, params: Mapping[str, str] | None = None, *, start: Callable[[str], str] = str
    ) -> tuple[TaskSpec, ...]:
        """The steps before the last with their parameters filled in, in order.

        Args:
            params: as :meth:`spec` takes them.
            start: where a step starts, by the tier that the task states for it.

        Raises:
            TaskError: naming the parameters that are wrong or missing, or the mistake in the task's files.
        """
        if not self.before:
            return ()
        values = read_params(self.name, self.params, params or {})
        return tuple(self._stage_spec(stage, values, start(stage.tier)) for stage in self.before)

    def _stage_spec(self, stage: Stage, values: BaseModel | None, tier: str) -> TaskSpec:
        from batcher.tasks.prompts import render_prompt

        schema = self._schema(self._made(stage.output, f"stage {stage.name!r} of task", values))
        check_schema(schema)
        names = values.model_dump() if values else {}
        start, ladder = _start(stage, tier)
        is_first = stage is self.before[0]
        merging = "" if stage.long_documents == "reject" else stage.merge_prompt or MERGE_PROMPT
        given = canonical_params(values.model_dump(mode="json", by_alias=True)) if values else {}
        return TaskSpec(
            name=f"{self.name}.{stage.name}",
            version=self.version if stage.version is None else stage.version,
            instructions=render_prompt(stage.prompt, names, self.home),
            merge_instructions=render_prompt(merging, names, self.home) if merging else "",
            schema=schema,
            schema_name=f"{self.name[:31]}-{stage.name}",
            # A parameter changes this step through its prompt and schema; one that only later steps read is
            # no reason to do it again.
            locators={**given, **_locators(values)},
            max_output_tokens=stage.max_output_tokens,
            temperature=stage.temperature,
            tier=start,
            ladder=ladder,
            floor=self.floor,
            correct_at=self.correct_at,
            long_documents=stage.long_documents,
            ref=self.ref or self.name,
            typical_output_tokens=stage.typical_output_tokens,
            stage=stage.name,
            hands_over=stage.hands_over,
            entry=self.entry if is_first else (),
            router=self._router_spec(names) if is_first else None,
        )

    def _router_spec(self, names: Mapping[str, Any]) -> RouterSpec | None:
        from batcher.tasks.prompts import render_prompt

        router = self.router
        if router is None:
            return None
        return RouterSpec(
            tier=router.tier,
            instructions=render_prompt(router.prompt, names, self.home),
            routes=dict(router.routes),
            max_output_tokens=router.max_output_tokens,
            read_tokens=router.read_tokens,
        )

    @property
    def is_judged(self) -> bool:
        """Whether a judge, and no function, holds its answers against the known ones."""
        return isinstance(self.scorer, Judged)

    @property
    def usual_judge(self) -> str | None:
        """The judge that the author asks for: the task's, or its scorer's; None: the settings decide."""
        return self.judge or (self.scorer.by if isinstance(self.scorer, Judged) else None)

    def score(self, expected: Any, output: Any) -> Score:
        """How right an answer is.

        Raises:
            TaskError: if the author's scorer raises or returns no number from 0 to 1.
        """
        with user_code(f"The scorer of task {self.name!r}", self.home):
            return as_scorer(self.scorer)(expected, output)

    def verify(self, text: str, answer: Any) -> float:
        """What the task's verifier says of an answer to a document, 0 to 1.

        Raises:
            TaskError: if there is none, it raises, or it returns no number from 0 to 1.
        """
        if self.verifier is None:
            raise TaskError(f"Task {self.name!r} has no verifier.")
        with user_code(f"The verifier of task {self.name!r}", self.home):
            said = self.verifier(text, answer)
            if not isinstance(said, (bool, int, float)) or not 0 <= said <= 1:
                told = f"The verifier of task {self.name!r} returned {said!r}"
                raise TaskError(f"{told}; it must return a number from 0 to 1, or a bool.")
        return float(said)

    def output_model(self, spec: TaskSpec) -> type[BaseModel] | None:
        """The pydantic model behind a stored job's schema, if this code still has it.

        None for tasks whose output is a bare schema, and when the author's code has changed since the job
        was submitted or is not on this machine: then the stored schema alone decides.
        """
        try:
            values = self.params.model_validate({**spec.params, **spec.locators}) if self.params else None
            output = self._output_of(spec.stage, values)
            same = isinstance(output, type) and self._schema(output) == spec.schema
        except (TaskError, ValueError):
            return None
        return output if same and isinstance(output, type) else None

    def _output(self, values: BaseModel | None) -> Output:
        return self._made(self.output, "task", values)

    def _output_of(self, stage_name: str, values: BaseModel | None) -> Output | None:
        """The output of a step by its name, "" for the last; None if there is no such step any more."""
        if not stage_name:
            return self._output(values)
        stage = next((stage for stage in self.before if stage.name == stage_name), None)
        return None if stage is None else self._made(stage.output, f"stage {stage_name!r} of task", values)

    def _made(self, output: Any, whose: str, values: BaseModel | None) -> Output:
        if isinstance(output, type) and issubclass(output, BaseModel):
            return output
        function = cast("Callable[[Any], Output]", output)
        with user_code(f"The output of {whose} {self.name!r}", self.home):
            made = function(values)
        if isinstance(made, dict) or (isinstance(made, type) and issubclass(made, BaseModel)):
            return made
        raise TaskError(
            f"The output of {whose} {self.name!r} is {made!r}, not a pydantic model or a JSON Schema."
        )

    def _schema(self, output: Output) -> dict[str, Any]:
        return canonical_params(inline(output) if isinstance(output, dict) else model_schema(output))


def _start(step: Step, tier: str | None) -> tuple[str, tuple[str, ...]]:
    """Where a step starts, and the ladder from there: it ends there if that is not on it."""
    start = tier or step.tier
    return start, step.ladder[step.ladder.index(start) :] if start in step.ladder else (start,)


def _locators(values: BaseModel | None) -> dict[str, Any]:
    """The parameters that the model leaves out of its dump, as JSON values by their public names."""
    from pydantic_core import to_jsonable_python

    if values is None:
        return {}
    return {
        info.alias or name: to_jsonable_python(getattr(values, name))
        for name, info in type(values).model_fields.items()
        if info.exclude
    }
