"""Jobs whose answers are judged, and the judges' jobs under them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import orjson
from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, update

from batcher.domain import ItemStatus, JobState, Purpose
from batcher.store.job_items import cancel_pending
from batcher.store.jobs import Job, list_jobs_where, set_state
from batcher.store.tables import items, jobs, samples

_LATELY_S: Final = 86_400.0
"""So long after its end a job's drawn answers are still looked after."""

_GOLDEN: Final = "golden"
"""By whom an answer is scored that is held against a known one, a judge's verdict on it included."""

REPLACED: Final = "its job's answers are judged anew"
"""The reason of a judge's job whose word is out of force: another judge, or rubric, took its place."""


def jobs_to_judge(connection: Connection, job_ids: Sequence[int] | None, now: float) -> list[Job]:
    """The jobs that are sampled, of these, and of those whose judges these are, oldest first.

    Args:
        connection: any transaction.
        job_ids: judged jobs or judges' own; None: all that run, ended within a day, or have a judge at work.
        now: Unix seconds.
    """
    judges = select(jobs.c.parent_id).where(jobs.c.purpose == Purpose.JUDGE.value)
    if job_ids is None:
        at_work = judges.where(jobs.c.state == JobState.RUNNING.value)
        active = or_(
            jobs.c.state.in_([JobState.RUNNING.value, JobState.INGESTING.value]),
            and_(jobs.c.state == JobState.DONE.value, jobs.c.finished_at > now - _LATELY_S),
            jobs.c.id.in_(at_work),
        )
        return list_jobs_where(connection, jobs.c.sampling.is_not(None), active)
    of_these = or_(jobs.c.id.in_(job_ids), jobs.c.id.in_(judges.where(jobs.c.id.in_(job_ids))))
    return list_jobs_where(connection, jobs.c.purpose != Purpose.JUDGE.value, of_these)


def is_judge_of(job_id: int) -> ColumnElement[bool]:
    """The condition that a row of ``jobs`` is that of a judge under a job, whose word is in force."""
    in_force = or_(jobs.c.reason.is_(None), jobs.c.reason != REPLACED)
    return and_(jobs.c.parent_id == job_id, jobs.c.purpose == Purpose.JUDGE.value, in_force)


def children_of(connection: Connection, job_id: int) -> list[Job]:
    """The judges' jobs under a job, oldest first."""
    return list_jobs_where(connection, is_judge_of(job_id))


def count_unjudged(connection: Connection, job_id: int) -> int:
    """How many of a golden job's answers lack a judge's verdict, where that is who scores them."""
    return _unjudged(connection, [job_id]).get(job_id, 0)


def partly_judged(connection: Connection, job_ids: Collection[int]) -> list[int]:
    """Those of these jobs that are golden and not judged to the end: what is judged is no fair sample."""
    return list(_unjudged(connection, job_ids))


def _unjudged(connection: Connection, job_ids: Collection[int]) -> dict[int, int]:
    """How many answers of golden jobs lack a judge's verdict, by job; without jobs that lack none."""
    query = (
        select(jobs.c.id, jobs.c.spec, func.count(items.c.result_key.distinct()).label("lacking"))
        .select_from(samples)
        .join(items, items.c.id == samples.c.item_id)
        .join(jobs, jobs.c.id == samples.c.job_id)
        .where(samples.c.job_id.in_(job_ids), samples.c.judged_by == _GOLDEN, samples.c.score.is_(None))
        .where(jobs.c.purpose == Purpose.GOLDEN.value, items.c.status == ItemStatus.DONE.value)
        # Within a staged job an earlier step may be done, which no judge looks at.
        .where(items.c.job_id == samples.c.job_id)
        .group_by(jobs.c.id, jobs.c.spec)
    )
    rows = connection.execute(query)
    return {row.id: row.lacking for row in rows if orjson.loads(row.spec).get("judged")}


def has_pending(connection: Connection, job_id: int) -> bool:
    """Whether any of a job's items waits."""
    query = select(items.c.id).where(items.c.job_id == job_id, items.c.status == ItemStatus.PENDING.value)
    return connection.execute(query.limit(1)).scalar() is not None


def replace_judges(connection: Connection, job_id: int, now: float) -> None:
    """Put the judges' jobs under a job out of force; what they cost stays booked."""
    for child in children_of(connection, job_id):
        if set_state(connection, child.id, JobState.CANCELLED, now):
            cancel_pending(connection, child.id)
        connection.execute(update(jobs).where(jobs.c.id == child.id).values(reason=REPLACED))


def set_judging(connection: Connection, job_id: int, spec: str, sampling: str) -> None:
    """Say by what rules a job's answers are judged, and by whom."""
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(spec=spec, sampling=sampling))
