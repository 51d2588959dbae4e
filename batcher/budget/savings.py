"""What reuse, caching and cheap tiers saved: figures that the books can show, and never more than that."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Connection, case, func, select

from batcher.budget.spend import Period, booked_within
from batcher.catalog.models import Catalog, Model
from batcher.domain import AttemptState, ItemStatus, Purpose
from batcher.store.tables import attempts, items, jobs

PREMIUM: Final = "premium"
"""The tier whose first model a job without dearer rungs of its own is held against."""

_MTOK: Final = 1_000_000
_WORK: Final = (
    Purpose.ANSWER.value,
    Purpose.REPAIR.value,
    Purpose.ESCALATION.value,
    Purpose.ROUTE.value,
)


class SavingKind(StrEnum):
    """Where money was saved."""

    REUSE = "reuse"
    CACHING = "caching"
    CHEAP_TIERS = "cheap_tiers"


@dataclass(frozen=True, slots=True)
class Saving:
    """One figure.

    Attributes:
        kind: where it was saved.
        saved_nusd: nano-dollars, rounded down; negative if it cost more.
        count: items that took over an answer, tokens read from a cache, or calls that brought an answer.
        against: the model whose prices it is held against; "" for the calls' own.
        paid_nusd: what was paid for the work that it is about.
        how: how it was reckoned, one sentence.
    """

    kind: SavingKind
    saved_nusd: int
    count: int
    against: str
    paid_nusd: int
    how: str


@dataclass(frozen=True, slots=True)
class _Tokens:
    plain: int
    cached: int
    written: int
    output: int


def read_savings(
    connection: Connection, catalog: Catalog, period: Period | None, job_id: int | None, time_zone: str
) -> list[Saving]:
    """What was saved, one figure for each way and, for cheap tiers, each model held against.

    Args:
        connection: any transaction.
        catalog: names the tiers' models and their present prices.
        period: days of the ledger; for reuse, days on which the jobs were submitted. None for all.
        job_id: only this job; None for all.
        time_zone: the ledger's.
    """
    return [
        _reuse(connection, period, job_id, time_zone),
        _caching(connection, period, job_id),
        *_cheap_tiers(connection, catalog, period, job_id),
    ]


def _reuse(connection: Connection, period: Period | None, job_id: int | None, time_zone: str) -> Saving:
    settled = attempts.c.state == AttemptState.SETTLED.value
    conditions: list[ColumnElement[bool]] = [
        items.c.status == ItemStatus.DONE.value,
        items.c.reused.is_(True),
    ]
    if job_id is not None:
        conditions.append(items.c.job_id == job_id)
    source = items.outerjoin(attempts, attempts.c.id == items.c.result_id)
    if period is not None:
        source = source.join(jobs, jobs.c.id == items.c.job_id)
        conditions += _submitted_within(period, time_zone)
    query = (
        select(func.count(), func.coalesce(func.sum(case((settled, attempts.c.cost_nusd), else_=0)), 0))
        .select_from(source)
        .where(*conditions)
    )
    count, cost = connection.execute(query).one()
    return Saving(
        SavingKind.REUSE,
        saved_nusd=int(cost),
        count=int(count),
        against="",
        paid_nusd=0,
        how="what the calls cost that brought the answers taken over; repairs and failed calls left out",
    )


def _submitted_within(period: Period, time_zone: str) -> list[ColumnElement[bool]]:
    zone = ZoneInfo(time_zone)
    first = datetime.fromisoformat(period.since).replace(tzinfo=zone)
    end = datetime.fromisoformat(period.until).replace(tzinfo=zone) + timedelta(days=1)
    return [jobs.c.created_at >= first.timestamp(), jobs.c.created_at < end.timestamp()]


def _caching(connection: Connection, period: Period | None, job_id: int | None) -> Saving:
    prices = (attempts.c.price_input_nusd, attempts.c.price_cached_nusd, attempts.c.price_cache_write_nusd)
    query = (
        select(
            *prices,
            func.sum(attempts.c.cached_tokens).label("cached"),
            func.sum(attempts.c.cache_write_tokens).label("written"),
            func.sum(attempts.c.cost_nusd).label("cost"),
        )
        .where(*booked_within(period, job_id), attempts.c.state == AttemptState.SETTLED.value)
        .where((attempts.c.cached_tokens > 0) | (attempts.c.cache_write_tokens > 0))
        .group_by(*prices)
    )
    cached, paid, saved = 0, 0, 0
    for row in connection.execute(query):
        # In Python's integers: tokens times nano-dollars would pass a database's 64 bits.
        saved += int(row.cached) * (row.price_input_nusd - row.price_cached_nusd)
        saved -= int(row.written) * (row.price_cache_write_nusd - row.price_input_nusd)
        cached += int(row.cached)
        paid += int(row.cost)
    return Saving(
        SavingKind.CACHING,
        saved_nusd=saved // _MTOK,
        count=cached,
        against="",
        paid_nusd=paid,
        how="cached tokens times (input price - cached price), less what writing to the cache cost above the"
        " input price, at the prices stored with each call",
    )


def _cheap_tiers(
    connection: Connection, catalog: Catalog, period: Period | None, job_id: int | None
) -> list[Saving]:
    rows = connection.execute(_work_by_job(period, job_id)).all()
    rungs = _rungs(connection, {row.work_of for row in rows})
    by_model: dict[str, list[Any]] = defaultdict(list)
    models: dict[str, Model] = {}
    for row in rows:
        model = reference_model(catalog, *rungs[row.work_of])
        if model is not None:
            models[model.name] = model
            by_model[model.name].append(row)
    return [_against(models[name], found) for name, found in sorted(by_model.items())]


def reference_model(catalog: Catalog, tier: str, ladder: Iterable[str]) -> Model | None:
    """The model that a job's work is held against; None if it has no price or no tier names it.

    It is the first of the top rung of the job's ladder if the ladder leads away from the job's own tier, else
    the first of the premium tier.
    """
    top = next((rung for rung in reversed(list(ladder)) if rung != tier), PREMIUM)
    names = catalog.tiers.get(top) or catalog.tiers.get(PREMIUM) or ()
    return catalog.models.get(names[0]) if names else None


def _work_by_job(period: Period | None, job_id: int | None) -> Any:
    answered = (
        (attempts.c.state == AttemptState.SETTLED.value)
        & (attempts.c.outcome == "ok")
        & attempts.c.purpose.not_in([Purpose.ROUTE.value, Purpose.JUDGE.value])
    )
    # A judge that a learned ladder asks before an answer stands is part of its work, and so is one without
    # which a floor could not choose; one that checks the samples of other jobs is not.
    judges = attempts.c.purpose == Purpose.JUDGE.value
    climbs = select(jobs.c.id).where(jobs.c.ladder_policy_id.is_not(None))
    routed = select(jobs.c.id).where(jobs.c.routing.is_not(None))
    of_routed = judges & jobs.c.parent_id.in_(routed)
    is_work = attempts.c.purpose.in_(_WORK) | (judges & attempts.c.job_id.in_(climbs)) | of_routed
    whose = case((of_routed, jobs.c.parent_id), else_=attempts.c.job_id).label("work_of")

    def of_answers(column: Any) -> Any:
        return func.coalesce(func.sum(case((answered, column), else_=0)), 0)

    return (
        select(
            whose,
            of_answers(1).label("answers"),
            of_answers(attempts.c.input_tokens).label("input"),
            of_answers(attempts.c.cached_tokens).label("cached"),
            of_answers(attempts.c.cache_write_tokens).label("written"),
            of_answers(attempts.c.output_tokens).label("output"),
            func.sum(attempts.c.cost_nusd).label("paid"),
        )
        .select_from(attempts.join(jobs, jobs.c.id == attempts.c.job_id))
        .where(*booked_within(period, job_id), is_work)
        .group_by(whose)
    )


def _rungs(connection: Connection, job_ids: set[int]) -> dict[int, tuple[str, list[str]]]:
    found = connection.execute(select(jobs.c.id, jobs.c.tier, jobs.c.ladder))
    return {row.id: (row.tier, json.loads(row.ladder)) for row in found if row.id in job_ids}


def _against(model: Model, rows: list[Any]) -> Saving:
    tokens = _Tokens(
        plain=sum(int(row.input) - int(row.cached) - int(row.written) for row in rows),
        cached=sum(int(row.cached) for row in rows),
        written=sum(int(row.written) for row in rows),
        output=sum(int(row.output) for row in rows),
    )
    prices = model.prices
    instead = (
        tokens.plain * prices.input_nusd
        + tokens.cached * min(prices.cached_nusd, prices.input_nusd)
        + tokens.written * prices.input_nusd
        + tokens.output * prices.output_nusd
    ) // _MTOK
    answers = sum(int(row.answers) for row in rows)
    instead += answers * prices.request_nusd
    paid = sum(int(row.paid) for row in rows)
    return Saving(
        SavingKind.CHEAP_TIERS,
        saved_nusd=instead - paid,
        count=answers,
        against=model.name,
        paid_nusd=paid,
        how=f"the tokens of the calls that brought answers at the present prices of {model.name}, less all"
        " that was paid for answers, repairs, climbs, routers and the judging of routed jobs, failed and"
        " unknown calls included",
    )
