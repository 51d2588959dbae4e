"""Jobs: creating, finding, changing state, counting what they hold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    case,
    func,
    insert,
    not_,
    or_,
    select,
    update,
)

from batcher.domain import JOB_TRANSITIONS, JobState, Purpose
from batcher.errors import UsageError
from batcher.store.steps import end_stages, has_open_items, is_stage, take_stages_along, tell_stages
from batcher.store.tables import jobs
from batcher.store.transitions import sources_of

UNFINISHED = (JobState.INGESTING, JobState.RUNNING, JobState.PAUSED)

BUDGET_REASON: Final = "budget:"
"""How the reason of a pause begins that a cap made."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """What ``submit`` asks for. Lists are names, dearest last; ``spec`` is a TaskSpec as JSON.

    ``source_options`` is JSON: how ``paths`` are read, so that an ingestion that was killed can be finished.
    ``purpose`` is what its calls are paid for, ``parent_id`` the job whose samples it checks; its cap pays.
    """

    corpus_key: bytes
    task: str
    paths: Sequence[str]
    source_options: str
    spec: str
    tier: str
    pinned_model: str | None
    ladder: Sequence[str]
    accepts: Sequence[str]
    refresh: bool
    max_cost_nusd: int | None
    purpose: Purpose = Purpose.ANSWER
    parent_id: int | None = None
    sampling: str | None = None
    routing: str | None = None
    ladder_policy_id: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One submission, as stored. ``sampling`` and ``routing`` are JSON."""

    id: int
    task: str
    paths: tuple[str, ...]
    source_options: str
    spec: str
    tier: str
    pinned_model: str | None
    ladder: tuple[str, ...]
    accepts: tuple[str, ...]
    refresh: bool
    state: JobState
    reason: str | None
    resume_at: float | None
    max_cost_nusd: int | None
    estimate: str | None
    waiting_reason: str | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    purpose: Purpose = Purpose.ANSWER
    parent_id: int | None = None
    sampling: str | None = None
    routing: str | None = None
    ladder_policy_id: int | None = None

    @property
    def payer_id(self) -> int:
        """The job whose own cap its calls stand under: its own, or its parent's."""
        return self.parent_id or self.id

    @property
    def refresh_key(self) -> int:
        """What tells this job's results apart: its own id under ``--refresh``, else 0."""
        return self.id if self.refresh else 0

    @property
    def is_stage(self) -> bool:
        """Whether it is an earlier step of the job ``parent_id``."""
        return self.parent_id is not None and self.purpose is not Purpose.JUDGE

    @property
    def step(self) -> str:
        """What its spend stands under: the task's name, with that of the stage if it is one."""
        return str(json.loads(self.spec)["name"]) if self.is_stage else self.task


def create_job(connection: Connection, new: NewJob, now: float) -> Job:
    """Store a job in state ``ingesting``."""
    values = {
        "corpus_key": new.corpus_key,
        "task": new.task,
        "paths": json.dumps(list(new.paths)),
        "source_options": new.source_options,
        "spec": new.spec,
        "tier": new.tier,
        "pinned_model": new.pinned_model,
        "ladder": json.dumps(list(new.ladder)),
        "accepts": json.dumps(list(new.accepts)),
        "refresh": new.refresh,
        "state": JobState.INGESTING.value,
        "max_cost_nusd": new.max_cost_nusd,
        "purpose": new.purpose.value,
        "parent_id": new.parent_id,
        "sampling": new.sampling,
        "routing": new.routing,
        "ladder_policy_id": new.ladder_policy_id,
        "created_at": now,
    }
    job_id = connection.execute(insert(jobs).values(values).returning(jobs.c.id)).scalar_one()
    return get_job(connection, job_id)


def get_job(connection: Connection, job_id: int) -> Job:
    """One job.

    Raises:
        UsageError: if there is no such job.
    """
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
    if row is None:
        raise UsageError(f"There is no job {job_id} in this store. List them with: batcher jobs")
    return _job(row)


def newest_job_id(connection: Connection) -> int:
    """The newest job's id: of one that was submitted, before those that only measure.

    Raises:
        UsageError: if there is no job yet.
    """
    submitted = case((and_(jobs.c.purpose == Purpose.ANSWER.value, not_(is_stage())), jobs.c.id))
    row = connection.execute(select(func.max(submitted), func.max(jobs.c.id))).one()
    newest = row[0] or row[1]
    if newest is None:
        raise UsageError("There are no jobs yet. Start with: batcher submit docs/ --task enrichment")
    return int(newest)


def find_unfinished(connection: Connection, corpus_key: bytes) -> Job | None:
    """The newest unfinished job of the same paths, task and parameters."""
    return _newest(connection, corpus_key, jobs.c.state.in_([state.value for state in UNFINISHED]))


def find_newest(connection: Connection, corpus_key: bytes) -> Job | None:
    """The newest job of the same paths, task and parameters, whatever became of it."""
    return _newest(connection, corpus_key)


def _newest(connection: Connection, corpus_key: bytes, *conditions: ColumnElement[bool]) -> Job | None:
    query = select(jobs).where(jobs.c.corpus_key == corpus_key, *conditions)
    row = connection.execute(query.order_by(jobs.c.id.desc()).limit(1)).one_or_none()
    return None if row is None else _job(row)


def list_jobs(
    connection: Connection, states: Iterable[JobState] | None = None, limit: int | None = None
) -> list[Job]:
    """Jobs, newest first."""
    query: Select[Any] = select(jobs).order_by(jobs.c.id.desc())
    if states is not None:
        query = query.where(jobs.c.state.in_([state.value for state in states]))
    if limit is not None:
        query = query.limit(limit)
    return [_job(row) for row in connection.execute(query)]


def list_jobs_where(connection: Connection, *conditions: ColumnElement[bool]) -> list[Job]:
    """Jobs that meet conditions on the table ``jobs``, oldest first."""
    rows = connection.execute(select(jobs).where(*conditions).order_by(jobs.c.id))
    return [_job(row) for row in rows]


def list_job_ids(connection: Connection, state: JobState, only: Sequence[int] | None = None) -> list[int]:
    """Ids of the jobs in a state, oldest first: all, or only these and those that check their samples."""
    query = select(jobs.c.id).where(jobs.c.state == state.value).order_by(jobs.c.id)
    if only is not None:
        query = query.where(or_(jobs.c.id.in_(only), jobs.c.parent_id.in_(only)))
    return list(connection.execute(query).scalars())


def has_task(connection: Connection, task: str) -> bool:
    """Whether there was ever a job of this task."""
    query = select(jobs.c.id).where(jobs.c.task == task).limit(1)
    return connection.execute(query).scalar_one_or_none() is not None


def due_jobs(connection: Connection, now: float) -> list[int]:
    """Ids of the jobs that a budget cap paused until a time that has come; a step goes on with its job."""
    paused = select(jobs.c.id).where(jobs.c.state == JobState.PAUSED.value)
    query = (
        select(jobs.c.id)
        .where(
            jobs.c.state == JobState.PAUSED.value,
            jobs.c.reason.startswith(BUDGET_REASON),
            jobs.c.resume_at <= now,
            not_(and_(is_stage(), jobs.c.parent_id.in_(paused))),
        )
        .order_by(jobs.c.id)
    )
    return list(connection.execute(query).scalars())


def set_state(
    connection: Connection,
    job_id: int,
    target: JobState,
    now: float,
    *,
    reason: str | None = None,
    resume_at: float | None = None,
    only: Iterable[JobState] | None = None,
) -> bool:
    """Change a job's state if its present one allows it; its earlier steps follow.

    Args:
        connection: a write transaction.
        job_id: the job.
        target: the state to reach.
        now: Unix seconds.
        reason: why it is paused; cleared otherwise.
        resume_at: when a paused job may go on by itself, Unix seconds.
        only: change it only from these states.

    Returns:
        Whether the state changed.
    """
    values: dict[str, Any] = {
        "state": target.value,
        "reason": reason,
        "resume_at": resume_at,
        "waiting_reason": None,
    }
    if target is JobState.RUNNING:
        values["started_at"] = func.coalesce(jobs.c.started_at, now)
    values["finished_at"] = now if target in {JobState.DONE, JobState.CANCELLED} else None
    allowed = sources_of(JOB_TRANSITIONS, target, only)
    changed = connection.execute(
        update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_(allowed)).values(values)
    )
    if changed.rowcount:
        take_stages_along(connection, job_id, target, values, now)
    return changed.rowcount == 1


def set_pause_reason(connection: Connection, job_id: int, reason: str) -> bool:
    """Give a paused job another reason, and no time to go on by itself; whether it is paused."""
    changed = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == JobState.PAUSED.value)
        .values(reason=reason, resume_at=None)
    )
    if changed.rowcount:
        tell_stages(connection, job_id, reason=reason, resume_at=None)
    return changed.rowcount == 1


def set_waiting(connection: Connection, job_id: int, reason: str | None) -> None:
    """Tell readers in other processes what the job waits for."""
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(waiting_reason=reason))


def set_estimate(connection: Connection, job_id: int, estimate: str) -> None:
    """Keep what a job was estimated to cost; JSON, see ``planning.record``."""
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(estimate=estimate))


def finish_if_complete(connection: Connection, job_id: int, now: float) -> bool:
    """Mark a running job done when no item of any of its steps is open. A step is ended by its job."""
    if not end_stages(connection, job_id, now):
        return False
    is_running = and_(jobs.c.id == job_id, jobs.c.state == JobState.RUNNING.value, not_(is_stage()))
    done = connection.execute(
        update(jobs)
        .where(is_running, not_(has_open_items(job_id)))
        .values(state=JobState.DONE.value, finished_at=now, reason=None, resume_at=None, waiting_reason=None)
    )
    return done.rowcount == 1


def _job(row: Row[Any]) -> Job:
    return Job(
        id=row.id,
        task=row.task,
        paths=tuple(json.loads(row.paths)),
        source_options=row.source_options,
        spec=row.spec,
        tier=row.tier,
        pinned_model=row.pinned_model,
        ladder=tuple(json.loads(row.ladder)),
        accepts=tuple(json.loads(row.accepts)),
        refresh=row.refresh,
        state=JobState(row.state),
        reason=row.reason,
        resume_at=row.resume_at,
        max_cost_nusd=row.max_cost_nusd,
        estimate=row.estimate,
        waiting_reason=row.waiting_reason,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        purpose=Purpose(row.purpose),
        parent_id=row.parent_id,
        sampling=row.sampling,
        routing=row.routing,
        ladder_policy_id=row.ladder_policy_id,
    )
