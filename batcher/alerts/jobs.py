"""Rules that look at jobs: ended, failed, stalled, inaccurate, or run at prices of long ago."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Row, case, func, not_, select

from batcher.alerts.book import Alert, Rule
from batcher.alerts.caps import DAY_SCOPE, cap_name, holds_reserved
from batcher.domain import ItemStatus, JobState, LeaseState, Purpose
from batcher.statistics.sequential import upper_bound
from batcher.store.item_counts import count_errors
from batcher.store.jobs import BUDGET_REASON
from batcher.store.reading import HALF_READ
from batcher.store.stages import count_documents_of
from batcher.store.steps import is_stage, step_ids
from batcher.store.tables import jobs, leases, samples
from batcher.store.turns import next_chance_at

LEAST_FAILED: Final = 10
LEAST_SCORED: Final = 10
"""Fewer failed items are no alert unless nothing else came out; fewer scored ones tell nothing."""

FALSE_ALERTS: Final = 0.05
"""How likely an alert may be, ever, on the accuracy of a job whose is not below the floor."""

ON_PURPOSE: Final = ("interrupted", "finish-by", "paused by")
"""How the reasons of pauses begin that somebody asked for."""

_CAP: Final = re.compile(r"daily cap|cap of (job|provider|task|tier) (\S+)")
"""A cap's name within a reason."""


_LATELY_S: Final = 300.0
"""So long after its end a job is looked at once more: the schedule comes every ten seconds."""

_KNOWN: Final = "golden"
"""Who has judged what the right answer was known of."""


@dataclass(frozen=True, slots=True)
class SampledShare:
    """A share of correct answers with its 95 % interval, and how many answers it rests on."""

    share: float
    low: float
    high: float
    scored: int


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From when on something is worth an alert.

    Attributes:
        failed_share: share of a job's ended items that failed.
        stalled_s: seconds without a call or a worker.
        prices_days: days since the prices of a model were read.
    """

    failed_share: float
    stalled_s: float
    prices_days: int


def read_jobs(connection: Connection, job_ids: Sequence[int] | None, now: float) -> list[Row[Any]]:
    """What the rules need of these jobs; None for those that run, have just ended, or lost their readers."""
    columns = (jobs.c.id, jobs.c.task, jobs.c.purpose, jobs.c.paths)
    states = (jobs.c.state, jobs.c.reason, jobs.c.resume_at)
    times = (jobs.c.waiting_reason, jobs.c.started_at, jobs.c.finished_at)
    query = select(*columns, *states, *times).order_by(jobs.c.id)
    if job_ids is None:
        # The steps of a staged job are spoken of as that job.
        lost = (jobs.c.state == JobState.PAUSED.value) & jobs.c.reason.startswith(HALF_READ)
        # Where workers do the work, perhaps nobody who submitted them is there to tell of their end.
        ended = (jobs.c.state == JobState.DONE.value) & (jobs.c.finished_at > now - _LATELY_S)
        query = query.where((jobs.c.state == JobState.RUNNING.value) | lost | ended, not_(is_stage()))
    else:
        query = query.where(jobs.c.id.in_(job_ids))
    return list(connection.execute(query))


def ended_alerts(connection: Connection, job: Row[Any]) -> Iterator[Alert]:
    """Alerts on a job that has just ended, was paused, or waits for a cap."""
    reason = (job.waiting_reason if job.state == JobState.RUNNING.value else job.reason) or ""
    if job.state == JobState.DONE.value:
        if _only_measures(job):
            return
        counts = count_documents_of(connection, [job.id])[job.id]
        told = ", ".join(f"{count:,} {status}" for status, count in counts.items() if count)
        yield Alert(
            Rule.JOB_DONE, _scope(job), f"Job {job.id} is done: {told or 'nothing to do'}", _about(job)
        )
    elif reason.startswith(BUDGET_REASON):
        yield from _held_back(connection, job, reason)
    elif job.state == JobState.PAUSED.value and not reason.startswith(ON_PURPOSE):
        yield Alert(
            Rule.JOB_FAILED,
            _scope(job),
            f"Job {job.id} is stopped: {reason}",
            f"{_about(job)}\n{reason}\nWhen it is mended: batcher resume {job.id}",
        )


def failed_alerts(connection: Connection, job: Row[Any], least_share: float) -> Iterator[Alert]:
    """An alert if many of a job's items are dead letters, or all that have ended."""
    if _only_measures(job):
        return
    counts = count_documents_of(connection, [job.id])[job.id]
    failed, done = counts[ItemStatus.FAILED], counts[ItemStatus.DONE]
    is_over = job.state == JobState.DONE.value
    if not failed or failed < least_share * (failed + done):
        return
    if failed >= LEAST_FAILED or (is_over and not done):
        classes: Counter[str] = Counter()
        for step in step_ids(connection, job.id):
            classes.update(count_errors(connection, step, ItemStatus.FAILED))
        by_class = ", ".join(f"{name} {count:,}" for name, count in classes.items())
        yield Alert(
            Rule.JOB_FAILED,
            f"{_scope(job)}/items",
            f"Job {job.id}: {failed:,} of {failed + done:,} items failed",
            f"{_about(job)}\nBy class: {by_class}.\n"
            f"See: batcher status {job.id}. When it is mended: batcher retry {job.id}",
        )


def stalled_alerts(
    connection: Connection, job: Row[Any], now: float, quiet_s: float | None, stalled_s: float
) -> Iterator[Alert]:
    """An alert if a running job does not move.

    Args:
        connection: a transaction.
        job: the job.
        now: Unix seconds.
        quiet_s: seconds since a call of the job's run ended in this process; None if another one runs it.
        stalled_s: the patience.
    """
    if job.state != JobState.RUNNING.value or now - (job.started_at or now) < stalled_s:
        return
    why = None
    if quiet_s is None:
        if _is_abandoned(connection, job.id, now - stalled_s):
            why = "Items are ready and no worker has taken one. Take it up with: batcher resume"
    elif quiet_s >= stalled_s and not job.waiting_reason:
        why = f"No call has ended for {quiet_s / 60:.0f} minutes, and the run does not say what it waits for."
    if why is not None:
        yield Alert(Rule.JOB_STALLED, _scope(job), f"Job {job.id} does not move", f"{_about(job)}\n{why}")


def accuracy_alerts(
    connection: Connection,
    job: Row[Any],
    interval: Callable[[int, int], tuple[float, float]],
    sampled: Callable[[Connection, int], SampledShare | None] = lambda *_: None,
) -> Iterator[Alert]:
    """An alert if a job's accuracy is below its task's floor, and not by chance, however often one looks.

    An interval that lies below the floor is not enough: of those who look after every answer 19 % would see
    that one day of a job exactly at the floor. Of routed jobs the router tells, model by model.

    Args:
        connection: a transaction.
        job: the job.
        interval: the confidence interval of a share, from its successes and trials.
        sampled: the estimate by what was drawn of the job, which goes before that by known answers alone.
    """
    if _only_measures(job):
        return
    found = sampled(connection, job.id) or _known_share(connection, job.id, interval)
    if found is None or found.scored < LEAST_SCORED:
        return
    stored = connection.execute(select(jobs.c.spec, jobs.c.routing).where(jobs.c.id == job.id)).one()
    floor = float(orjson.loads(stored.spec)["floor"])
    if stored.routing is not None or found.high >= floor:
        return
    if upper_bound(round(found.share * found.scored), found.scored, FALSE_ALERTS) < floor:
        yield Alert(
            Rule.ACCURACY,
            _scope(job),
            f"Job {job.id}: accuracy {found.share:.0%} is below the floor of {floor:.0%}",
            f"{_about(job)}\n{found.share:.1%} of its answers are correct, "
            f"{found.low:.0%} to {found.high:.0%} with 95 % confidence ({found.scored:,} scored). "
            "Use a better model or tier, or mend the task's prompt.",
        )


def price_alerts(
    connection: Connection, job: Row[Any], dates: Mapping[str, str], today: str, most_days: int
) -> Iterator[Alert]:
    """An alert per model that a job uses and whose prices are old.

    Args:
        connection: a transaction.
        job: the job.
        dates: by model, when its prices were read (YYYY-MM-DD); those that cost nothing are left out.
        today: YYYY-MM-DD.
        most_days: how old they may be.
    """
    accepts = connection.execute(select(jobs.c.accepts).where(jobs.c.id == job.id)).scalar_one()
    for model in json.loads(accepts):
        days = _days_between(dates.get(model, ""), today)
        if days > most_days:
            yield Alert(
                Rule.PRICES_OLD,
                f"model:{model}",
                f"The prices of {model} are {days} days old",
                f"They were read on {dates[model]}, and the cap is only as true as they are. "
                "Compare them with today's: batcher models check",
            )


def _known_share(
    connection: Connection, job_id: int, interval: Callable[[int, int], tuple[float, float]]
) -> SampledShare | None:
    """The share of correct answers among those whose right one was known."""
    correct = func.sum(case((samples.c.correct, 1), else_=0))
    query = select(func.count(), correct).where(
        samples.c.job_id == job_id, samples.c.judged_by == _KNOWN, samples.c.score.is_not(None)
    )
    scored, right = connection.execute(query).one()
    if not scored:
        return None
    low, high = interval(int(right), scored)
    return SampledShare(int(right) / scored, low, high, scored)


def _only_measures(job: Row[Any]) -> bool:
    """Whether a job's answers serve to measure models: whoever asked for that reads the report."""
    return bool(job.purpose != Purpose.ANSWER.value)


def _held_back(connection: Connection, job: Row[Any], reason: str) -> Iterator[Alert]:
    """The caps in the way count as reached: the next call's worst case does not fit under them any more.

    A job that goes on has not reached a cap while calls are in flight under it: most of what is reserved for
    them comes back.
    """
    scopes = [f"{found[1]}:{found[2]}" if found[1] else DAY_SCOPE for found in _CAP.finditer(reason)]
    is_paused = job.state == JobState.PAUSED.value
    what = "is paused" if is_paused else "waits for it"
    for scope in scopes or [_scope(job)]:
        if not is_paused and holds_reserved(connection, scope):
            continue
        title = f"The {cap_name(scope)} is reached: job {job.id} {what}"
        yield Alert(Rule.CAP_100, scope, title, f"{_about(job)}\n{reason}")


def _is_abandoned(connection: Connection, job_id: int, since: float) -> bool:
    """Whether items have been ready since then, and no lease has been held since."""
    steps = step_ids(connection, job_id)
    held = select(leases.c.id).where(
        leases.c.state == LeaseState.ACTIVE.value, leases.c.expires_at > since, leases.c.job_id.in_(steps)
    )
    if connection.execute(held.limit(1)).first() is not None:
        return False
    last = select(func.max(leases.c.expires_at)).where(leases.c.job_id.in_(steps))
    if (connection.execute(last).scalar_one() or 0.0) > since:
        return False
    ready_at = next_chance_at(connection, steps)
    return ready_at is not None and ready_at <= since


def _days_between(earlier: str, later: str) -> int:
    """Days from one YYYY-MM-DD to another; 0 if the earlier one, which a user may have written, is none."""
    try:
        return (date.fromisoformat(later) - date.fromisoformat(earlier)).days
    except ValueError:
        return 0


def _scope(job: Row[Any]) -> str:
    return f"job:{job.id}"


def _about(job: Row[Any]) -> str:
    paths = json.loads(job.paths)
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"Job {job.id}: {job.task} on {paths[0]}{more}." if paths else f"Job {job.id}: {job.task}."
