"""The steps of a staged job: its earlier ones are jobs of their own under it, and go where it goes.

A step's done items are handed over to the next one: they become items there. What was handed over has its
``ready_at`` at -1, which a done item has no other use for, so that the queue's index finds the rest at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, bindparam, exists, func, not_, select, update

from batcher.domain import JOB_TRANSITIONS, ItemStatus, JobState, Purpose
from batcher.store.tables import items, jobs
from batcher.store.transitions import sources_of

HANDED_OVER: Final = -1.0
"""The ``ready_at`` of a done item that the next step has taken."""

OPEN_STATUSES: Final = (ItemStatus.PENDING.value, ItemStatus.LEASED.value)
_ENDED: Final = (JobState.DONE.value, JobState.CANCELLED.value)


def is_stage() -> ColumnElement[bool]:
    """Whether a row of ``jobs`` is an earlier step of another job."""
    return jobs.c.parent_id.is_not(None) & (jobs.c.purpose != Purpose.JUDGE.value)


def stage_ids(connection: Connection, job_id: int) -> list[int]:
    """The jobs of a job's earlier steps, first step first; empty for a job of one step."""
    return [row.id for row in _stages(connection, job_id)]


def step_ids(connection: Connection, job_id: int) -> list[int]:
    """The jobs of all steps of a job, in order: the last is the job itself."""
    return [*stage_ids(connection, job_id), job_id]


def stages_under(connection: Connection, job_ids: Iterable[int]) -> dict[int, list[int]]:
    """The jobs of the earlier steps of those of these jobs that have any, first step first."""
    query = select(jobs.c.id, jobs.c.parent_id).where(is_stage(), jobs.c.parent_id.in_(list(job_ids)))
    found: dict[int, list[int]] = {}
    for row in connection.execute(query.order_by(jobs.c.id)):
        found.setdefault(row.parent_id, []).append(row.id)
    return found


def submitted_hash() -> ColumnElement[Any]:
    """The document that a row of ``items`` came from: the one that its first step read, as it was submitted.

    For statements on few items that look the document up by it; for a job of one step it is the item's own.
    """
    first, stage = items.alias("first_item"), jobs.alias("first_stage")
    first_stage = (
        select(func.min(stage.c.id))
        .where(stage.c.parent_id == items.c.job_id, stage.c.purpose != Purpose.JUDGE.value)
        .correlate(items)
        .scalar_subquery()
    )
    submitted = (
        select(first.c.document_hash)
        .where(first.c.job_id == first_stage, first.c.source == items.c.source)
        .correlate(items)
        .scalar_subquery()
    )
    return func.coalesce(submitted, items.c.document_hash)


def has_open_items(job_id: Any) -> ColumnElement[bool]:
    """Whether any item of a job is pending or leased."""
    return exists().where(items.c.job_id == job_id, items.c.status.in_(OPEN_STATUSES))


def has_unhanded(connection: Connection, stage_id: int) -> bool:
    """Whether a step has answers that the next one has not taken: a step through the index for each tier."""
    return any(
        connection.execute(_UNHANDED, {"b_job": stage_id, "b_tier": tier}).scalar() is not None
        for tier in done_tiers(connection, stage_id)
    )


def done_tiers(connection: Connection, job_id: int) -> list[str]:
    """The tiers on which items of a job were done, by name."""
    tiers: list[str] = []
    wanted = {"b_job": job_id, "b_after": ""}
    while (tier := connection.execute(_DONE_TIER_AFTER, wanted).scalar_one()) is not None:
        tiers.append(tier)
        wanted["b_after"] = tier
    return tiers


def take_stages_along(
    connection: Connection, job_id: int, target: JobState, values: Mapping[str, Any], now: float
) -> None:
    """Bring a job's earlier steps to the state that it was brought to.

    Args:
        connection: the write transaction that changed the job.
        job_id: the job.
        target: its new state.
        values: what was written to it.
        now: Unix seconds.
    """
    for row in _stages(connection, job_id):
        _take_along(connection, row, target, values)
    if target is JobState.RUNNING:
        reopen_stages(connection, job_id, now)


def resume_stages(connection: Connection, job_id: int, target: JobState, now: float) -> None:
    """Set those of a job's earlier steps going that stopped while the job did not.

    Args:
        connection: a write transaction.
        job_id: the job, which is in state ``target``.
        target: ``running``, or ``ingesting`` if its corpus is being read.
        now: Unix seconds.
    """
    values = {"state": target.value, "reason": None, "resume_at": None, "waiting_reason": None}
    take_stages_along(connection, job_id, target, values, now)


def tell_stages(connection: Connection, job_id: int, **values: Any) -> None:
    """Write something to the jobs of a job's earlier steps that are paused."""
    ids = stage_ids(connection, job_id)
    if ids:
        is_paused = jobs.c.state == JobState.PAUSED.value
        connection.execute(update(jobs).where(jobs.c.id.in_(ids), is_paused).values(values))


def reopen_stages(connection: Connection, job_id: int, now: float) -> None:
    """Set those of a job's earlier steps running again that were done and have something to do."""
    ids = [row.id for row in _stages(connection, job_id) if row.state == JobState.DONE.value]
    if ids:
        values: dict[str, Any] = {"state": JobState.RUNNING.value, "finished_at": None}
        values["started_at"] = func.coalesce(jobs.c.started_at, now)
        sources_of(JOB_TRANSITIONS, JobState.RUNNING, [JobState.DONE])
        connection.execute(
            update(jobs)
            .where(
                jobs.c.id.in_(ids),
                jobs.c.state == JobState.DONE.value,
                exists().where(items.c.job_id == jobs.c.id, items.c.status.in_(OPEN_STATUSES)),
            )
            .values(values)
        )


def _take_along(connection: Connection, stage: Any, target: JobState, values: Mapping[str, Any]) -> None:
    state = JobState(stage.state)
    own = update(jobs).where(jobs.c.id == stage.id, jobs.c.state == stage.state)
    if state is target:
        # A pause of the whole for another reason: nothing else is to set this step going again.
        connection.execute(own.values(reason=values["reason"], resume_at=values["resume_at"]))
    elif target in JOB_TRANSITIONS[state] and state is not JobState.DONE:
        connection.execute(own.values(dict(values)))
    elif state is JobState.DONE and target is JobState.INGESTING:
        # More may come in; there is no end to it before the whole corpus is in.
        sources_of(JOB_TRANSITIONS, JobState.RUNNING, [JobState.DONE])
        sources_of(JOB_TRANSITIONS, JobState.INGESTING, [JobState.RUNNING])
        connection.execute(own.values(dict(values)))


def end_stages(connection: Connection, job_id: int, now: float) -> bool:
    """End those of a running job's earlier steps that are complete.

    Returns:
        Whether all of them have ended and handed over everything; true for a job of one step.
    """
    for row in _stages(connection, job_id):
        if row.state not in _ENDED and not _end(connection, row.id, now):
            return False
        if row.state != JobState.CANCELLED.value and has_unhanded(connection, row.id):
            return False
    return True


def _end(connection: Connection, stage_id: int, now: float) -> bool:
    ended = connection.execute(
        update(jobs)
        .where(jobs.c.id == stage_id, jobs.c.state == JobState.RUNNING.value, not_(has_open_items(stage_id)))
        .values(state=JobState.DONE.value, finished_at=now, reason=None, resume_at=None, waiting_reason=None)
    )
    return ended.rowcount == 1


def stuck_jobs(connection: Connection, only: Sequence[int] | None = None) -> list[Any]:
    """Running jobs one of whose steps is paused while none of the others has anything to do.

    Args:
        connection: any transaction.
        only: of these; None for all.

    Returns:
        Id of the job, and reason and ``resume_at`` of the paused step, by job.
    """
    stage = jobs.alias("stage")
    query = (
        select(jobs.c.id, stage.c.reason, stage.c.resume_at)
        .join(stage, stage.c.parent_id == jobs.c.id)
        .where(
            stage.c.purpose != Purpose.JUDGE.value,
            stage.c.state == JobState.PAUSED.value,
            jobs.c.state == JobState.RUNNING.value,
        )
        .order_by(jobs.c.id, stage.c.resume_at)
    )
    if only is not None:
        query = query.where(jobs.c.id.in_(only))
    found: dict[int, Any] = {row.id: row for row in connection.execute(query)}
    return [row for row in found.values() if not _may_go_on(connection, row.id)]


def _may_go_on(connection: Connection, job_id: int) -> bool:
    own = select(jobs.c.state).where(jobs.c.id == job_id)
    states = {row.id: row.state for row in _stages(connection, job_id)}
    states[job_id] = connection.execute(own).scalar_one()
    working = [step_id for step_id, state in states.items() if state == JobState.RUNNING.value]
    if any(has_unhanded(connection, step_id) for step_id in states if step_id != job_id):
        return True
    return any(connection.execute(select(has_open_items(step_id))).scalar() for step_id in working)


def _stages(connection: Connection, job_id: int) -> Sequence[Any]:
    return connection.execute(_STAGES, {"b_job": job_id}).all()


_STAGES: Final = (
    select(jobs.c.id, jobs.c.state)
    .where(jobs.c.parent_id == bindparam("b_job"), jobs.c.purpose != Purpose.JUDGE.value)
    .order_by(jobs.c.id)
)

_DONE_TIER_AFTER: Final = select(func.min(items.c.tier)).where(
    items.c.job_id == bindparam("b_job"),
    items.c.status == ItemStatus.DONE.value,
    items.c.tier > bindparam("b_after"),
)

_UNHANDED: Final = (
    select(items.c.id)
    .where(
        items.c.job_id == bindparam("b_job"),
        items.c.status == ItemStatus.DONE.value,
        items.c.tier == bindparam("b_tier"),
        items.c.ready_at > HANDED_OVER,
    )
    .limit(1)
)
