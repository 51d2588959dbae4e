"""How many of a job's items stand where, and what was wrong with those that failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from batcher.domain import ItemStatus
from batcher.store.tables import items


def count_items(connection: Connection, job_id: int) -> dict[ItemStatus, int]:
    """How many of a job's items stand where; every status is there, also with 0."""
    return count_items_of(connection, [job_id])[job_id]


def count_items_of(connection: Connection, job_ids: Sequence[int]) -> dict[int, dict[ItemStatus, int]]:
    """:func:`count_items` of several jobs, in one query."""
    counts = {job_id: dict.fromkeys(ItemStatus, 0) for job_id in job_ids}
    rows = connection.execute(
        select(items.c.job_id, items.c.status, func.count())
        .where(items.c.job_id.in_(job_ids))
        .group_by(items.c.job_id, items.c.status)
    )
    for job_id, status, count in rows:
        counts[job_id][ItemStatus(status)] = count
    return counts


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
