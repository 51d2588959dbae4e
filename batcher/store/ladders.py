"""Learned ladders as they are kept: written once, the newest of a task counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, exists, func, insert, select

from batcher.domain import JobState
from batcher.errors import UsageError
from batcher.store.tables import jobs, ladder_policies, samples, tallies


@dataclass(frozen=True, slots=True)
class StoredLadder:
    """One ladder of a task; ``policy`` and ``evidence`` are JSON. Times in Unix seconds."""

    id: int
    task: str
    fingerprint: bytes
    policy: str
    evidence: str
    created_at: float


def add_ladder(
    connection: Connection, task: str, fingerprint: bytes, policy: str, evidence: str, now: float
) -> int:
    """Keep a ladder that was calibrated for a task as it stands; returns its id."""
    values = {
        "task": task,
        "fingerprint": fingerprint,
        "policy": policy,
        "evidence": evidence,
        "created_at": now,
    }
    query = insert(ladder_policies).values(values).returning(ladder_policies.c.id)
    return int(connection.execute(query).scalar_one())


def newest_ladder(connection: Connection, fingerprint: bytes) -> StoredLadder | None:
    """The ladder in force for a task as it stands, or None if none was calibrated."""
    query = select(ladder_policies).where(ladder_policies.c.fingerprint == fingerprint)
    return _stored(connection.execute(query.order_by(ladder_policies.c.id.desc()).limit(1)).one_or_none())


def ladder_before(connection: Connection, fingerprint: bytes, ladder_id: int) -> StoredLadder | None:
    """The ladder that was in force for a task before this one; None if it was the first."""
    query = select(ladder_policies).where(
        ladder_policies.c.fingerprint == fingerprint, ladder_policies.c.id < ladder_id
    )
    return _stored(connection.execute(query.order_by(ladder_policies.c.id.desc()).limit(1)).one_or_none())


def get_ladder(connection: Connection, ladder_id: int) -> StoredLadder:
    """One ladder.

    Raises:
        UsageError: if there is no such ladder.
    """
    query = select(ladder_policies).where(ladder_policies.c.id == ladder_id)
    found = _stored(connection.execute(query).one_or_none())
    if found is None:
        raise UsageError(f"There is no ladder {ladder_id} in this store. Learn one: batcher ladder learn")
    return found


def climbing_jobs(connection: Connection, job_ids: Sequence[int] | None) -> list[int]:
    """Those of these jobs whose documents climb a ladder, oldest first; None for all that run."""
    query = select(jobs.c.id).where(jobs.c.ladder_policy_id.is_not(None)).order_by(jobs.c.id)
    if job_ids is None:
        return list(connection.execute(query.where(jobs.c.state == JobState.RUNNING.value)).scalars())
    return list(connection.execute(query.where(jobs.c.id.in_(job_ids))).scalars())


def jobs_on_ladder(connection: Connection, ladder_id: int, most: int) -> list[int]:
    """The newest jobs whose documents climbed a ladder, and of whose answers some were checked."""
    checked = exists().where(samples.c.job_id == jobs.c.id, samples.c.score.is_not(None))
    query = select(jobs.c.id).where(jobs.c.ladder_policy_id == ladder_id, checked)
    return list(connection.execute(query.order_by(jobs.c.id.desc()).limit(most)).scalars())


def answers_of_ladder(connection: Connection, ladder_id: int) -> dict[str, int]:
    """How many documents that climbed a ladder ended with the answer of each of its models."""
    query = select(tallies.c.model, func.sum(tallies.c.answered)).join(jobs, jobs.c.id == tallies.c.job_id)
    query = query.where(jobs.c.ladder_policy_id == ladder_id).group_by(tallies.c.model)
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def _stored(row: Any) -> StoredLadder | None:
    if row is None:
        return None
    return StoredLadder(row.id, row.task, row.fingerprint, row.policy, row.evidence, row.created_at)
