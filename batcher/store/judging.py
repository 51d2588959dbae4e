"""Jobs whose answers are judged, and the judges' jobs under them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, or_, select, update

from batcher.domain import ItemStatus, JobState, Purpose
from batcher.store.job_items import cancel_pending
from batcher.store.jobs import Job, list_jobs_where, set_state
from batcher.store.tables import items, jobs

_LATELY_S: Final = 86_400.0
"""So long after its end a job's drawn answers are still looked after."""

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
