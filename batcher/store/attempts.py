"""Attempts and what they lead to: the statements of a group commit, each for many rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, select, update

from batcher.domain import (
    ATTEMPT_TRANSITIONS,
    LEASE_TRANSITIONS,
    NOT_SENT,
    AttemptState,
    LeaseState,
    Prices,
    Purpose,
    Usage,
)
from batcher.store.attempt_prices import charge_at, price_columns
from batcher.store.database import insert_into
from batcher.store.leases import HeldMoney, held_money
from batcher.store.tables import attempts, jobs, leases, results
from batcher.store.tallies import Tally, TallyKey, add_to_tallies
from batcher.store.transitions import sources_of

SEQUENCE_BITS: Final = 20
"""An attempt's id is its lease's id shifted by this, plus a sequence number within the lease."""


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """A call about to leave. ``reserved_nusd`` is its worst case, ``prices`` the usual ones of its model."""

    id: int
    item_id: int
    job_id: int
    lease_id: int
    purpose: Purpose
    part: int
    tier: str
    model: str
    provider: str
    day: str
    reserved_nusd: int
    prices: Prices
    sent_at: float


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of an attempt: settled, at ``prices`` if not the usual; or unknown, at its worst case."""

    attempt_id: int
    state: AttemptState
    cost_nusd: int
    outcome: str
    usage: Usage = field(default_factory=Usage)
    prices: Prices | None = None
    status_code: int | None = None
    error: str | None = None
    request_id: str = ""
    latency_s: float = 0.0
    logprob: float | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """An attempt that a settlement was applied to: what the ledger needs to move its money."""

    attempt_id: int
    model: str
    reserved: HeldMoney
    before: AttemptState
    cost_nusd: int


@dataclass(frozen=True, slots=True)
class NewResult:
    """A valid answer. ``output`` is JSON text; its id is the attempt's."""

    attempt_id: int
    result_key: bytes
    model: str
    refresh_key: int
    tier: str
    output: str


def insert_attempts(connection: Connection, new: Sequence[NewAttempt]) -> None:
    """Mark attempts as sending."""
    connection.execute(insert(attempts), [_attempt_row(attempt) for attempt in new])


def settle_attempts(connection: Connection, settlements: Sequence[Settlement]) -> list[Settled]:
    """Settle attempts, those that are not settled yet.

    One that was given up as unknown when its lease was lost is settled late, with the truth in place of the
    worst case.
    """
    ids = [settlement.attempt_id for settlement in settlements]
    found = {row.id: row for row in connection.execute(_OPEN_ATTEMPTS, {"b_ids": ids})}
    rows, settled, charged, tallied = [], [], {}, []
    for settlement in settlements:
        row = found[settlement.attempt_id]
        before = AttemptState(row.state)
        if settlement.state not in ATTEMPT_TRANSITIONS[before]:
            continue
        rows.append(_settlement_row(settlement))
        settled.append(Settled(row.id, row.model, held_money(row), before, settlement.cost_nusd))
        if settlement.prices is not None:
            charged[row.id] = settlement.prices
        if settlement.state is AttemptState.SETTLED:
            tallied.append((TallyKey(row.job_id, row.tier, row.model), _tally(settlement)))
    if rows:
        connection.execute(_SETTLE, rows)
    add_to_tallies(connection, tallied)
    charge_at(connection, charged)
    return settled


def insert_results(connection: Connection, new: Sequence[NewResult], now: float) -> None:
    """Store answers; a key that has one from the same model keeps it."""
    rows = [
        {
            "id": result.attempt_id,
            "result_key": result.result_key,
            "model": result.model,
            "refresh_job_id": result.refresh_key,
            "tier": result.tier,
            "output": result.output,
            "created_at": now,
        }
        for result in new
    ]
    connection.execute(insert_into(connection, results).on_conflict_do_nothing(), rows)


def _tally(settlement: Settlement) -> Tally:
    usage, was_sent = settlement.usage, settlement.outcome != NOT_SENT
    return Tally(
        int(was_sent), usage.input_tokens, usage.cached_tokens, usage.output_tokens, settlement.cost_nusd
    )


def close_leases(connection: Connection, lease_ids: Sequence[int]) -> list[HeldMoney]:
    """Close finished chunks; returns what was not used of each that was still active."""
    active = connection.execute(_OPEN_LEASES, {"b_ids": lease_ids}).all()
    if active:
        connection.execute(_CLOSE, {"b_ids": [row.id for row in active]})
    return [held_money(row) for row in active]


def has_paid(connection: Connection, item_id: int, lease_id: int, model: str | None = None) -> bool:
    """Whether an item's calls under a lease, or those of a model, have cost anything, or still may."""
    query = (
        select(attempts.c.id)
        .where(attempts.c.item_id == item_id, attempts.c.lease_id == lease_id)
        .where((attempts.c.cost_nusd > 0) | (attempts.c.state == AttemptState.SENDING.value))
        .limit(1)
    )
    if model is not None:
        query = query.where(attempts.c.model == model)
    return connection.execute(query).scalar_one_or_none() is not None


def _attempt_row(new: NewAttempt) -> dict[str, Any]:
    return {
        "id": new.id,
        "item_id": new.item_id,
        "job_id": new.job_id,
        "lease_id": new.lease_id,
        "purpose": new.purpose.value,
        "part": new.part,
        "tier": new.tier,
        "model": new.model,
        "provider": new.provider,
        "state": AttemptState.SENDING.value,
        "day": new.day,
        "reserved_nusd": new.reserved_nusd,
        "cost_nusd": 0,
        **price_columns(new.prices),
        "input_tokens": 0,
        "cached_tokens": 0,
        "cache_write_tokens": 0,
        "output_tokens": 0,
        "reasoning_tokens": 0,
        "sent_at": new.sent_at,
    }


def _settlement_row(settlement: Settlement) -> dict[str, Any]:
    usage = settlement.usage
    return {
        "b_id": settlement.attempt_id,
        "state": settlement.state.value,
        "cost_nusd": settlement.cost_nusd,
        "outcome": settlement.outcome,
        "status_code": settlement.status_code,
        "error": settlement.error,
        "request_id": settlement.request_id,
        "latency_s": settlement.latency_s,
        "logprob": settlement.logprob,
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }


# The statements of a group commit are built once: building one costs more than running it. FOR UPDATE is left
# out of them by SQLAlchemy where the database is SQLite, which locks as a whole.

_OPEN_ATTEMPTS: Final = (
    select(
        attempts.c.id,
        attempts.c.job_id,
        jobs.c.task,
        jobs.c.parent_id,
        attempts.c.tier,
        attempts.c.provider,
        attempts.c.model,
        attempts.c.day,
        attempts.c.state,
        attempts.c.reserved_nusd,
    )
    .join(jobs, jobs.c.id == attempts.c.job_id)
    .where(attempts.c.id.in_(bindparam("b_ids", expanding=True)))
    .with_for_update(of=attempts)
)

_OPEN_LEASES: Final = (
    select(leases, jobs.c.task, jobs.c.parent_id)
    .join(jobs, jobs.c.id == leases.c.job_id)
    .where(
        leases.c.id.in_(bindparam("b_ids", expanding=True)),
        leases.c.state.in_(sources_of(LEASE_TRANSITIONS, LeaseState.CLOSED)),
    )
    .with_for_update(of=leases)
)

_CLOSE: Final = (
    update(leases)
    .where(leases.c.id.in_(bindparam("b_ids", expanding=True)))
    .values(state=LeaseState.CLOSED.value, reserved_nusd=0)
)

_SETTLE: Final = (
    update(attempts)
    .where(attempts.c.id == bindparam("b_id"))
    .values(
        {
            name: bindparam(name)
            for name in (
                "state",
                "cost_nusd",
                "outcome",
                "status_code",
                "error",
                "request_id",
                "latency_s",
                "logprob",
                "input_tokens",
                "cached_tokens",
                "cache_write_tokens",
                "output_tokens",
                "reasoning_tokens",
            )
        }
    )
)
