"""``batcher tasks check``: everything about a task that can be wrong without calling a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from batcher.errors import BatcherError, TaskError, UnknownTaskError
from batcher.tasks.answers import AnswerParser, InvalidAnswerError
from batcher.tasks.definition import Task
from batcher.tasks.golden import Golden, load_golden
from batcher.tasks.registry import load_task
from batcher.tasks.schema import longest_answer
from batcher.tasks.spec import TaskSpec

CHARACTERS_PER_TOKEN: Final = 4
"""Typical of English in byte-pair vocabularies (OpenAI's rule of thumb); for a plausibility check only."""

GOLDEN_FILE: Final = "golden.jsonl"
_LEAST_VERIFIED: Final = 0.5
_ODD_ANSWERS: Final[tuple[Any, ...]] = ({}, None, "", [], 0)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a task that is wrong, or likely to become so.

    Attributes:
        level: an ``error`` makes the task unusable or its scores wrong; a ``warning`` does not.
        message: what it is and what to do.
    """

    level: Literal["error", "warning"]
    message: str


def check_task(ref: str, params: Mapping[str, str] | None = None) -> list[Finding]:
    """Loads a task and looks at its prompt, schema, limits, golden rows and scorer.

    Args:
        ref: what ``load_task`` takes.
        params: as on the command line; the task's own example if left out.

    Returns:
        What was found, errors first; empty if all is well.

    Raises:
        UnknownTaskError: if there is no such task.
    """
    try:
        task = load_task(ref)
        given = dict(params) if params else dict(task.example)
        spec = task.spec(given)
        stages = task.stage_specs(given)
    except UnknownTaskError:
        raise
    except BatcherError as error:
        return [Finding("error", str(error))]
    findings = [*_schema_findings(spec), *_limit_findings(spec), *_golden_findings(task, spec, given)]
    findings += _entry_findings(task)
    for stage in stages:
        own = [*_schema_findings(stage), *_limit_findings(stage)]
        findings += [replace(found, message=f"stage {stage.stage}: {found.message}") for found in own]
    return sorted(findings, key=lambda finding: finding.level != "error")


def _schema_findings(spec: TaskSpec) -> Iterator[Finding]:
    _, unbounded = longest_answer(spec.schema)
    for place in unbounded:
        yield Finding(
            "warning",
            f"{place} has no bound (max_length, closed fields): a small model may write until it is cut off.",
        )


def _limit_findings(spec: TaskSpec) -> Iterator[Finding]:
    longest, unbounded = longest_answer(spec.schema)
    tokens = -(-longest // CHARACTERS_PER_TOKEN)
    if not unbounded and tokens > spec.max_output_tokens:
        yield Finding(
            "warning",
            f"The longest answer that fits the schema takes about {tokens} tokens, max_output_tokens is "
            f"{spec.max_output_tokens}: tighten the schema's bounds or raise the limit.",
        )


def _entry_findings(task: Task) -> Iterator[Finding]:
    """Rules that never decide, because one before them fits whatever they fit."""
    for place, rule in enumerate(task.entry):
        earlier = next((one for one in task.entry[:place] if one.covers(rule)), None)
        if earlier is not None:
            yield Finding(
                "warning",
                f"The rule {rule.describe()!r} never decides: {earlier.describe()!r} stands before it.",
            )


def _golden_findings(task: Task, spec: TaskSpec, given: Mapping[str, str]) -> Iterator[Finding]:
    path = (task.home or Path()) / GOLDEN_FILE
    if not path.is_file():
        yield Finding("warning", f"There is no {path}: without known answers accuracy cannot be measured.")
        return
    try:
        golden = load_golden(path)
    except BatcherError as error:
        yield Finding("error", str(error))
        return
    yield from _row_findings(task, spec, golden, fits=given == dict(task.example))


def _row_findings(task: Task, spec: TaskSpec, golden: Golden, *, fits: bool) -> Iterator[Finding]:
    """Findings on each row; ``fits`` says whether the rows were written for these parameters."""
    whole = AnswerParser(spec, task)
    partial = AnswerParser(replace(spec, schema={**spec.schema, "required": []}))

    def is_whole(known: dict[str, Any]) -> bool:
        return known.keys() >= set(spec.schema.get("required", ()))

    for row in golden.rows:
        place = f"{golden.path}, line {row.line}"
        if fits:
            known = row.expected if isinstance(row.expected, dict) else {}
            parser = whole if is_whole(known) else partial
            yield from _fit_findings(parser, single_values(row.expected, spec.schema), place)
            if row.text and is_whole(known):
                yield from _verifier_findings(task, row.text, single_values(known, spec.schema), place)
        if task.is_judged:
            continue
        try:
            own = task.score(row.expected, row.expected)
            for odd in _ODD_ANSWERS:
                task.score(row.expected, odd)
        except BatcherError as error:
            yield Finding("error", f"{place}: {error}")
            continue
        if own.value < 1:
            yield Finding("error", f"{place}: the scorer gives the right answer itself {own.value:g}, not 1.")


def try_scorer(task: Task, golden: Golden) -> list[str]:
    """Try a task's scorer on known answers alone, before answers to hold against them are paid for.

    Returns:
        The rows whose right answer itself does not count as correct, and what it scores.

    Raises:
        TaskError: naming the row, if the scorer raises or returns no number from 0 to 1: of the right answer
            held against itself, or against that of the next row.
    """
    if task.is_judged:
        return []
    wrong = []
    for row, other in zip(golden.rows, (*golden.rows[1:], golden.rows[0]), strict=True):
        try:
            own = task.score(row.expected, row.expected)
            task.score(row.expected, other.expected)
        except TaskError as error:
            raise TaskError(f"{golden.path}, line {row.line}: {error}") from error
        if own.value < task.correct_at:
            wrong.append(f"line {row.line}: {own.value:g}")
    return wrong


def _verifier_findings(task: Task, text: str, expected: Any, place: str) -> Iterator[Finding]:
    if task.verifier is None:
        return
    try:
        said = task.verify(text, expected)
    except BatcherError as error:
        yield Finding("error", f"{place}: {error}")
        return
    if said < _LEAST_VERIFIED:
        yield Finding("warning", f"{place}: the verifier gives the right answer only {said:g}.")


def _fit_findings(parser: AnswerParser, expected: Any, place: str) -> Iterator[Finding]:
    try:
        parser.parse(orjson.dumps(expected).decode())
    except InvalidAnswerError as error:
        yield Finding("error", f"{place}: the expected answer does not fit the schema: {error.reason}")


def single_values(expected: Any, schema: Mapping[str, Any]) -> Any:
    """A right answer without the lists around single values that corpora of extracted fields have."""
    if not isinstance(expected, dict):
        return expected
    lists = {name for name, part in schema.get("properties", {}).items() if part.get("type") == "array"}
    return {
        name: value[0] if name not in lists and isinstance(value, list) and len(value) == 1 else value
        for name, value in expected.items()
    }
