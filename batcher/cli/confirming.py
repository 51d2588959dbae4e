"""The price of a job, told before it runs; on a terminal, the question whether to go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batcher.cli.output import can_ask, note

if TYPE_CHECKING:
    from batcher.planning.judging import JudgingPrice
    from batcher.planning.pricing import Price
    from batcher.runtime import Runtime
    from batcher.store.jobs import Job
    from batcher.tasks.golden import Golden


def waits_for_consent(runtime: Runtime, *, yes: bool) -> str | None:
    """Why workers are not to start on a job before its price is agreed to; None if they may at once."""
    from batcher.engine.submission import PAUSED_BY_USER

    if runtime.settings.broker_url is None or yes or not can_ask():
        return None
    return f"{PAUSED_BY_USER}: its price is not agreed to yet"


def set_off(runtime: Runtime, job: Job) -> None:
    """Let workers start on a job that waited for consent."""
    from batcher.domain import JobState
    from batcher.store.jobs import set_state

    with runtime.store.write() as connection:
        now = runtime.store.now(connection)
        set_state(connection, job.id, JobState.RUNNING, now, only=[JobState.PAUSED])


def confirmed(runtime: Runtime, job: Job, *, yes: bool) -> bool:
    """Tell the price and keep it with the job; on a terminal, ask if it may be more than the user's limit.

    Args:
        runtime: settings, store and catalogue.
        job: a job whose corpus is in the store.
        yes: ask nothing.

    Returns:
        Whether to go on; if not, the job is paused.
    """
    from batcher.money import format_usd

    priced = price_job(runtime, job)
    price = priced.all
    spent = f" Spent on it so far: {format_usd(priced.spent_nusd)}." if priced.spent_nusd else ""
    if price.worst_nusd == 0:
        if spent:
            note(f"Nothing is left to pay for.{spent}")
        return True
    calls = f"{price.calls:,} call{'' if price.calls == 1 else 's'}" if price.calls else "judging"
    note(
        f"Price of {calls}: about {format_usd(price.likely_nusd)}; with a repair and a climb of every answer "
        f"at most {format_usd(price.worst_nusd)}. The caps hold in any case.{spent}"
    )
    if priced.judging is not None:
        note(f"Of that, {judging_note(priced.judging)}.")
    return agreed(runtime, [job], price.worst_nusd, yes=yes)


def judging_note(judging: JudgingPrice) -> str:
    """What judging is part of a price."""
    from batcher.money import format_usd

    answers = f"{judging.answers:,} answer{'' if judging.answers == 1 else 's'}"
    likely, worst = judging.price.likely_nusd, judging.price.worst_nusd
    return (
        f"judging about {answers} by {judging.judge}: about {format_usd(likely)}, at most {format_usd(worst)}"
    )


@dataclass(frozen=True, slots=True)
class PricedJob:
    """What is left of a job and what that costs: all of it, and judging, which is a part.

    Attributes:
        spent_nusd: what the job has cost before: workers may have begun while its corpus was read.
    """

    all: Price
    judging: JudgingPrice | None
    spent_nusd: int


def agreed(runtime: Runtime, jobs: Sequence[Job], worst_nusd: int, *, yes: bool) -> bool:
    """Whether to go on at this price: asked on a terminal, if it may be more than the user's limit.

    If not, the jobs are paused.
    """
    from batcher.money import usd_to_nusd

    limit_nusd = usd_to_nusd(str(runtime.settings.confirm_above_usd))
    if yes or worst_nusd <= limit_nusd or not can_ask():
        return True
    try:
        if click.confirm("Go on?", err=True):
            return True
    except click.Abort:
        _put_off(runtime, jobs)
        raise
    _put_off(runtime, jobs)
    return False


def price_job(runtime: Runtime, job: Job) -> PricedJob:
    """The price of what has not ended; where that is something, it is kept as the job's estimate."""
    from batcher.budget.ledger import job_account
    from batcher.engine.submission import Sources
    from batcher.planning.evidence import known_answers
    from batcher.planning.record import Estimate
    from batcher.store.jobs import set_estimate
    from batcher.tasks.golden import load_golden
    from batcher.tasks.spec import TaskSpec

    path = Sources.of(job).golden
    golden = known_answers(
        load_golden(path) if path and Path(path).is_file() else None,
        runtime.find_task(TaskSpec.from_json(job.spec)),
    )
    price, judging = price_rest(runtime, job, golden)
    with runtime.store.read() as connection:
        account = next(iter(runtime.ledger.balances(connection, [job_account(job.id)])), None)
        now = runtime.store.now(connection)
    spent_nusd = account.spent_nusd if account else 0
    if price.items:
        judging_nusd = judging.price.likely_nusd if judging is not None else 0
        found = Estimate.of(price, spent_nusd, now, judging_nusd)
        with runtime.store.write() as connection:
            set_estimate(connection, job.id, found.to_json())
    return PricedJob(price, judging, spent_nusd)


def price_rest(
    runtime: Runtime, job: Job, golden: Sequence[Golden] = ()
) -> tuple[Price, JudgingPrice | None]:
    """What has not ended of a job, priced by what is known now; and the judging that is a part of it.

    Args:
        runtime: store and catalogue.
        job: the job.
        golden: known answers, for the length of a usual one before any was measured.
    """
    from batcher.planning.judging import price_judging
    from batcher.planning.stages import price_steps
    from batcher.store.stages import steps_of

    with runtime.store.read() as connection:
        steps = steps_of(connection, job.id)
        price = price_steps(connection, steps, runtime.catalog, runtime.is_usable, golden)
        judging = price_judging(connection, steps, runtime.catalog, runtime.judges.usable_for(job))
    return (price if judging is None else price + judging.price), judging


def _put_off(runtime: Runtime, jobs: Sequence[Job]) -> None:
    from batcher.domain import JobState
    from batcher.engine.submission import PAUSED_BY_USER
    from batcher.store.jobs import set_pause_reason, set_state

    reason = f"{PAUSED_BY_USER}: the price was not agreed to"
    with runtime.store.write() as connection:
        now = runtime.store.now(connection)
        for job in jobs:
            if not set_state(connection, job.id, JobState.PAUSED, now, reason=reason):
                set_pause_reason(connection, job.id, reason)
    one = jobs[0].id
    if len(jobs) == 1:
        note(f"Nothing was spent. Run it with: batcher resume {one}, drop it with: batcher cancel {one}")
        return
    note(
        f"Nothing was spent. Jobs {', '.join(str(job.id) for job in jobs)} are paused: the same command takes"
        " them up, batcher resume JOB runs one, batcher cancel JOB drops it."
    )
