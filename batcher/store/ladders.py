"""Learned ladders as they are kept: written once, the newest of a task counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from batcher.errors import UsageError
from batcher.store.tables import ladder_policies


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


def get_ladder(connection: Connection, ladder_id: int) -> StoredLadder:
    """One ladder.

    Raises:
        UsageError: if there is no such ladder.
    """
    query = select(ladder_policies).where(ladder_policies.c.id == ladder_id)
    found = _stored(connection.execute(query).one_or_none())
    if found is None:
        raise UsageError(
            f"There is no ladder {ladder_id} in this store. Calibrate one: batcher evaluate --calibrate"
        )
    return found


def _stored(row: Any) -> StoredLadder | None:
    if row is None:
        return None
    return StoredLadder(row.id, row.task, row.fingerprint, row.policy, row.evidence, row.created_at)
