"""How often models were right on a task, by what was scored of their answers in any of its jobs.

What counts is the answer that came of asking a model first, whoever gave it in the end: a document that
climbed says something of the model that it started on, as it is that one which the router chooses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, and_, case, func, not_, select

from batcher.domain import FailureClass, ItemStatus, Purpose
from batcher.errors import TaskError
from batcher.routing.choice import Scored
from batcher.routing.state import Routing
from batcher.store.judging import partly_judged
from batcher.store.tables import attempts, items, jobs, samples
from batcher.tasks.spec import TaskSpec

MOST_JOBS: Final = 50
"""Only the newest jobs of a task are looked at."""

_FIRST: Final = (Purpose.ANSWER.value, Purpose.GOLDEN.value)

_NOT_THE_MODELS_FAULT: Final = (
    FailureClass.RATE_LIMITED.value,
    FailureClass.OVERLOADED.value,
    FailureClass.TRANSIENT.value,
    FailureClass.UNKNOWN_OUTCOME.value,
    FailureClass.ACCOUNT.value,
)
"""A document that failed so says nothing of the model."""

_PERSON, _KNOWN, _JUDGE = range(3)
"""Whose word counts where several have looked at an answer, first of all a person's."""


def jobs_of_task(connection: Connection, spec: TaskSpec, *, judging: bool = False) -> list[int]:
    """The newest jobs with a task's fingerprint: of the task as it now is, of one of its steps, or of judges.

    Args:
        connection: any transaction.
        spec: the task.
        judging: whether it is a judge's; their jobs stand under the name of the task that they judge.
    """
    is_judges = jobs.c.purpose == Purpose.JUDGE.value
    query = (
        select(jobs.c.id, jobs.c.spec)
        .where(jobs.c.task == spec.task, is_judges if judging else ~is_judges)
        .order_by(jobs.c.id.desc())
        .limit(MOST_JOBS)
    )
    return [row.id for row in connection.execute(query) if _is_of(row.spec, spec.fingerprint)]


def read_scores(connection: Connection, job_ids: Sequence[int]) -> dict[str, Scored]:
    """How often each model was right in these jobs.

    Every document counts once for a model, however often it was answered or looked at; a person's word counts
    before a known answer, that before a judge's, and the latest of a kind. Within one model answers are
    drawn whatever they say, so that each counts alike. Golden jobs that are judged in part count for nothing:
    a verdict is shared by models that gave the same answer, so that mostly right ones are judged first.
    """
    partly = set(partly_judged(connection, job_ids))
    job_ids = [job_id for job_id in job_ids if job_id not in partly]
    best: dict[tuple[str, bytes], tuple[Any, ...]] = {}
    for row in connection.execute(_looked_at(job_ids)):
        rank = (-row.rank, row.judged_at or 0.0, row.item_id)
        key = (row.model, row.result_key)
        if key not in best or rank > best[key][0]:
            best[key] = (rank, bool(row.correct), row.rank == _JUDGE)
    return _summed((model, correct, by_judge) for (model, _), (_, correct, by_judge) in best.items())


def proven_before(connection: Connection, job_ids: Sequence[int], floor: float) -> tuple[str, ...]:
    """The models that one of these jobs has shown to reach this floor or a higher one, newest last."""
    query = select(jobs.c.routing).where(jobs.c.id.in_(job_ids), jobs.c.routing.is_not(None))
    found: dict[str, None] = {}
    for stored in connection.execute(query.order_by(jobs.c.id)).scalars():
        routing = Routing.from_json(stored)
        if routing.floor >= floor:
            found |= dict.fromkeys(routing.proven)
        if routing.floor <= floor:
            found = {name: None for name in found if name not in routing.refuted}
    return tuple(found)


def count_known(connection: Connection, job_id: int) -> dict[str, int]:
    """How many of a job's documents with a known answer each model was asked about first."""
    query = (
        select(_ENTRY.c.model, func.count())
        .select_from(samples.join(items, items.c.id == samples.c.item_id))
        .join(_ENTRY, _ENTRY.c.id == _entry_id(items.c.id))
        .where(samples.c.job_id == job_id, samples.c.judged_by == "golden")
        .group_by(_ENTRY.c.model)
    )
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def _is_of(stored: str, fingerprint: bytes) -> bool:
    try:
        return TaskSpec.from_json(stored).fingerprint == fingerprint
    except TaskError:
        return False


def _summed(found: Iterable[tuple[str, bool, bool]]) -> dict[str, Scored]:
    sums: dict[str, list[int]] = {}
    for model, correct, by_judge in found:
        counts = sums.setdefault(model, [0, 0, 0])
        counts[0] += correct
        counts[1] += 1
        counts[2] += by_judge
    return {model: Scored(*counts) for model, counts in sums.items()}


_ENTRY: Final = attempts.alias("entry")
_ANSWER: Final = attempts.alias("answer")
_ASKED: Final = attempts.alias("asked")


def _entry_id(item_id: Any) -> Any:
    """The last call that asked for an item's answer before it climbed."""
    return (
        select(func.max(_ASKED.c.id))
        .where(_ASKED.c.item_id == item_id, _ASKED.c.purpose.in_(_FIRST))
        .scalar_subquery()
    )


def _looked_at(job_ids: Sequence[int]) -> Any:
    origin = func.coalesce(_ANSWER.c.item_id, items.c.id)
    model = func.coalesce(_ENTRY.c.model, jobs.c.pinned_model)
    rank = case(
        (samples.c.judged_by.startswith("person:"), _PERSON),
        (samples.c.judged_by == "golden", _KNOWN),
        else_=_JUDGE,
    )
    excused = and_(items.c.status == ItemStatus.FAILED.value, items.c.error_class.in_(_NOT_THE_MODELS_FAULT))
    return (
        select(
            model.label("model"),
            items.c.result_key,
            samples.c.item_id,
            samples.c.correct,
            samples.c.judged_at,
            rank.label("rank"),
        )
        .select_from(samples.join(items, items.c.id == samples.c.item_id))
        .join(jobs, jobs.c.id == samples.c.job_id)
        .outerjoin(_ANSWER, _ANSWER.c.id == items.c.result_id)
        .outerjoin(_ENTRY, _ENTRY.c.id == _entry_id(origin))
        .where(samples.c.job_id.in_(job_ids), samples.c.score.is_not(None))
        .where(model.is_not(None), not_(excused))
    )
