"""The digest of a run that nobody watched: what it came to, against estimate and caps, and what is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from batcher.alerts.book import Alert, Rule
from batcher.budget.ledger import DAY_SCOPE, Account
from batcher.cli.accuracy_view import accuracy_json, sampled_json, sampled_lines
from batcher.cli.budget import raising_commands
from batcher.cli.job_view import JobView
from batcher.cli.judging_view import judging_commands, judging_json, judging_words
from batcher.cli.output import duration, iso_time, local_time, usd, usd_or_none
from batcher.cli.routing_view import routing_json, routing_lines, where_words
from batcher.cli.stage_view import stage_lines
from batcher.domain import ItemStatus, JobState
from batcher.engine.submission import PAUSED_BY_USER
from batcher.money import format_usd
from batcher.planning.record import Estimate
from batcher.quality.sampling import Sampling
from batcher.store.jobs import BUDGET_REASON

if TYPE_CHECKING:
    from batcher.budget.ledger import Balance
    from batcher.cli.running import Run
    from batcher.quality.golden import Accuracy
    from batcher.runtime import Runtime

_KNOWN_ENOUGH: Final = 20
"""So many documents have to be answered before what they cost and took says something about the rest."""

_CLASSES_TO_RETRY: Final = 3


@dataclass(frozen=True, slots=True)
class Left:
    """What a run left undone.

    Attributes:
        documents: how many.
        likely_nusd: what they will about cost, by what they are and what answers took so far, as the next
            start will tell it; None if there is nothing to tell it by.
        seconds: of work that they will about take; None likewise.
        days: so many days it takes under the daily cap; None where that is not in the way.
        least_nusd: what is reserved for the smallest document, where a cap in the way will never admit even
            that; else None.
    """

    documents: int
    likely_nusd: int | None
    seconds: float | None
    days: int | None
    least_nusd: int | None = None


@dataclass(frozen=True, slots=True)
class Digest:
    """A run of one job.

    Attributes:
        view: the job as the run left it.
        started_at: Unix seconds.
        seconds: that the run took.
        done: documents that this run answered.
        spent_nusd: what this run spent.
        days: the daily cap's accounts of the days that it touched, all jobs in them.
        interrupted: whether a signal ended it.
        by_workers: whether others do the work: then a signal ended the watching only.
    """

    view: JobView
    started_at: float
    seconds: float
    done: int
    spent_nusd: int
    days: tuple[Balance, ...]
    estimate: Estimate | None
    left: Left
    interrupted: bool
    by_workers: bool = False

    @property
    def title(self) -> str:
        """One line: the subject of a mail."""
        items = self.view.items
        return (
            f"Job {self.view.job.id} {self._state}: {items[ItemStatus.DONE]:,} of {self.view.total:,} done, "
            f"{format_usd(self.spent_nusd)} spent"
        )

    @property
    def _state(self) -> str:
        cut_off = self.interrupted and not self.by_workers and self.view.job.state is JobState.RUNNING
        return "interrupted" if cut_off else self.view.job.state.value

    def lines(self) -> list[str]:
        """The digest for people."""
        job = self.view.job
        first = (
            f"Job {job.id} {self._state}: {job.task} {where_words(job, self.view.models)}, "
            f"{self.view.total:,} document{'' if self.view.total == 1 else 's'}"
        )
        facts = [f"  {name:<9} {text}" for name, text in self._facts() if text]
        commands = [f"{'Next:' if n == 0 else '':<6}{command}" for n, command in enumerate(self._commands())]
        return [first, *facts, *commands]

    def _facts(self) -> list[tuple[str, str]]:
        view, items = self.view, self.view.items
        ended = local_time(self.started_at + self.seconds)
        again = f", {view.reused:,} reused" if view.reused else ""
        return [
            ("run", f"{local_time(self.started_at)} to {ended}, {duration(self.seconds)}"),
            ("reason", self._reason()),
            ("done", f"{items[ItemStatus.DONE]:,} ({self.done:,} in this run{again})"),
            ("failed", _with_causes(items[ItemStatus.FAILED], view.failed)),
            ("rejected", _with_causes(items[ItemStatus.REJECTED], view.rejected)),
            ("cancelled", f"{items[ItemStatus.CANCELLED]:,}" if items[ItemStatus.CANCELLED] else ""),
            ("models", view.who_answered),
            *stage_lines(view.stages),
            ("cost", self._cost()),
            *routing_lines(view.job, view.saving),
            ("estimate", self._estimate()),
            *(("day", _day(balance)) for balance in self.days),
            ("accuracy", _accuracy(view.accuracy)),
            *sampled_lines(view.sampled, Sampling.of(view.job), view.job.id),
            ("judging", judging_words(view.judging)),
            ("left", self._left()),
            ("goes on", self._goes_on()),
        ]

    def _reason(self) -> str:
        job = self.view.job
        return "" if job.state is JobState.DONE else self.view.waiting_reason or ""

    def _cost(self) -> str:
        view, total = self.view, self.view.balance.spent_nusd if self.view.balance else 0
        text = f"{format_usd(self.spent_nusd)} in this run"
        if total != self.spent_nusd:
            text += f", {format_usd(total)} in all"
        if view.spend.unknown_nusd:
            text += f" ({format_usd(view.spend.unknown_nusd)} of it for calls whose outcome is not known)"
        if view.balance and view.balance.cap_nusd is not None:
            text += f", the job's own cap is {format_usd(view.balance.cap_nusd)}"
        return text

    def _estimate(self) -> str:
        found = self.estimate
        if found is None:
            return ""
        text = (
            f"{format_usd(found.likely_nusd)} ({format_usd(found.low_nusd)} to {format_usd(found.high_nusd)})"
        )
        spent_nusd = self.view.balance.spent_nusd if self.view.balance else 0
        error = found.error(spent_nusd)
        if self.view.job.state is not JobState.DONE or error is None:
            return f"{text} for the whole job"
        return f"{text}, actual {format_usd(spent_nusd)} ({error * 100:+.0f} %)"

    def _left(self) -> str:
        left = self.left
        if left.documents == 0:
            return ""
        text = f"{left.documents:,} document{'' if left.documents == 1 else 's'}"
        parts = [] if left.likely_nusd is None else [format_usd(left.likely_nusd)]
        if left.seconds is not None:
            parts.append(f"{duration(left.seconds)} of work")
        if parts:
            text += f": about {' and '.join(parts)}"
        if left.days is not None:
            text += f", {left.days} more day{'' if left.days == 1 else 's'} under the daily cap"
        if left.least_nusd is not None:
            text += f"; no call fits under the cap, the smallest needs {format_usd(left.least_nusd)}"
        return text

    def _goes_on(self) -> str:
        job = self.view.job
        if not self.left.documents or job.state is JobState.CANCELLED:
            return ""
        if (job.reason or "").startswith(PAUSED_BY_USER):
            return f"with batcher resume {job.id} alone"
        if job.state is JobState.PAUSED and (commands := self._raising()):
            return f"once a cap is raised: {' and '.join(commands)}; then with batcher resume {job.id}"
        if self.by_workers and job.state is not JobState.PAUSED:
            return f"with the workers; watch it with batcher status {job.id} --watch"
        if self.by_workers and job.resume_at:
            return f"by itself from {local_time(job.resume_at)} on, or with batcher resume {job.id}"
        since = f", from {local_time(job.resume_at)} on" if job.resume_at else ""
        return f"at the next start of the same command{since}, or with batcher resume {job.id}"

    def _raising(self) -> list[str]:
        """The commands without which the job never goes on: time does not change the caps that stop it."""
        reason = self.view.job.reason or ""
        commands = raising_commands(reason)
        return [found for found in commands if self.left.least_nusd is not None or "--job" in found]

    def _commands(self) -> list[str]:
        job, items = self.view.job, self.view.items
        commands = []
        if items[ItemStatus.DONE] or self.view.failed or self.view.rejected:
            commands.append(f"batcher results {job.id} -o results.jsonl")
        if job.state is not JobState.CANCELLED:
            names = list(self.view.failed)[:_CLASSES_TO_RETRY]
            commands += [f"batcher retry {job.id} --class {name}" for name in names]
        return commands + judging_commands(self.view.judging, job)

    def alert(self) -> Alert:
        """The digest for the alert channels: every run has its own."""
        scope = f"job:{self.view.job.id}/{iso_time(self.started_at)}"
        return Alert(Rule.DIGEST, scope, self.title, "\n".join(self.lines()))

    def to_json(self) -> dict[str, Any]:
        """The digest as ``--json`` prints it."""
        view, left = self.view, self.left
        estimate = self.estimate and {
            "likely_usd": usd(self.estimate.likely_nusd),
            "low_usd": usd(self.estimate.low_nusd),
            "high_usd": usd(self.estimate.high_nusd),
        }
        return {
            "started_at": iso_time(self.started_at),
            "ended_at": iso_time(self.started_at + self.seconds),
            "seconds": self.seconds,
            "state": self._state,
            "reason": self._reason() or None,
            "resume_at": iso_time(view.job.resume_at),
            "documents": view.total,
            "done": view.items[ItemStatus.DONE],
            "done_in_run": self.done,
            "reused": view.reused,
            "failed": view.items[ItemStatus.FAILED],
            "failed_by_class": view.failed,
            "rejected": view.items[ItemStatus.REJECTED],
            "rejected_by_reason": view.rejected,
            "cancelled": view.items[ItemStatus.CANCELLED],
            "models": view.models,
            "stages": [stage.to_json() for stage in view.stages],
            "stood_in": view.stood_in,
            "spent_in_run_usd": usd(self.spent_nusd),
            "spent_usd": usd(view.balance.spent_nusd if view.balance else 0),
            "unknown_usd": usd(view.spend.unknown_nusd),
            "max_cost_usd": usd_or_none(view.balance.cap_nusd if view.balance else None),
            "estimate": estimate,
            "days": [
                {
                    "day": balance.account.period,
                    "spent_usd": usd(balance.spent_nusd),
                    "cap_usd": usd_or_none(balance.cap_nusd),
                }
                for balance in self.days
            ],
            "accuracy": accuracy_json(view.accuracy),
            "sampled": sampled_json(view.sampled, Sampling.of(view.job)),
            "judging": judging_json(view.judging),
            "routing": routing_json(view.job, view.saving),
            "left": {
                "documents": left.documents,
                "likely_usd": usd_or_none(left.likely_nusd),
                "seconds": left.seconds,
                "days": left.days,
                "least_usd": usd_or_none(left.least_nusd),
            },
        }


def read_digest(runtime: Runtime, run: Run) -> Digest:
    """What a run of one job came to."""
    [view] = run.views
    return Digest(
        view=view,
        started_at=run.started_at,
        seconds=run.seconds,
        done=run.done,
        spent_nusd=run.spent_nusd[view.job.id],
        days=_days(runtime, run.first_day),
        estimate=Estimate.of_job(view.job),
        left=_read_left(runtime, view, run),
        interrupted=run.interrupted,
        by_workers=run.by_workers,
    )


def _days(runtime: Runtime, first_day: str) -> tuple[Balance, ...]:
    """The accounts of the days from the first to the latest."""
    from datetime import date, timedelta

    from batcher.budget.spend import day_balance

    with runtime.store.read() as connection:
        latest = day_balance(connection)
        last_day = latest.account.period if latest else first_day
        count = (date.fromisoformat(last_day) - date.fromisoformat(first_day)).days + 1
        days = [(date.fromisoformat(first_day) + timedelta(days=n)).isoformat() for n in range(count)]
        return tuple(runtime.ledger.balances(connection, [Account(DAY_SCOPE, day) for day in days]))


def _read_left(runtime: Runtime, view: JobView, run: Run) -> Left:
    from batcher.cli.confirming import price_rest

    items = view.items
    documents = items[ItemStatus.PENDING] + items[ItemStatus.LEASED]
    if documents == 0:
        return Left(0, 0, 0.0, None)
    reason = view.job.reason or ""
    price, _ = price_rest(runtime, view.job)
    likely_nusd = price.likely_nusd if price.items else _by_what_it_cost(view, documents)
    least_nusd = None
    if reason.startswith(BUDGET_REASON):
        least_nusd = _if_it_never_fits(runtime, reason, price.least_nusd)
    seconds = documents * run.seconds / run.done if run.done >= _KNOWN_ENOUGH else None
    cap_nusd = view.today.cap_nusd if view.today else None
    days = None
    if reason.startswith(f"{BUDGET_REASON} daily cap") and cap_nusd and likely_nusd and least_nusd is None:
        days = -(-likely_nusd // cap_nusd)
    return Left(documents, likely_nusd, seconds, days, least_nusd)


def _by_what_it_cost(view: JobView, documents: int) -> int | None:
    """What as many documents have cost so far, where no model is there to price them; None of too few."""
    answered = view.items[ItemStatus.DONE] - view.reused + view.items[ItemStatus.FAILED]
    if answered < _KNOWN_ENOUGH or not view.balance:
        return None
    return documents * view.balance.spent_nusd // answered


def _if_it_never_fits(runtime: Runtime, reason: str, least_nusd: int | None) -> int | None:
    """What is reserved for the smallest document left, if a day's cap in its way is less; else None."""
    if least_nusd is None:
        return None
    with runtime.store.read() as connection:
        ledger = runtime.ledger
        caps = ledger.capped(connection, ledger.current_day(connection))
    for found in caps:
        is_in_the_way = bool(found.account.period) and f"{found.account.name} $" in reason
        if is_in_the_way and (found.cap_nusd or 0) < least_nusd:
            return least_nusd
    return None


def _accuracy(found: Accuracy | None) -> str:
    if found is None:
        return ""
    interval = found.interval
    return (
        f"{interval.share:.1%} ({found.correct:,} of {found.scored:,} correct; "
        f"95 % interval {interval.low:.1%} to {interval.high:.1%})"
    )


def _day(balance: Balance) -> str:
    cap = "" if balance.cap_nusd is None else f" of {format_usd(balance.cap_nusd)}"
    return f"{balance.account.period}: {format_usd(balance.spent_nusd)}{cap} spent"


def _with_causes(count: int, causes: Mapping[str, int]) -> str:
    named = ", ".join(f"{name} {number:,}" for name, number in causes.items())
    return f"{count:,}: {named}" if count else ""
