"""Whose turn it is: the jobs that may be worked on, in a fair order, and the tiers where work waits."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, func, select, update

from batcher.domain import ItemStatus, JobState, LeaseState
from batcher.store.tables import items, jobs, leases


def workable_job_ids(connection: Connection, only: Sequence[int] | None = None) -> list[int]:
    """Ids of the jobs that may be worked on, oldest first.

    Args:
        connection: any transaction.
        only: of these jobs, those that are running. None: all, those whose corpus is still being read
            included, because workers start on what is in.
    """
    states = [JobState.RUNNING] if only is not None else [JobState.RUNNING, JobState.INGESTING]
    query = select(jobs.c.id).where(jobs.c.state.in_([state.value for state in states])).order_by(jobs.c.id)
    if only is not None:
        query = query.where(jobs.c.id.in_(only))
    return list(connection.execute(query).scalars())


def in_turn(connection: Connection, job_ids: Sequence[int]) -> list[int]:
    """These jobs, the one first that holds the fewest leases for its share; of equals the oldest.

    A job's share is 1 and its priority; below 0 it is a fraction. So two jobs divide a tier evenly, and a
    small job behind a large one starts with the next lease.
    """
    if len(job_ids) < 2:
        return list(job_ids)
    held = {
        row.job_id: int(row.held)
        for row in connection.execute(
            select(leases.c.job_id, func.count().label("held"))
            .where(leases.c.state == LeaseState.ACTIVE.value)
            .group_by(leases.c.job_id)
        )
    }
    priorities = connection.execute(select(jobs.c.id, jobs.c.priority).where(jobs.c.id.in_(job_ids)))
    shares = {row.id: _share(row.priority) for row in priorities}
    return sorted(job_ids, key=lambda job_id: (held.get(job_id, 0) / shares[job_id], -shares[job_id], job_id))


def ready_tiers(connection: Connection, job_ids: Sequence[int], now: float) -> list[str]:
    """The tiers where an item of these jobs may be leased now."""
    found: set[str] = set()
    for job_id in job_ids:
        query = (
            select(items.c.tier)
            .where(
                items.c.job_id == job_id,
                items.c.status == ItemStatus.PENDING.value,
                items.c.ready_at <= now,
            )
            .limit(1)
        )
        while (tier := connection.execute(query.where(items.c.tier.not_in(found))).scalar()) is not None:
            found.add(tier)
    return sorted(found)


def set_priority(connection: Connection, job_id: int, priority: int) -> None:
    """Give a job a priority: its share of a tier is 1 and that."""
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(priority=priority))


def _share(priority: int) -> float:
    return 1 + priority if priority >= 0 else 1 / (1 - priority)
