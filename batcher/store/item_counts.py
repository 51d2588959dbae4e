"""How many of a job's items stand where, and what was wrong with those that failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, ScalarSelect, Select, bindparam, func, literal, select, text

from batcher.domain import ItemStatus
from batcher.store.database import insert_into
from batcher.store.tables import FAULTY, item_totals, items, tallies


def count_items(connection: Connection, job_id: int) -> dict[ItemStatus, int]:
    """How many of a job's items stand where; every status is there, also with 0."""
    return count_items_of(connection, [job_id])[job_id]


def count_items_of(connection: Connection, job_ids: Sequence[int]) -> dict[int, dict[ItemStatus, int]]:
    """:func:`count_items` of several jobs.

    Of each status of a job only the first items are counted. If one status alone has more, its items are what
    the others leave of the job's total, so that a million items that are nearly all open, or done, cost no
    more than a few. Else the others are counted whole.
    """
    if not job_ids:
        return {}
    counts = {job_id: dict.fromkeys(ItemStatus, 0) for job_id in job_ids}
    for job_id, total, *found in connection.execute(_COUNT_FIRST, {"b_jobs": job_ids}):
        counts[job_id].update(zip(ItemStatus, found, strict=True))
        many = [status for status, count in counts[job_id].items() if count > _COUNTED]
        if len(many) > 1:
            counts[job_id] = _count_all_but(connection, job_id, _likely_most(connection, job_id, total))
        elif many:
            counts[job_id][many[0]] += total - sum(counts[job_id].values())
    return counts


def _likely_most(connection: Connection, job_id: int, total: int) -> ItemStatus:
    """The status that most items may have; if it is another one, they are counted right, only more slowly."""
    answered = select(func.coalesce(func.sum(tallies.c.answered), 0)).where(tallies.c.job_id == job_id)
    mostly_done = connection.execute(answered).scalar_one() * 2 > total
    return ItemStatus.DONE if mostly_done else ItemStatus.PENDING


def _count_all_but(connection: Connection, job_id: int, left_out: ItemStatus) -> dict[ItemStatus, int]:
    """A job's items by status, one of which is what the others leave of the total."""
    wanted = [status.value for status in ItemStatus if status is not left_out]
    # The total in the same statement, so that both are of the same moment.
    rows = connection.execute(
        select(items.c.status, func.count())
        .where(items.c.job_id == job_id, items.c.status.in_(wanted))
        .group_by(items.c.status)
        .union_all(select(literal(""), item_totals.c.total).where(item_totals.c.job_id == job_id))
    )
    found: dict[str, int] = dict(rows.all())
    total = found.pop("")
    counts = {status: found.get(status.value, 0) for status in ItemStatus}
    return counts | {left_out: total - sum(found.values())}


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
        .where(items.c.job_id == job_id, items.c.status == status.value, _FAULTY)
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
        .where(items.c.job_id == job_id, items.c.status == status.value, _FAULTY)
        .where(items.c.error_class == error_class)
        .order_by(items.c.id)
        .limit(limit)
    )
    return [ErrorExample(row.source, row.error or "") for row in connection.execute(query)]


_FAULTY: Final = text(FAULTY)
"""True of what failed or was rejected anyway: in these words a database knows the index of such items."""

_COUNTED: Final = 10_000
"""So many items of a status are counted before it is asked whether another one can be left out."""


def _counting_first(most: int) -> Select[Any]:
    """The totals of jobs, and how many items they have of each status: ``most`` + 1 where there are more."""
    counts = (_first(status, most + 1) for status in ItemStatus)
    of_jobs = item_totals.c.job_id.in_(bindparam("b_jobs", expanding=True))
    return select(item_totals.c.job_id, item_totals.c.total, *counts).where(of_jobs)


def _first(status: ItemStatus, limit: int) -> ScalarSelect[int]:
    # In the index's order: else PostgreSQL reads the table, where it holds the status to be common.
    of_job = (items.c.job_id == item_totals.c.job_id, items.c.status == status.value)
    in_order = select(items.c.id).where(*of_job).order_by(items.c.tier, items.c.ready_at, items.c.id)
    some = in_order.limit(limit).correlate(item_totals).subquery()
    return select(func.count()).select_from(some).scalar_subquery()


# Built once: building a statement costs more than running it.

_COUNT_FIRST: Final = _counting_first(_COUNTED)
