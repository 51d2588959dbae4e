"""Whose turn it is: the jobs that may be worked on, in a fair order, the tiers where work waits, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import floor
from typing import Final

from sqlalchemy import Connection, func, or_, select, update

from batcher.domain import ItemStatus, JobState, LeaseState
from batcher.store.leases import pending_tiers
from batcher.store.steps import step_ids
from batcher.store.tables import items, jobs, leases

_LATEST_LEASES: Final = 16
"""So far back it is counted who was served: further, and a job that comes new would keep others waiting."""


def workable_job_ids(connection: Connection, only: Sequence[int] | None = None) -> list[int]:
    """Ids of the jobs that may be worked on, oldest first.

    Args:
        connection: any transaction.
        only: of these jobs and of those that check their samples, the running ones. None: all, those whose
            corpus is still being read included, because workers start on what is in.
    """
    states = [JobState.RUNNING] if only is not None else [JobState.RUNNING, JobState.INGESTING]
    query = select(jobs.c.id).where(jobs.c.state.in_([state.value for state in states])).order_by(jobs.c.id)
    if only is not None:
        query = query.where(or_(jobs.c.id.in_(only), jobs.c.parent_id.in_(only)))
    return list(connection.execute(query).scalars())


def in_turn(connection: Connection, job_ids: Sequence[int]) -> list[int]:
    """These jobs, the one first that holds the fewest leases for its share; of equals the one served least.

    A job's share is 1 and its priority; below 0 it is a fraction. So two jobs divide a tier evenly, and a
    small job behind a large one starts with the next lease. Where there are fewer leases at a time than
    shares, what was leased last decides.
    """
    if len(job_ids) < 2:
        return list(job_ids)
    active = (
        select(leases.c.job_id, func.count().label("held"))
        .where(leases.c.state == LeaseState.ACTIVE.value)
        .group_by(leases.c.job_id)
    )
    latest = select(leases.c.job_id).order_by(leases.c.id.desc()).limit(_LATEST_LEASES)
    held = Counter({row.job_id: int(row.held) for row in connection.execute(active)})
    served = list(connection.execute(latest).scalars())
    count, last = Counter(served), {job_id: -n for n, job_id in reversed(list(enumerate(served)))}
    priorities = connection.execute(select(jobs.c.id, jobs.c.priority).where(jobs.c.id.in_(job_ids)))
    shares = {row.id: _share(row.priority) for row in priorities}
    per_share = (sum(held[job_id] for job_id in job_ids) + 1) / sum(shares.values())

    def turn(job_id: int) -> tuple[int, float, int, int]:
        share = shares[job_id]
        # In whole leases, so that a small share is not always the one that is rounded away.
        beyond_share = floor(round(held[job_id] - share * per_share, 6))
        return beyond_share, count[job_id] / share, last.get(job_id, -_LATEST_LEASES), job_id

    return sorted(job_ids, key=turn)


def ready_tiers(connection: Connection, job_ids: Sequence[int], now: float) -> list[str]:
    """The tiers where an item of these jobs may be leased now: a step through the index for each."""
    found: set[str] = set()
    for job_id in job_ids:
        for tier in pending_tiers(connection, job_id):
            if tier not in found and _is_ready(connection, job_id, tier, now):
                found.add(tier)
    return sorted(found)


def _is_ready(connection: Connection, job_id: int, tier: str, now: float) -> bool:
    query = select(items.c.id).where(
        items.c.job_id == job_id,
        items.c.status == ItemStatus.PENDING.value,
        items.c.tier == tier,
        items.c.ready_at <= now,
    )
    return connection.execute(query.limit(1)).scalar() is not None


def next_chance_at(
    connection: Connection, job_ids: Sequence[int], tiers: Sequence[str] | None = None
) -> float | None:
    """When there may next be something to do for these jobs, Unix seconds; None if nothing is left.

    That is when a pending item may be tried, or when a lease that another worker holds runs out.

    Args:
        connection: any transaction.
        job_ids: which.
        tiers: of those who ask; None: all. What waits on others is nothing that they could do.
    """
    pending = select(func.min(items.c.ready_at)).where(
        items.c.job_id.in_(job_ids), items.c.status == ItemStatus.PENDING.value
    )
    if tiers is not None:
        pending = pending.where(items.c.tier.in_(tiers))
    ready_at = connection.execute(pending).scalar_one_or_none()
    expires_at = connection.execute(
        select(func.min(leases.c.expires_at)).where(
            leases.c.job_id.in_(job_ids), leases.c.state == LeaseState.ACTIVE.value
        )
    ).scalar_one_or_none()
    return min((at for at in (ready_at, expires_at) if at is not None), default=None)


def set_priority(connection: Connection, job_id: int, priority: int) -> None:
    """Give a job and its earlier steps a priority: the share of each of a tier is 1 and that."""
    ids = step_ids(connection, job_id)
    connection.execute(update(jobs).where(jobs.c.id.in_(ids)).values(priority=priority))


def _share(priority: int) -> float:
    return 1 + priority if priority >= 0 else 1 / (1 - priority)
