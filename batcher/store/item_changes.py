"""What becomes of leased items: the statements of a group commit, each for many rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, exists, func, or_, select, update

from batcher.domain import ITEM_TRANSITIONS, ItemStatus
from batcher.store.sampling import Draw, draw_items
from batcher.store.tables import items, results
from batcher.store.tallies import Tally, TallyKey, add_to_tallies
from batcher.store.transitions import sources_of


@dataclass(frozen=True, slots=True)
class ItemChange:
    """What a leased item becomes.

    Attributes:
        lease_id: the fencing token: nothing happens if the item is no longer under this lease.
        status: pending (given back, or climbing to ``tier``), done or failed.
        ready_at: when a pending item may be tried again, Unix seconds.
        model: whose result for ``result_key`` it takes, when done.
        promotes: the result that first becomes the one for ``result_key``: of a ladder's earlier step.
        draw: the answer's lot, when done: whether it is drawn for checking; None: it is not.
        start_tier: where it starts, decided now; None: as it was.
    """

    item_id: int
    job_id: int
    lease_id: int
    result_key: bytes
    accepts_key: int
    refresh_key: int
    status: ItemStatus
    tier: str
    ready_at: float = 0.0
    model: str | None = None
    error_class: str | None = None
    error: str | None = None
    draw: Draw | None = None
    promotes: int | None = None
    start_tier: str | None = None


def change_items(connection: Connection, changes: Sequence[ItemChange], now: float) -> None:
    """Move leased items on. Those lost with their lease are done late, if they have no answer yet."""
    finished = [change for change in changes if change.status is ItemStatus.DONE]
    others = [change for change in changes if change.status is not ItemStatus.DONE]
    if finished:
        _finish(connection, finished, now)
    if others:
        rows = [_change_row(change) for change in others]
        connection.execute(_CHANGE, rows)
        told = [row for row, change in zip(rows, others, strict=True) if _concerns_twins(change)]
        if told:
            connection.execute(_CHANGE_TWINS, told)


def _finish(connection: Connection, finished: Sequence[ItemChange], now: float) -> None:
    """Give items their answers, those that have none yet."""
    ids = [change.item_id for change in finished]
    unanswered = set(connection.execute(_UNANSWERED, {"b_ids": ids}).scalars())
    first = {change.item_id: change for change in reversed(finished) if change.item_id in unanswered}
    promoted = [
        {"b_key": change.result_key, "b_result": change.promotes}
        for change in finished
        if change.promotes is not None
    ]
    if promoted:
        connection.execute(_PROMOTE, promoted)
    if first:
        connection.execute(_FINISH, [_answer_row(change) for change in first.values()])
    connection.execute(_FINISH_TWINS, [_answer_row(change) for change in finished])
    draw_items(connection, list(reversed(first.values())), now)
    answered = Tally(answered=1)
    add_to_tallies(
        connection,
        [
            (TallyKey(change.job_id, change.tier, change.model), answered)
            for change in first.values()
            if change.model is not None
        ],
    )


def _concerns_twins(change: ItemChange) -> bool:
    """Whether other items with the same content go the same way: a failure or a climb, not a hand-back."""
    return change.status is ItemStatus.FAILED or change.error_class is not None


def _answer_row(change: ItemChange) -> dict[str, Any]:
    return {
        "b_id": change.item_id,
        "b_key": change.result_key,
        "b_accepts": change.accepts_key,
        "b_model": change.model,
        "b_refresh": change.refresh_key,
    }


def _change_row(change: ItemChange) -> dict[str, Any]:
    return {
        "b_id": change.item_id,
        "b_job": change.job_id,
        "b_lease": change.lease_id,
        "b_key": change.result_key,
        "b_accepts": change.accepts_key,
        "b_status": change.status.value,
        "b_tier": change.tier,
        "b_ready": change.ready_at,
        "b_class": change.error_class,
        "b_error": change.error,
        "b_start": change.start_tier,
    }


# Built once: building a statement costs more than running it. FOR UPDATE is left out on SQLite.

_RESULT_ID: Final = (
    select(results.c.id)
    .where(
        results.c.result_key == bindparam("b_key"),
        results.c.model == bindparam("b_model"),
        results.c.refresh_job_id == bindparam("b_refresh"),
    )
    .scalar_subquery()
)

_THERE: Final = results.alias("there")

_PROMOTE: Final = (
    update(results)
    .where(
        results.c.id == bindparam("b_result"),
        ~exists().where(
            _THERE.c.result_key == bindparam("b_key"),
            _THERE.c.model == results.c.model,
            _THERE.c.refresh_job_id == results.c.refresh_job_id,
        ),
    )
    .values(result_key=bindparam("b_key"))
)

_LEASED: Final = (
    items.c.id == bindparam("b_id"),
    items.c.lease_id == bindparam("b_lease"),
    items.c.status == ItemStatus.LEASED.value,
)

_DONE_FROM: Final = sources_of(ITEM_TRANSITIONS, ItemStatus.DONE)

_UNANSWERED: Final = (
    select(items.c.id)
    .where(
        items.c.id.in_(bindparam("b_ids", expanding=True)),
        or_(*(items.c.status == status for status in _DONE_FROM)),
    )
    .with_for_update()
)

_FINISH: Final = (
    update(items)
    .where(items.c.id == bindparam("b_id"))
    .values(status=ItemStatus.DONE.value, lease_id=None, result_id=_RESULT_ID, error_class=None, error=None)
)

_FINISH_TWINS: Final = (
    update(items)
    .where(
        items.c.result_key == bindparam("b_key"),
        items.c.accepts_key == bindparam("b_accepts"),
        items.c.status == ItemStatus.PENDING.value,
    )
    .values(status=ItemStatus.DONE.value, reused=True, result_id=_RESULT_ID)
)

_CHANGE: Final = (
    update(items)
    .where(*_LEASED)
    .values(
        status=bindparam("b_status"),
        tier=bindparam("b_tier"),
        ready_at=bindparam("b_ready"),
        lease_id=None,
        error_class=bindparam("b_class"),
        error=bindparam("b_error"),
        start_tier=func.coalesce(bindparam("b_start", type_=items.c.start_tier.type), items.c.start_tier),
    )
)

_CHANGE_TWINS: Final = (
    update(items)
    .where(
        items.c.job_id == bindparam("b_job"),
        items.c.result_key == bindparam("b_key"),
        items.c.accepts_key == bindparam("b_accepts"),
        items.c.status == ItemStatus.PENDING.value,
    )
    .values(
        status=bindparam("b_status"),
        tier=bindparam("b_tier"),
        error_class=bindparam("b_class"),
        error=bindparam("b_error"),
    )
)
