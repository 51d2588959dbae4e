"""Where the money went: the attempts, summed by any of their traits; and the caps in force."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import ColumnElement, Connection, Select, bindparam, case, func, literal_column, or_, select

from batcher.budget.ledger import DAY_SCOPE, Account, Balance, job_account
from batcher.domain import NOT_SENT, AttemptState
from batcher.store.jobs import Job
from batcher.store.steps import is_stage
from batcher.store.tables import attempts, jobs, ledger_accounts, ledger_clock
from batcher.store.tallies import Tally, tallies_of

CHART_DAYS: Final = 30
"""How many days the views cover when nothing is asked for."""


class View(StrEnum):
    """What spend is summed by."""

    DAY = "day"
    MODEL = "model"
    PROVIDER = "provider"
    TASK = "task"
    STAGE = "stage"
    TIER = "tier"
    JOB = "job"
    PURPOSE = "purpose"


@dataclass(frozen=True, slots=True)
class Period:
    """Days of the ledger, YYYY-MM-DD, both included."""

    since: str
    until: str

    @classmethod
    def ending(cls, until: str, count: int = CHART_DAYS) -> Period:
        """So many days, the last of them ``until``."""
        return cls((date.fromisoformat(until) - timedelta(days=count - 1)).isoformat(), until)

    def days(self) -> list[str]:
        """Every day of it, in order."""
        first, last = date.fromisoformat(self.since), date.fromisoformat(self.until)
        return [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]


@dataclass(frozen=True, slots=True)
class Spend:
    """One row of a view. The three amounts, nano-dollars, add up to what the ledger holds for these calls.

    Attributes:
        key: the day, model, provider, task, stage (``TASK.NAME``; of the last one the task alone), tier, job
            id or purpose. A job's row holds the calls of the jobs under it too: it pays for them.
        calls: calls that left.
        input_tokens: of the calls whose usage is known.
        cached_tokens: the part of them read from a vendor's cache.
        output_tokens: of the calls whose usage is known.
        settled_nusd: what calls cost whose cost is known.
        unknown_nusd: the worst case of calls whose outcome is not known: booked as spent.
        open_nusd: the worst case of calls on their way: reserved.
    """

    key: str
    calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    settled_nusd: int
    unknown_nusd: int
    open_nusd: int

    @property
    def booked_nusd(self) -> int:
        """What the ledger holds as spent for these calls."""
        return self.settled_nusd + self.unknown_nusd


@dataclass(frozen=True, slots=True)
class DayOfSpend:
    """One day against its cap.

    Attributes:
        day: YYYY-MM-DD.
        cap_nusd: the daily cap, the last that was in force on that day; None if nothing was booked on it.
        spend: what left on it; None if nothing did.
    """

    day: str
    cap_nusd: int | None
    spend: Spend | None


_KEYS: Final[dict[View, Any]] = {
    View.DAY: attempts.c.day,
    View.MODEL: attempts.c.model,
    View.PROVIDER: attempts.c.provider,
    View.TASK: jobs.c.task,
    View.TIER: attempts.c.tier,
    View.STAGE: attempts.c.job_id,
    View.JOB: func.coalesce(jobs.c.parent_id, attempts.c.job_id),
    View.PURPOSE: attempts.c.purpose,
}

_SCOPES: Final = {
    View.PROVIDER: "provider:",
    View.TASK: "task:",
    View.TIER: "tier:",
    View.JOB: "job:",
}
"""Views whose rows have accounts of their own in the ledger, and how their scopes begin."""


def total_of(rows: Sequence[Spend], key: str = "all") -> Spend:
    """The sum of rows."""
    names = [field.name for field in fields(Spend) if field.name != "key"]
    return Spend(key, *(sum(getattr(row, name) for row in rows) for name in names))


def latest_day(connection: Connection, now: float, time_zone: str) -> str:
    """Today in the ledger's zone, or the day that the ledger has come to where that is later.

    Args:
        connection: any transaction.
        now: Unix seconds, the database's clock.
        time_zone: the ledger's.
    """
    today = datetime.fromtimestamp(now, ZoneInfo(time_zone)).date().isoformat()
    booked = connection.execute(select(func.max(ledger_clock.c.last_day))).scalar_one()
    return max(today, booked or today)


def read_spend(
    connection: Connection, view: View, period: Period | None = None, job_id: int | None = None
) -> list[Spend]:
    """Spend by one view: days and jobs in order, everything else dearest first.

    Args:
        connection: any transaction.
        view: what to sum by.
        period: only what was booked on these days; None for all.
        job_id: only this job's and those under it; None for all.
    """
    key = _KEYS[view].label("key")
    settled = _sum(attempts.c.cost_nusd, AttemptState.SETTLED).label("settled")
    unknown = _sum(attempts.c.cost_nusd, AttemptState.UNKNOWN).label("unknown")
    in_order = view in {View.DAY, View.JOB}
    with_jobs = view in {View.TASK, View.JOB}
    source = attempts.join(jobs, jobs.c.id == attempts.c.job_id) if with_jobs else attempts
    calls = func.sum(case((attempts.c.outcome == NOT_SENT, 0), else_=1))
    query = (
        select(key, calls, *_token_sums(), settled, unknown, _open_sum())
        .select_from(source)
        .where(*booked_within(period, job_id))
        .group_by(key)
        .order_by(*((key,) if in_order else ((settled + unknown).desc(), key)))
    )
    rows = [Spend(str(row[0]), *(int(value) for value in row[1:])) for row in connection.execute(query)]
    return _by_stage(connection, rows) if view is View.STAGE else rows


def _by_stage(connection: Connection, by_job: Sequence[Spend]) -> list[Spend]:
    """The spend of jobs by what they are steps of, dearest first. Judging stands under the task."""
    if not by_job:
        return []
    ids = [int(spend.key) for spend in by_job]
    query = select(jobs.c.id, jobs.c.task, case((is_stage(), jobs.c.spec)).label("spec"))
    rows = connection.execute(query.where(jobs.c.id.between(min(ids), max(ids))))
    names = {str(row.id): orjson.loads(row.spec)["name"] if row.spec else row.task for row in rows}
    found: dict[str, list[Spend]] = {}
    for spend in by_job:
        found.setdefault(names[spend.key], []).append(spend)
    sums = [total_of(rows, key) for key, rows in found.items()]
    return sorted(sums, key=lambda spend: (-spend.booked_nusd, spend.key))


def spend_of_job(connection: Connection, job_id: int) -> Spend:
    """What one job's calls came to. It takes as long for a million calls as for ten."""
    settled = sum(tallies_of(connection, job_id).values(), start=Tally())
    unknown = connection.execute(_UNSETTLED[AttemptState.UNKNOWN], {"b_job": job_id}).one()
    sending = connection.execute(_UNSETTLED[AttemptState.SENDING], {"b_job": job_id}).one()
    return Spend(
        key=str(job_id),
        calls=settled.calls + unknown.calls + sending.calls,
        input_tokens=settled.input_tokens + int(unknown.input_tokens),
        cached_tokens=settled.cached_tokens + int(unknown.cached_tokens),
        output_tokens=settled.output_tokens + int(unknown.output_tokens),
        settled_nusd=settled.cost_nusd,
        unknown_nusd=int(unknown.cost_nusd),
        open_nusd=int(sending.reserved_nusd),
    )


def booked_within(period: Period | None, job_id: int | None) -> list[ColumnElement[bool]]:
    """Conditions on attempts: booked on these days, of this job and those under it, which it pays for."""
    conditions: list[ColumnElement[bool]] = []
    if period is not None:
        conditions.append(attempts.c.day.between(period.since, period.until))
    if job_id is not None:
        # The index begins with the day: naming all days lets it find the rows without reading the others.
        days = select(ledger_accounts.c.period).where(ledger_accounts.c.scope == DAY_SCOPE)
        family = select(jobs.c.id).where(or_(jobs.c.id == job_id, jobs.c.parent_id == job_id))
        conditions += [attempts.c.job_id.in_(family), attempts.c.day.in_(days)]
    return conditions


def ledger_by_key(connection: Connection, view: View, period: Period | None) -> dict[str, int]:
    """What the ledger's accounts hold as spent for each row of a view, nano-dollars.

    Empty where rows have no accounts of their own: models and purposes, and jobs within a period, because a
    job's account is that of its whole life.
    """
    if view is View.DAY:
        query = _spent().where(ledger_accounts.c.scope == DAY_SCOPE)
        query = query.add_columns(ledger_accounts.c.period.label("key"))
    elif view in _SCOPES and not (view is View.JOB and period is not None):
        query = _spent().where(ledger_accounts.c.scope.startswith(_SCOPES[view], autoescape=True))
        query = query.add_columns(ledger_accounts.c.scope.label("key"))
    else:
        return {}
    if period is not None:
        query = query.where(ledger_accounts.c.period.between(period.since, period.until))
    rows = connection.execute(query.group_by("key"))
    return {row.key.removeprefix(_SCOPES.get(view, "")): int(row.spent) for row in rows}


def ledger_total(connection: Connection, period: Period | None, job_id: int | None) -> int | None:
    """What the ledger holds as spent for all calls of a view, nano-dollars.

    None if no accounts cover exactly these calls: one job within a period.
    """
    if job_id is not None and period is not None:
        return None
    if job_id is not None:
        query = _spent().where(ledger_accounts.c.scope == f"job:{job_id}")
    else:
        query = _spent().where(ledger_accounts.c.scope == DAY_SCOPE)
    if period is not None:
        query = query.where(ledger_accounts.c.period.between(period.since, period.until))
    return int(connection.execute(query).scalar_one())


def read_days(connection: Connection, period: Period) -> list[DayOfSpend]:
    """Every day of a period against its cap, days without a call too."""
    spends = {spend.key: spend for spend in read_spend(connection, View.DAY, period)}
    query = select(ledger_accounts.c.period, ledger_accounts.c.cap_nusd).where(
        ledger_accounts.c.scope == DAY_SCOPE, ledger_accounts.c.period.between(period.since, period.until)
    )
    caps = {row.period: row.cap_nusd for row in connection.execute(query)}
    return [DayOfSpend(day, caps.get(day), spends.get(day)) for day in period.days()]


def day_balance(connection: Connection) -> Balance | None:
    """The account of the latest day that the ledger booked on, or None before its first."""
    row = connection.execute(
        select(ledger_accounts)
        .join(ledger_clock, ledger_clock.c.last_day == ledger_accounts.c.period)
        .where(ledger_accounts.c.scope == DAY_SCOPE)
    ).one_or_none()
    return None if row is None else _balance(row)


def job_balances(connection: Connection, *, capped_only: bool = False) -> dict[int, Balance]:
    """The accounts of jobs, by job id."""
    query = select(ledger_accounts).where(ledger_accounts.c.scope.like("job:%"))
    if capped_only:
        query = query.where(ledger_accounts.c.cap_nusd.is_not(None))
    rows = connection.execute(query).all()
    return {int(row.scope.removeprefix("job:")): _balance(row) for row in rows}


def job_balance(connection: Connection, job: Job) -> Balance | None:
    """The account of a job; of one that another pays for, what its own calls came to, without a cap."""
    account = job_account(job.id)
    if job.parent_id is not None:
        spend = spend_of_job(connection, job.id)
        return Balance(account, None, spend.open_nusd, spend.booked_nusd)
    row = connection.execute(
        select(ledger_accounts).where(ledger_accounts.c.scope == account.scope)
    ).one_or_none()
    return None if row is None else _balance(row)


def _spent() -> Select[Any]:
    return select(func.coalesce(func.sum(ledger_accounts.c.spent_nusd), 0).label("spent"))


def _token_sums() -> list[ColumnElement[int]]:
    columns = (attempts.c.input_tokens, attempts.c.cached_tokens, attempts.c.output_tokens)
    return [func.coalesce(func.sum(column), 0) for column in columns]


def _open_sum() -> Any:
    return _sum(attempts.c.reserved_nusd, AttemptState.SENDING)


def _sum(column: Any, state: AttemptState) -> Any:
    return func.coalesce(func.sum(case((attempts.c.state == state.value, column), else_=0)), 0)


def _balance(row: Any) -> Balance:
    return Balance(Account(row.scope, row.period), row.cap_nusd, row.reserved_nusd, row.spent_nusd)


def _unsettled(state: AttemptState) -> Select[Any]:
    """Sums over a job's calls in a state that few are in. Each such state has a partial index."""
    names = ("input_tokens", "cached_tokens", "output_tokens", "cost_nusd", "reserved_nusd")
    sums = [func.coalesce(func.sum(attempts.c[name]), 0).label(name) for name in names]
    # As literals, so that both databases see that the index applies.
    is_in_it = literal_column("attempts.state") == literal_column(f"'{state.value}'")
    return select(func.count().label("calls"), *sums).where(attempts.c.job_id == bindparam("b_job"), is_in_it)


_UNSETTLED: Final = {state: _unsettled(state) for state in (AttemptState.UNKNOWN, AttemptState.SENDING)}
