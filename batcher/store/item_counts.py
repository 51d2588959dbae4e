"""How many of a job's items stand where, and what was wrong with those that failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Select, func, null, select, union_all

from batcher.domain import ItemStatus
from batcher.store.database import insert_into
from batcher.store.tables import item_totals, items, tallies


def count_items(connection: Connection, job_id: int) -> dict[ItemStatus, int]:
    """How many of a job's items stand where; every status is there, also with 0."""
    return count_items_of(connection, [job_id])[job_id]


def count_items_of(connection: Connection, job_ids: Sequence[int]) -> dict[int, dict[ItemStatus, int]]:
    """:func:`count_items` of several jobs, at one moment.

    Of each job all statuses are counted but one, which is what the others leave of its total: of a million
    items that are all open, or nearly all done, a few are counted.
    """
    if not job_ids:
        return {}
    mostly_done, mostly_open = _by_bulk(connection, job_ids)
    counted = union_all(
        _count(mostly_done, ItemStatus.DONE),
        _count(mostly_open, ItemStatus.PENDING),
        select(item_totals.c.job_id, null(), item_totals.c.total).where(item_totals.c.job_id.in_(job_ids)),
    )
    counts = {job_id: dict.fromkeys(ItemStatus, 0) for job_id in job_ids}
    totals = dict.fromkeys(job_ids, 0)
    for job_id, status, count in connection.execute(counted):
        if status is None:
            totals[job_id] = count
        else:
            counts[job_id][ItemStatus(status)] = count
    for left_out, among in ((ItemStatus.DONE, mostly_done), (ItemStatus.PENDING, mostly_open)):
        for job_id in among:
            counts[job_id][left_out] = totals[job_id] - sum(counts[job_id].values())
    return counts


def _by_bulk(connection: Connection, job_ids: Sequence[int]) -> tuple[list[int], list[int]]:
    """Which jobs may have more items that are done, and which more that are open.

    Answers that were taken over are not seen here: their job is counted right, only more slowly.
    """
    answered = (
        select(func.coalesce(func.sum(tallies.c.answered), 0))
        .where(tallies.c.job_id == item_totals.c.job_id)
        .scalar_subquery()
    )
    half_done = select(item_totals.c.job_id).where(
        item_totals.c.job_id.in_(job_ids), answered * 2 > item_totals.c.total
    )
    done = set(connection.execute(half_done).scalars())
    return [one for one in job_ids if one in done], [one for one in job_ids if one not in done]


def _count(job_ids: Sequence[int], left_out: ItemStatus) -> Select[tuple[int, str, int]]:
    """The items of jobs by status, but for one; the statuses are named, which is what an index can find."""
    wanted = [status.value for status in ItemStatus if status is not left_out]
    return (
        select(items.c.job_id, items.c.status, func.count())
        .where(items.c.job_id.in_(job_ids), items.c.status.in_(wanted))
        .group_by(items.c.job_id, items.c.status)
    )


def count_all_items(connection: Connection, job_id: int | None = None) -> int:
    """How many items a job has, or the whole store; nothing is counted."""
    query = select(func.coalesce(func.sum(item_totals.c.total), 0))
    if job_id is not None:
        query = query.where(item_totals.c.job_id == job_id)
    return int(connection.execute(query).scalar_one())


def add_to_total(connection: Connection, job_id: int, count: int) -> None:
    """Count items in, in the transaction that adds them."""
    insertion = insert_into(connection, item_totals).values(job_id=job_id, total=count)
    raised = item_totals.c.total + insertion.excluded.total
    connection.execute(insertion.on_conflict_do_update(index_elements=["job_id"], set_={"total": raised}))


def count_errors(connection: Connection, job_id: int, status: ItemStatus) -> dict[str, int]:
    """A job's failed or rejected items by class or code, most frequent first."""
    rows = connection.execute(
        select(items.c.error_class, func.count())
        .where(items.c.job_id == job_id, items.c.status == status.value)
        .group_by(items.c.error_class)
        .order_by(func.count().desc(), items.c.error_class)
    )
    return {row[0] or "unknown": row[1] for row in rows}


@dataclass(frozen=True, slots=True)
class ErrorExample:
    """One failed or rejected item: what it is called and what was wrong with it."""

    source: str
    error: str


def example_errors(
    connection: Connection, job_id: int, status: ItemStatus, error_class: str, limit: int
) -> list[ErrorExample]:
    """The first of a job's failed or rejected items of a class or code, in order of submission."""
    query = (
        select(items.c.source, items.c.error)
        .where(items.c.job_id == job_id, items.c.status == status.value)
        .where(items.c.error_class == error_class)
        .order_by(items.c.id)
        .limit(limit)
    )
    return [ErrorExample(row.source, row.error or "") for row in connection.execute(query)]
