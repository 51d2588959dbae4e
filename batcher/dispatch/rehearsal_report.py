"""What a rehearsal came to: time, spend, answers, and what it waited for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, select

from batcher.budget.ledger import DAY_SCOPE
from batcher.budget.spend import Spend, View, read_spend, spend_of_job, total_of
from batcher.dispatch.rehearsal import DAILY_CAP, Rehearsal
from batcher.domain import FailureClass, ItemStatus, JobState
from batcher.store.item_counts import count_errors
from batcher.store.jobs import get_job
from batcher.store.results import count_reused
from batcher.store.stages import count_documents_of
from batcher.store.steps import step_ids
from batcher.store.tables import attempts, ledger_accounts


@dataclass(frozen=True, slots=True)
class RehearsedDay:
    """One day of the ledger, nano-dollars.

    Attributes:
        day: YYYY-MM-DD, in the ledger's zone.
        calls: that left on it.
        spent_nusd: what they came to.
        taken_nusd: what was spent or reserved before the rehearsal began.
        cap_nusd: the daily cap.
    """

    day: str
    calls: int
    spent_nusd: int
    taken_nusd: int
    cap_nusd: int | None


@dataclass(frozen=True, slots=True)
class RehearsalReport:
    """What to expect of a real run.

    Attributes:
        started_at: Unix seconds; now.
        seconds: from then to the end.
        state: of the job at the end.
        reason: why it is paused, if it is.
        items: by status.
        reused: items that took an answer that was there, or a twin's.
        failed: failed items by class.
        rejected: rejected items by code.
        calls: by outcome: ``ok`` or a failure class.
        statuses: answers that were not a 200, by HTTP status.
        without_answer: calls that got no answer at all.
        models: calls by model.
        spend: tokens and cost.
        days: in order.
        waits: seconds of waiting by what was waited for, most first.
    """

    started_at: float
    seconds: float
    state: JobState
    reason: str | None
    items: dict[ItemStatus, int]
    reused: int
    failed: dict[str, int]
    rejected: dict[str, int]
    calls: dict[str, int]
    statuses: dict[int, int]
    without_answer: int
    models: dict[str, int]
    spend: Spend
    days: tuple[RehearsedDay, ...]
    waits: dict[str, float]

    @property
    def ends_at(self) -> float:
        """Unix seconds."""
        return self.started_at + self.seconds

    @property
    def cost_nusd(self) -> int:
        """All of it, calls of unknown outcome at their worst case included."""
        return self.spend.settled_nusd + self.spend.unknown_nusd

    @property
    def working_s(self) -> float:
        """Seconds without the waits for the next day."""
        return self.seconds - self.waits.get(DAILY_CAP, 0.0)

    @property
    def documents_per_min(self) -> float:
        """Documents that calls answered, per minute of work."""
        answered = self.items[ItemStatus.DONE] - self.reused
        return 60 * answered / self.working_s if self.working_s else 0.0

    @property
    def binding_limit(self) -> str | None:
        """What was waited for most; None if nothing was."""
        return next(iter(self.waits), None)


def read_report(rehearsal: Rehearsal, job_id: int) -> RehearsalReport:
    """Read it from the throwaway store, before that is gone."""
    with rehearsal.store.read() as connection:
        job = get_job(connection, job_id)
        steps = step_ids(connection, job_id)
        return RehearsalReport(
            started_at=rehearsal.books.now,
            seconds=rehearsal.seconds,
            state=job.state,
            reason=job.reason,
            items=count_documents_of(connection, [job_id])[job_id],
            reused=count_reused(connection, job_id),
            failed=_count_errors(connection, steps, ItemStatus.FAILED),
            rejected=_count_errors(connection, steps, ItemStatus.REJECTED),
            calls=_count(connection, attempts.c.outcome),
            statuses=_statuses(connection),
            without_answer=_without_answer(connection),
            models=_count(connection, attempts.c.model),
            spend=total_of([spend_of_job(connection, step) for step in steps], str(job_id)),
            days=_days(connection, rehearsal),
            waits=dict(sorted(rehearsal.waits.items(), key=lambda wait: -wait[1])),
        )


def _count_errors(connection: Connection, steps: Sequence[int], status: ItemStatus) -> dict[str, int]:
    """Failed or rejected items of all steps by class or code, most frequent first."""
    found: Counter[str] = Counter()
    for step in steps:
        found.update(count_errors(connection, step, status))
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def _count(connection: Connection, column: ColumnElement[str] | ColumnElement[str | None]) -> dict[str, int]:
    """Calls that ended by a column, most frequent first."""
    query = select(column, func.count()).where(attempts.c.outcome.is_not(None)).group_by(column)
    rows = [(str(row[0]), int(row[1])) for row in connection.execute(query)]
    return dict(sorted(rows, key=lambda row: (-row[1], row[0])))


def _statuses(connection: Connection) -> dict[int, int]:
    status = attempts.c.status_code
    query = (
        select(status, func.count())
        .where(status.is_not(None), status != 200)
        .group_by(status)
        .order_by(status)
    )
    return {int(row[0]): int(row[1]) for row in connection.execute(query)}


def _without_answer(connection: Connection) -> int:
    query = select(func.count()).where(
        attempts.c.status_code.is_(None), attempts.c.outcome == FailureClass.UNKNOWN_OUTCOME.value
    )
    return int(connection.execute(query).scalar_one())


def _days(connection: Connection, rehearsal: Rehearsal) -> tuple[RehearsedDay, ...]:
    spends = {spend.key: spend for spend in read_spend(connection, View.DAY)}
    accounts = connection.execute(
        select(ledger_accounts).where(ledger_accounts.c.scope == DAY_SCOPE).order_by(ledger_accounts.c.period)
    ).all()
    days = []
    for number, account in enumerate(accounts):
        spend = spends.get(account.period)
        if spend is None and number > 0:
            continue
        days.append(
            RehearsedDay(
                day=account.period,
                calls=spend.calls if spend else 0,
                spent_nusd=spend.settled_nusd + spend.unknown_nusd if spend else 0,
                taken_nusd=rehearsal.books.taken_nusd if number == 0 else 0,
                cap_nusd=account.cap_nusd,
            )
        )
    return tuple(days)
