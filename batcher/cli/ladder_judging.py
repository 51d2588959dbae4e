"""What a ladder is learned from: known documents' answers, all of them, and a judge's word on them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from batcher.cli.output import local_time, note

if TYPE_CHECKING:
    from batcher.errors import UnfinishedError
    from batcher.planning.ladder_checks import RungJudging
    from batcher.routing.ladder.records import GoldenRow
    from batcher.runtime import Runtime
    from batcher.store.jobs import Job


def judged_by(
    runtime: Runtime, judging: RungJudging, task: str, rows: list[GoldenRow], *, yes: bool
) -> list[GoldenRow]:
    """Ask for the verdicts that are not there yet.

    Args:
        runtime: what it runs on.
        judging: who judges, and what is asked.
        task: the task's name.
        rows: known documents with the answers of several models.
        yes: ask nothing before the judge is.

    Returns:
        The rows with all verdicts that can be had.

    Raises:
        UnfinishedError: if the judge was stopped, or its price not agreed to.
    """
    from batcher.planning.ladder_checks import judged_rows, worth_judging

    models = worth_judging(rows, judging.model.name)
    _ask(runtime, judging, task, rows, models, yes=yes)
    with runtime.store.read() as connection:
        return judged_rows(connection, rows, judging, models)


def _ask(
    runtime: Runtime,
    judging: RungJudging,
    task: str,
    rows: list[GoldenRow],
    models: frozenset[str],
    *,
    yes: bool,
) -> None:
    from batcher.cli.confirming import agreed, price_job, set_off
    from batcher.cli.locking import single_run
    from batcher.cli.running import EXIT_INCOMPLETE, explain_stop, run_jobs
    from batcher.domain import JobState
    from batcher.engine.grading_jobs import grading_key, open_grading_job
    from batcher.money import format_usd
    from batcher.planning.ladder_checks import questions

    with ExitStack() as locks:
        locks.enter_context(single_run(runtime, grading_key(judging)))
        asked = questions(rows, judging, models)
        job = open_grading_job(runtime.store, runtime.ledger, judging, task, asked)
        if job.state is JobState.DONE:
            note(f"Job {job.id}, judge {judging.model.name}: nothing left to ask.")
            return
        price = price_job(runtime, job).all
        note(
            f"Job {job.id}, judge {judging.model.name}: {price.items:,} answers to look at, about "
            f"{format_usd(price.likely_nusd)}, at most {format_usd(price.worst_nusd)}. "
            "The caps hold in any case."
        )
        if not agreed(runtime, [job], price.worst_nusd, yes=yes):
            raise not_learned(runtime, [job.id], EXIT_INCOMPLETE)
        set_off(runtime, job)
        if runtime.settings.broker_url is not None:
            locks.close()
        run = run_jobs(runtime, [job.id])
    explain_stop(run)
    # Answers that it could not judge are learned from without its word.
    if any(view.job.state is not JobState.DONE for view in run.views):
        raise not_learned(runtime, [job.id], run.exit_code)


def check_measured(runtime: Runtime, jobs: Sequence[Job] | None, code: int) -> list[Job]:
    """The measured models' jobs, all at their end.

    Args:
        runtime: where they are.
        jobs: what ``measure_models`` gave; None: its price was not agreed to.
        code: the exit code of measuring.

    Raises:
        UnfinishedError: if they are not.
    """
    from batcher.domain import JobState
    from batcher.errors import UnfinishedError
    from batcher.store.jobs import get_job

    if jobs is None:
        raise UnfinishedError("No ladder was learned: the price of measuring was not agreed to", code)
    with runtime.store.read() as connection:
        found = [get_job(connection, job.id) for job in jobs]
    if code > 1 or any(job.state is not JobState.DONE for job in found):
        raise not_learned(runtime, [job.id for job in found], max(code, 1))
    return found


def not_learned(runtime: Runtime, job_ids: Sequence[int], code: int) -> UnfinishedError:
    """That no ladder was learned because jobs which it rests on were stopped, and what to do.

    Args:
        runtime: where the jobs are.
        job_ids: those that were to end, in any state; judges of their answers are looked at too.
        code: the exit code that this asks for.
    """
    from batcher.cli.budget import raising_commands
    from batcher.cli.judging_control import state_of
    from batcher.domain import JobState
    from batcher.errors import UnfinishedError
    from batcher.store.jobs import get_job

    with runtime.store.read() as connection:
        jobs = [get_job(connection, job_id) for job_id in job_ids]
    judging = [found for job in jobs if (found := state_of(runtime, job)) is not None]
    jobs += [judge for found in judging for judge in found.jobs]
    left = [job for job in jobs if job.state is not JobState.DONE]
    told = [
        f"job {job.id} ({job.pinned_model}) is {job.state}" + (f" ({job.reason})" if job.reason else "")
        for job in left
    ]
    why = "; ".join(told) or "its models are not measured to the end, see: batcher jobs"
    raising = list(dict.fromkeys(one for job in left for one in raising_commands(job.reason or "")))
    later = max((job.resume_at or 0 for job in left), default=0)
    wait = f", or, where a day's cap has room, wait until {local_time(later)}" if later else ""
    first = f"Raise the cap: {' and '.join(raising)}{wait}; then start" if raising else "Start"
    return UnfinishedError(
        f"No ladder was learned: {why}. {first} this command again: what was asked is not paid for again.",
        code,
    )
