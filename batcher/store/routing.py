"""How jobs are routed, in the store: their ``routing`` column, and documents with a known answer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, func, literal_column, select, update

from batcher.domain import JobState
from batcher.store.leases import QueuedItem, next_items, queue_where
from batcher.store.tables import items, jobs, samples


def routing_of(connection: Connection, job_ids: Sequence[int]) -> dict[int, str]:
    """What the routing of those of these jobs says that are routed."""
    rows = connection.execute(_ROUTING, {"b_ids": job_ids})
    return {row.id: row.routing for row in rows}


def routed_jobs(connection: Connection, job_ids: Sequence[int] | None) -> list[int]:
    """Those of these jobs that are routed, oldest first; None for all that run."""
    query = select(jobs.c.id).where(jobs.c.routing.is_not(None)).order_by(jobs.c.id)
    if job_ids is None:
        return list(connection.execute(query.where(jobs.c.state == JobState.RUNNING.value)).scalars())
    return list(connection.execute(query.where(jobs.c.id.in_(job_ids))).scalars())


def lock_routing(connection: Connection, job_id: int) -> str | None:
    """A job's routing, so that nobody else changes it until the transaction ends."""
    query = select(jobs.c.routing).where(jobs.c.id == job_id).with_for_update()
    return connection.execute(query).scalar_one_or_none()


def set_routing(connection: Connection, job_id: int, routing: str) -> None:
    """Say how a job is routed; workers see it within a second."""
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(routing=routing))


def next_known(connection: Connection, job_id: int, tier: str, now: float, limit: int) -> list[QueuedItem]:
    """``leases.next_items`` of those whose right answer is known."""
    return next_items(connection, job_id, tier, now, limit, _NEXT_KNOWN)


def next_unknown(connection: Connection, job_id: int, tier: str, now: float, limit: int) -> list[QueuedItem]:
    """``leases.next_items`` of the others."""
    return next_items(connection, job_id, tier, now, limit, _NEXT_UNKNOWN)


def count_leased(connection: Connection, lease_ids: Collection[int]) -> dict[int, int]:
    """How many items each of these leases still holds; those that hold none are left out."""
    if not lease_ids:
        return {}
    query = select(items.c.lease_id, func.count()).where(items.c.lease_id.in_(lease_ids))
    return {row[0]: int(row[1]) for row in connection.execute(query.group_by(items.c.lease_id))}


def count_scored(connection: Connection, job_id: int) -> int:
    """How many findings there are on a job's answers."""
    query = select(func.count()).where(samples.c.job_id == job_id, samples.c.score.is_not(None))
    return int(connection.execute(query).scalar_one())


_ROUTING: Final = select(jobs.c.id, jobs.c.routing).where(
    jobs.c.id.in_(bindparam("b_ids", expanding=True)), jobs.c.routing.is_not(None)
)

_KNOWN: Final = select(samples.c.item_id).where(
    samples.c.job_id == bindparam("b_job"), samples.c.judged_by == literal_column("'golden'")
)

_NEXT_KNOWN: Final = queue_where(items.c.id.in_(_KNOWN))
_NEXT_UNKNOWN: Final = queue_where(items.c.id.not_in(_KNOWN))
