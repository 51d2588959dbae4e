"""Where the money went: the attempts, summed by day, model, task or job; and the caps in force."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, case, func, select

from batcher.budget.ledger import DAY_SCOPE, Account, Balance
from batcher.domain import AttemptState
from batcher.store.tables import attempts, jobs, ledger_accounts, ledger_clock


class View(StrEnum):
    """What spend is summed by."""

    DAY = "day"
    MODEL = "model"
    TASK = "task"
    JOB = "job"


@dataclass(frozen=True, slots=True)
class Spend:
    """One row of a view. The three amounts, nano-dollars, add up to what the ledger holds for these calls.

    Attributes:
        key: the day, model, task or job id.
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


_KEYS: Final[dict[View, Any]] = {
    View.DAY: attempts.c.day,
    View.MODEL: attempts.c.model,
    View.TASK: jobs.c.task,
    View.JOB: attempts.c.job_id,
}


def read_spend(connection: Connection, view: View) -> list[Spend]:
    """All spend by one view: days and jobs in order, models and tasks dearest first."""
    key = _KEYS[view].label("key")
    settled = _sum(attempts.c.cost_nusd, AttemptState.SETTLED).label("settled")
    unknown = _sum(attempts.c.cost_nusd, AttemptState.UNKNOWN).label("unknown")
    in_order = view in {View.DAY, View.JOB}
    source = attempts.join(jobs, jobs.c.id == attempts.c.job_id) if view is View.TASK else attempts
    query = (
        select(
            key,
            func.count(),
            func.sum(attempts.c.input_tokens),
            func.sum(attempts.c.cached_tokens),
            func.sum(attempts.c.output_tokens),
            settled,
            unknown,
            _sum(attempts.c.reserved_nusd, AttemptState.SENDING),
        )
        .select_from(source)
        .group_by(key)
        .order_by(*((key,) if in_order else ((settled + unknown).desc(), key)))
    )
    return [Spend(str(row[0]), *(int(value) for value in row[1:])) for row in connection.execute(query)]


def spend_of_job(connection: Connection, job_id: int) -> Spend:
    """What one job's calls came to."""
    # The index begins with the day: naming all days lets it find the job's rows without reading the others.
    days = select(ledger_accounts.c.period).where(ledger_accounts.c.scope == DAY_SCOPE)
    query = select(
        func.count(),
        func.coalesce(func.sum(attempts.c.input_tokens), 0),
        func.coalesce(func.sum(attempts.c.cached_tokens), 0),
        func.coalesce(func.sum(attempts.c.output_tokens), 0),
        _sum(attempts.c.cost_nusd, AttemptState.SETTLED),
        _sum(attempts.c.cost_nusd, AttemptState.UNKNOWN),
        _sum(attempts.c.reserved_nusd, AttemptState.SENDING),
    ).where(attempts.c.job_id == job_id, attempts.c.day.in_(days))
    return Spend(str(job_id), *(int(value) for value in connection.execute(query).one()))


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


def _sum(column: Any, state: AttemptState) -> Any:
    return func.coalesce(func.sum(case((attempts.c.state == state.value, column), else_=0)), 0)


def _balance(row: Any) -> Balance:
    return Balance(Account(row.scope, row.period), row.cap_nusd, row.reserved_nusd, row.spent_nusd)
