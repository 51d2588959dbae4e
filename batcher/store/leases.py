"""Leases: a worker's claim on a chunk of items, with a fencing token and an expiry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, exists, func, literal_column, select, update

from batcher.domain import (
    ATTEMPT_TRANSITIONS,
    ITEM_TRANSITIONS,
    LEASE_TRANSITIONS,
    AttemptState,
    ItemStatus,
    LeaseState,
)
from batcher.store.tables import attempts, documents, items, leases
from batcher.store.transitions import sources_of


@dataclass(frozen=True, slots=True)
class QueuedItem:
    """An item that may be leased, with what it takes to price and run it.

    Attributes:
        text_bytes: UTF-8 length of the document's text.
        image_count: pages or pictures; 0 for a text document.
        body: the compressed text.
    """

    id: int
    job_id: int
    source: str
    tier: str
    document_hash: bytes
    result_key: bytes
    accepts_key: int
    text_bytes: int
    image_count: int
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NewLease:
    """A chunk about to be handed to a worker. ``day`` is the ledger day of its reservation."""

    job_id: int
    tier: str
    worker: str
    day: str
    reserved_nusd: int
    expires_at: float


@dataclass(frozen=True, slots=True)
class LostAttempt:
    """An attempt that was marked as sending when its worker was lost."""

    id: int
    job_id: int
    day: str
    reserved_nusd: int


@dataclass(frozen=True, slots=True)
class LostLease:
    """A lease taken from a lost worker, with the money that stands on it."""

    id: int
    job_id: int
    day: str
    reserved_nusd: int
    attempts: tuple[LostAttempt, ...]


def next_items(
    connection: Connection,
    job_id: int,
    now: float,
    limit: int,
    tiers: Sequence[str] | None = None,
    but_not: Sequence[str] = (),
) -> list[QueuedItem]:
    """The next pending items of a job, all of one tier, locked against other workers.

    Args:
        connection: a write transaction.
        job_id: the job.
        now: Unix seconds; items that back off until later are left out.
        limit: how many at most.
        tiers: only these; None for any.
        but_not: none of these tiers.
    """
    tier_query = _NEXT_TIER
    if but_not:
        tier_query = tier_query.where(items.c.tier.not_in(but_not))
    if tiers is not None:
        tier_query = tier_query.where(items.c.tier.in_(tiers))
    tier = connection.execute(tier_query, {"b_job": job_id, "b_now": now}).scalar_one_or_none()
    if tier is None:
        return []
    wanted = {"b_job": job_id, "b_tier": tier, "b_now": now, "b_limit": limit}
    unique: dict[tuple[bytes, int], QueuedItem] = {}
    for row in connection.execute(_NEXT_ITEMS, wanted):
        unique.setdefault((row.result_key, row.accepts_key), _queued(row))
    return list(unique.values())


def open_lease(connection: Connection, new: NewLease, item_ids: Sequence[int]) -> int:
    """Hand these items to a worker; returns the lease's id, the fencing token."""
    values = {
        "job_id": new.job_id,
        "tier": new.tier,
        "worker": new.worker,
        "state": LeaseState.ACTIVE.value,
        "day": new.day,
        "reserved_nusd": new.reserved_nusd,
        "expires_at": new.expires_at,
    }
    lease_id: int = connection.execute(_OPEN, values).scalar_one()
    connection.execute(_LEASE, {"b_ids": item_ids, "b_lease": lease_id})
    return lease_id


def finish_answered(connection: Connection, answered: Sequence[tuple[int, int]]) -> None:
    """Give pending items the stored answer of their key: pairs of item and result id."""
    connection.execute(
        update(items)
        .where(
            items.c.id == bindparam("b_id"),
            items.c.status == ItemStatus.PENDING.value,
        )
        .values(status=ItemStatus.DONE.value, reused=True, result_id=bindparam("b_result")),
        [{"b_id": item_id, "b_result": result_id} for item_id, result_id in answered],
    )


def renew(connection: Connection, lease_ids: Sequence[int], expires_at: float) -> set[int]:
    """Push the expiry of active leases; returns those that are still held."""
    renewed = connection.execute(
        update(leases)
        .where(leases.c.id.in_(lease_ids), leases.c.state == LeaseState.ACTIVE.value)
        .values(expires_at=expires_at)
        .returning(leases.c.id)
    )
    return set(renewed.scalars())


def active_workers(connection: Connection, job_id: int | None = None) -> list[tuple[int, str]]:
    """Id and worker of every active lease, or of those of one job."""
    query = select(leases.c.id, leases.c.worker).where(leases.c.state == LeaseState.ACTIVE.value)
    if job_id is not None:
        query = query.where(leases.c.job_id == job_id)
    return [(row.id, row.worker) for row in connection.execute(query)]


def take_lost(connection: Connection, now: float, lost_ids: Sequence[int] = ()) -> list[LostLease]:
    """Expire leases past their time and those named; their items go back to pending.

    What was marked as sending becomes ``unknown``. The caller moves the money.
    """
    query = select(leases).where(
        leases.c.state.in_(sources_of(LEASE_TRANSITIONS, LeaseState.EXPIRED)),
        (leases.c.expires_at <= now) | leases.c.id.in_(lost_ids),
    )
    if connection.dialect.name != "sqlite":
        query = query.with_for_update(skip_locked=True)
    return [_take(connection, row) for row in connection.execute(query).all()]


def _take(connection: Connection, lease: Row[Any]) -> LostLease:
    open_attempts = connection.execute(
        update(attempts)
        .where(
            attempts.c.lease_id == lease.id,
            attempts.c.state.in_(sources_of(ATTEMPT_TRANSITIONS, AttemptState.UNKNOWN)),
        )
        .values(
            state=AttemptState.UNKNOWN.value, cost_nusd=attempts.c.reserved_nusd, outcome="unknown_outcome"
        )
        .returning(attempts.c.id, attempts.c.job_id, attempts.c.day, attempts.c.reserved_nusd)
    ).all()
    lost = [LostAttempt(row.id, row.job_id, row.day, row.reserved_nusd) for row in open_attempts]
    connection.execute(
        update(items)
        .where(
            items.c.lease_id == lease.id,
            items.c.status.in_(sources_of(ITEM_TRANSITIONS, ItemStatus.PENDING, [ItemStatus.LEASED])),
        )
        .values(status=ItemStatus.PENDING.value, lease_id=None)
    )
    connection.execute(
        update(leases).where(leases.c.id == lease.id).values(state=LeaseState.EXPIRED.value, reserved_nusd=0)
    )
    return LostLease(lease.id, lease.job_id, lease.day, lease.reserved_nusd, tuple(lost))


def next_chance_at(connection: Connection, job_ids: Sequence[int]) -> float | None:
    """When there may next be something to do for these jobs, Unix seconds; None if nothing is left.

    That is when a pending item may be tried, or when a lease that another worker holds runs out.
    """
    ready_at = connection.execute(
        select(func.min(items.c.ready_at)).where(
            items.c.job_id.in_(job_ids), items.c.status == ItemStatus.PENDING.value
        )
    ).scalar_one_or_none()
    expires_at = connection.execute(
        select(func.min(leases.c.expires_at)).where(
            leases.c.job_id.in_(job_ids), leases.c.state == LeaseState.ACTIVE.value
        )
    ).scalar_one_or_none()
    return min((at for at in (ready_at, expires_at) if at is not None), default=None)


def _queued(row: Row[Any]) -> QueuedItem:
    return QueuedItem(
        id=row.id,
        job_id=row.job_id,
        source=row.source,
        tier=row.tier,
        document_hash=row.document_hash,
        result_key=row.result_key,
        accepts_key=row.accepts_key,
        text_bytes=row.text_bytes,
        image_count=row.image_count,
        body=row.body,
    )


@dataclass(frozen=True, slots=True)
class LeaseBalance:
    """What is left of a lease's reservation, and the ledger day that it was made on."""

    day: str
    reserved_nusd: int


def held_leases(connection: Connection, lease_ids: Sequence[int], now: float) -> dict[int, LeaseBalance]:
    """Those of these leases that are active and not past their time, locked."""
    rows = connection.execute(_HELD, {"b_ids": lease_ids, "b_now": now})
    return {row.id: LeaseBalance(row.day, row.reserved_nusd) for row in rows}


def draw(connection: Connection, amounts_nusd: Mapping[int, int]) -> None:
    """Move parts of leases' reservations to attempts that are being marked."""
    if amounts_nusd:
        connection.execute(
            _DRAW, [{"b_id": lease_id, "b_amount": amount} for lease_id, amount in amounts_nusd.items()]
        )


# The statements of every lease and group commit are built once: building one costs more than running it.
# FOR UPDATE is left out of them by SQLAlchemy where the database is SQLite, which locks as a whole.

_TWIN: Final = items.alias("twin")

_READY: Final = (
    items.c.job_id == bindparam("b_job"),
    items.c.status == ItemStatus.PENDING.value,
    items.c.ready_at <= bindparam("b_now"),
)

_NEXT_TIER: Final = select(items.c.tier).where(*_READY).limit(1)

_NEXT_ITEMS: Final = (
    select(items, documents.c.text_bytes, documents.c.image_count, documents.c.body)
    .join(documents, documents.c.hash == items.c.document_hash)
    .where(
        *_READY,
        items.c.tier == bindparam("b_tier"),
        # The status stands as a literal, so that both databases see that the partial index applies.
        ~exists().where(
            _TWIN.c.result_key == items.c.result_key,
            _TWIN.c.accepts_key == items.c.accepts_key,
            literal_column("twin.status") == literal_column("'leased'"),
        ),
    )
    .order_by(items.c.ready_at, items.c.id)
    .limit(bindparam("b_limit"))
    .with_for_update(of=items, skip_locked=True)
)

_OPEN: Final = leases.insert().returning(leases.c.id)

_LEASE: Final = (
    update(items)
    .where(
        items.c.id.in_(bindparam("b_ids", expanding=True)),
        items.c.status.in_(sources_of(ITEM_TRANSITIONS, ItemStatus.LEASED)),
    )
    .values(status=ItemStatus.LEASED.value, lease_id=bindparam("b_lease"))
)

_HELD: Final = (
    select(leases.c.id, leases.c.day, leases.c.reserved_nusd)
    .where(
        leases.c.id.in_(bindparam("b_ids", expanding=True)),
        leases.c.state == LeaseState.ACTIVE.value,
        leases.c.expires_at > bindparam("b_now"),
    )
    .with_for_update()
)

_DRAW: Final = (
    update(leases)
    .where(leases.c.id == bindparam("b_id"))
    .values(reserved_nusd=leases.c.reserved_nusd - bindparam("b_amount"))
)
