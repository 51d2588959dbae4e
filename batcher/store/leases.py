"""Leases: a worker's claim on a chunk of items, with a fencing token and an expiry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    bindparam,
    exists,
    func,
    literal_column,
    or_,
    select,
    update,
)

from batcher.domain import (
    ATTEMPT_TRANSITIONS,
    ITEM_TRANSITIONS,
    LEASE_TRANSITIONS,
    AttemptState,
    ItemStatus,
    LeaseState,
)
from batcher.store.tables import attempts, documents, items, jobs, leases
from batcher.store.transitions import sources_of
from batcher.store.twins import keys_in_common


@dataclass(frozen=True, slots=True)
class QueuedItem:
    """An item that may be leased, with what it takes to price and run it.

    Attributes:
        text_bytes: UTF-8 length of the document's text, or of a longer normal form: ``money.most_tokens``.
        image_count: pages or pictures; 0 for a text document.
        body: the compressed text.
        start_tier: where it starts, as a rule, its pictures or a router decided; None: nobody did yet.
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
    start_tier: str | None = None


@dataclass(frozen=True, slots=True)
class NewLease:
    """A chunk about to be handed to a worker.

    Attributes:
        provider: whose account its reservation stands under: that of the lane's first model.
        day: the ledger day of its reservation.
    """

    job_id: int
    tier: str
    provider: str
    worker: str
    day: str
    reserved_nusd: int
    expires_at: float


@dataclass(frozen=True, slots=True)
class HeldMoney:
    """A reservation that stands somewhere, with what the ledger needs to find its accounts.

    Attributes:
        payer_id: the job whose own cap it stands under: ``job_id``, or the job whose samples that one checks.
    """

    job_id: int
    payer_id: int
    task: str
    tier: str
    provider: str
    day: str
    reserved_nusd: int


@dataclass(frozen=True, slots=True)
class LostLease:
    """A lease taken from a lost worker.

    Attributes:
        unused: what no attempt had taken over yet.
        sending: of the attempts that were marked as sending, whose outcome nobody knows.
    """

    id: int
    unused: HeldMoney
    sending: tuple[HeldMoney, ...]


def pending_tiers(connection: Connection, job_id: int) -> list[str]:
    """The tiers that a job's pending items wait on, by name: one step through the index for each."""
    tiers: list[str] = []
    wanted = {"b_job": job_id, "b_after": ""}
    while (tier := connection.execute(_TIER_AFTER, wanted).scalar_one()) is not None:
        tiers.append(tier)
        wanted["b_after"] = tier
    return tiers


def next_items(
    connection: Connection,
    job_id: int,
    tier: str,
    now: float,
    limit: int,
    only: Select[Any] | None = None,
) -> list[QueuedItem]:
    """The next pending items of a job on a tier, locked against other workers.

    Args:
        connection: a write transaction.
        job_id: the job.
        tier: the tier.
        now: Unix seconds; items that back off until later are left out.
        limit: how many at most.
        only: what ``queue_where`` made, for some of them.
    """
    wanted = _wanted(connection, job_id, tier, now) | {"b_limit": limit}
    unique: dict[tuple[bytes, int], QueuedItem] = {}
    for row in connection.execute(_NEXT_ITEMS if only is None else only, wanted):
        unique.setdefault((row.result_key, row.accepts_key), _queued(row))
    return list(unique.values())


def queue_where(condition: ColumnElement[bool]) -> Select[Any]:
    """What ``next_items`` reads, for those items that meet a condition; it may use ``b_job``."""
    return _QUEUED.where(condition).order_by(items.c.ready_at, items.c.id).limit(bindparam("b_limit"))


def smallest_items(connection: Connection, job_id: int, tier: str, now: float) -> list[QueuedItem]:
    """The smallest pending text and the smallest pending document of images, those that there are, locked.

    Within each of the two kinds the worst case of a call grows with the size, so that one of them costs least
    of all that wait. This reads every pending item of the tier.
    """
    wanted = _wanted(connection, job_id, tier, now)
    rows = [connection.execute(query, wanted).one_or_none() for query in (_SMALLEST_TEXT, _FEWEST_IMAGES)]
    return [_queued(row) for row in rows if row is not None]


def _wanted(connection: Connection, job_id: int, tier: str, now: float) -> dict[str, Any]:
    alike = keys_in_common(connection, job_id)
    return {"b_job": job_id, "b_tier": tier, "b_now": now, "b_alike": alike}


def open_lease(connection: Connection, new: NewLease, item_ids: Sequence[int]) -> int:
    """Hand these items to a worker; returns the lease's id, the fencing token."""
    values = {
        "job_id": new.job_id,
        "tier": new.tier,
        "provider": new.provider,
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
    """Id and worker of every active lease, or of those of one job and the jobs under it."""
    query = select(leases.c.id, leases.c.worker).where(leases.c.state == LeaseState.ACTIVE.value)
    if job_id is not None:
        query = query.where(leases.c.job_id.in_(_family(job_id)))
    return [(row.id, row.worker) for row in connection.execute(query)]


def has_active(connection: Connection, job_id: int | None = None) -> bool:
    """Whether any worker holds a chunk, of one job and the jobs under it or at all."""
    query = select(leases.c.id).where(leases.c.state == LeaseState.ACTIVE.value).limit(1)
    if job_id is not None:
        query = query.where(leases.c.job_id.in_(_family(job_id)))
    return connection.execute(query).scalar_one_or_none() is not None


def _family(job_id: int) -> Select[tuple[int]]:
    return select(jobs.c.id).where(or_(jobs.c.id == job_id, jobs.c.parent_id == job_id))


def take_lost(connection: Connection, now: float, lost_ids: Sequence[int] = ()) -> list[LostLease]:
    """Expire leases past their time and those named; their items go back to pending.

    What was marked as sending becomes ``unknown``. The caller moves the money.
    """
    query = (
        select(leases, jobs.c.task, jobs.c.parent_id)
        .join(jobs, jobs.c.id == leases.c.job_id)
        .where(
            leases.c.state.in_(sources_of(LEASE_TRANSITIONS, LeaseState.EXPIRED)),
            (leases.c.expires_at <= now) | leases.c.id.in_(lost_ids),
        )
        .order_by(leases.c.id)
        .with_for_update(of=leases, skip_locked=True)
    )
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
        .returning(attempts.c.tier, attempts.c.provider, attempts.c.day, attempts.c.reserved_nusd)
    ).all()
    payer_id = lease.parent_id or lease.job_id
    sending = [
        HeldMoney(lease.job_id, payer_id, lease.task, row.tier, row.provider, row.day, row.reserved_nusd)
        for row in open_attempts
    ]
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
    return LostLease(lease.id, held_money(lease), tuple(sending))


def held_money(row: Any) -> HeldMoney:
    """What stands on a row of ``leases`` or ``attempts`` that was read with its job's task and parent."""
    payer_id = row.parent_id or row.job_id
    return HeldMoney(row.job_id, payer_id, row.task, row.tier, row.provider, row.day, row.reserved_nusd)


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
        start_tier=row.start_tier,
    )


def held_leases(connection: Connection, lease_ids: Sequence[int], now: float) -> dict[int, HeldMoney]:
    """What is left of the reservations of those of these leases that are active and not past their time."""
    rows = connection.execute(_HELD, {"b_ids": lease_ids, "b_now": now})
    return {row.id: held_money(row) for row in rows}


def find_attempts(connection: Connection, attempt_ids: Sequence[int]) -> set[int]:
    """Those of these attempts that are there."""
    return set(connection.execute(select(attempts.c.id).where(attempts.c.id.in_(attempt_ids))).scalars())


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

_TIER_AFTER: Final = select(func.min(items.c.tier)).where(
    items.c.job_id == bindparam("b_job"),
    items.c.status == ItemStatus.PENDING.value,
    items.c.tier > bindparam("b_after"),
)

_QUEUED: Final = (
    select(items, documents.c.text_bytes, documents.c.image_count, documents.c.body)
    .join(documents, documents.c.hash == items.c.document_hash)
    .where(
        *_READY,
        items.c.tier == bindparam("b_tier"),
        # The status stands as a literal, so that both databases see that the partial index applies.
        ~exists().where(
            _TWIN.c.result_key == items.c.result_key,
            _TWIN.c.accepts_key.in_(bindparam("b_alike", expanding=True)),
            literal_column("twin.status") == literal_column("'leased'"),
        ),
    )
    .with_for_update(of=items, skip_locked=True)
)

_NEXT_ITEMS: Final = _QUEUED.order_by(items.c.ready_at, items.c.id).limit(bindparam("b_limit"))

_SMALLEST_TEXT: Final = (
    _QUEUED.where(documents.c.image_count == 0).order_by(documents.c.text_bytes, items.c.id).limit(1)
)

_FEWEST_IMAGES: Final = (
    _QUEUED.where(documents.c.image_count > 0)
    .order_by(documents.c.image_count, documents.c.text_bytes, items.c.id)
    .limit(1)
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
    select(leases, jobs.c.task, jobs.c.parent_id)
    .join(jobs, jobs.c.id == leases.c.job_id)
    .where(
        leases.c.id.in_(bindparam("b_ids", expanding=True)),
        leases.c.state == LeaseState.ACTIVE.value,
        leases.c.expires_at > bindparam("b_now"),
    )
    .with_for_update(of=leases)
)

_DRAW: Final = (
    update(leases)
    .where(leases.c.id == bindparam("b_id"))
    .values(reserved_nusd=leases.c.reserved_nusd - bindparam("b_amount"))
)
