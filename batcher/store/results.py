"""Valid answers: finding them by key, and reading a job's results out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, bindparam, func, literal_column, select

from batcher.domain import ItemStatus
from batcher.store.tables import attempts, items, results
from batcher.store.tallies import tallies_of


@dataclass(frozen=True, slots=True)
class ItemResult:
    """One line of ``batcher results``. ``output`` is JSON text, or None without an answer."""

    id: int
    source: str
    status: ItemStatus
    tier: str
    model: str | None
    output: str | None
    error_class: str | None
    error: str | None
    cost_nusd: int
    attempts: int
    reused: bool


def find_results(
    connection: Connection, keys: Sequence[bytes], accepts: Sequence[str], refresh_key: int
) -> dict[bytes, int]:
    """The result id of each key that has an answer from an acceptable model; the newest one counts.

    Args:
        connection: any transaction.
        keys: result keys.
        accepts: names of the models whose answers count.
        refresh_key: 0 for every stored answer, or the id of a ``--refresh`` job for its own only.
    """
    if not keys:
        return {}
    query = _FOUND if not refresh_key else _FOUND.where(results.c.refresh_job_id == refresh_key)
    rows = connection.execute(query, {"b_keys": keys, "b_accepts": accepts})
    return {row.result_key: row.id for row in rows}


@dataclass(frozen=True, slots=True)
class StepAnswer:
    """An answer that was bought on a step of a learned ladder and did not stand by itself.

    Attributes:
        result_id: of the stored answer.
        model: who gave it.
        output: JSON text.
        logprob: its log-probability, where the API told it.
    """

    result_id: int
    model: str
    output: str
    logprob: float | None


def read_step_answers(
    connection: Connection, keys: Sequence[bytes], models: Sequence[str], refresh_key: int
) -> dict[bytes, StepAnswer]:
    """The answers that are there for these keys, with what a ladder decides by."""
    ids = find_results(connection, keys, models, refresh_key)
    if not ids:
        return {}
    rows = connection.execute(
        select(results.c.result_key, results.c.id, results.c.model, results.c.output, attempts.c.logprob)
        .outerjoin(attempts, attempts.c.id == results.c.id)
        .where(results.c.id.in_(list(ids.values())))
    )
    return {row.result_key: StepAnswer(row.id, row.model, row.output, row.logprob) for row in rows}


def read_outputs(connection: Connection, result_ids: Sequence[int]) -> dict[int, str]:
    """The JSON text of these results."""
    if not result_ids:
        return {}
    rows = connection.execute(select(results.c.id, results.c.output).where(results.c.id.in_(result_ids)))
    return {row.id: row.output for row in rows}


def count_models(connection: Connection, job_id: int) -> dict[tuple[str, str], int]:
    """How many of a job's items each model answered, by tier and model. Answers taken over are left out."""
    found = tallies_of(connection, job_id)
    return {key: tally.answered for key, tally in found.items() if tally.answered}


def count_reused(connection: Connection, job_id: int) -> int:
    """How many of a job's items took an answer that was there or that another item brought."""
    # As a literal, so that both databases see that the partial index applies.
    query = select(func.count()).where(items.c.job_id == job_id, literal_column("items.reused"))
    return int(connection.execute(query).scalar_one())


def iter_item_results(
    connection: Connection, job_id: int, statuses: Sequence[ItemStatus], page: int = 500
) -> Iterator[ItemResult]:
    """A job's items with their answers, in order of submission, a page in memory at a time."""
    last = 0
    while True:
        query = (
            _item_query(job_id)
            .where(items.c.id > last)
            .where(items.c.status.in_([status.value for status in statuses]))
            .order_by(items.c.id)
            .limit(page)
        )
        rows = connection.execute(query).all()
        paid = _paid(connection, [row.id for row in rows])
        yield from (_item_result(row, *paid.get(row.id, (0, 0))) for row in rows)
        if len(rows) < page:
            return
        last = rows[-1].id


def read_item_results(connection: Connection, job_id: int, sources: Sequence[str]) -> dict[str, ItemResult]:
    """Those of a job's items that have these sources, whatever became of them."""
    rows = connection.execute(_item_query(job_id).where(items.c.source.in_(sources))).all()
    paid = _paid(connection, [row.id for row in rows])
    return {row.source: _item_result(row, *paid.get(row.id, (0, 0))) for row in rows}


def _item_query(job_id: int) -> Select[Any]:
    return (
        select(items, results.c.model, results.c.output, results.c.tier.label("result_tier"))
        .outerjoin(results, items.c.result_id == results.c.id)
        .where(items.c.job_id == job_id)
    )


def _paid(connection: Connection, item_ids: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Number of attempts and their cost, nano-dollars, of each item that has any."""
    rows = connection.execute(
        select(attempts.c.item_id, func.count(), func.sum(attempts.c.cost_nusd))
        .where(attempts.c.item_id.in_(item_ids))
        .group_by(attempts.c.item_id)
    )
    return {row[0]: (row[1], int(row[2])) for row in rows}


def _item_result(row: Row[Any], attempts_made: int, cost_nusd: int) -> ItemResult:
    return ItemResult(
        id=row.id,
        source=row.source,
        status=ItemStatus(row.status),
        tier=row.result_tier or row.tier,
        model=row.model,
        output=row.output,
        error_class=row.error_class,
        error=row.error,
        cost_nusd=cost_nusd,
        attempts=attempts_made,
        reused=row.reused,
    )


_FOUND: Final = (
    select(results.c.result_key, results.c.id)
    .where(
        results.c.result_key.in_(bindparam("b_keys", expanding=True)),
        results.c.model.in_(bindparam("b_accepts", expanding=True)),
    )
    .order_by(results.c.created_at, results.c.id)
)
