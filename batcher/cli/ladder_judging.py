"""Has a judge look at known documents' answers, so that a ladder can learn what its word is worth."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from batcher.cli.output import note

if TYPE_CHECKING:
    from batcher.planning.ladder_checks import RungJudging
    from batcher.routing.ladder.records import GoldenRow
    from batcher.runtime import Runtime


def judged_by(
    runtime: Runtime, judging: RungJudging, task: str, rows: list[GoldenRow], *, yes: bool
) -> tuple[int, list[GoldenRow]]:
    """Ask for the verdicts that are not there yet.

    Args:
        runtime: what it runs on.
        judging: who judges, and what is asked.
        task: the task's name.
        rows: known documents with the answers of several models.
        yes: ask nothing before the judge is.

    Returns:
        The exit code, 0 if all verdicts are there that can be, and the rows with them.
    """
    from batcher.planning.ladder_checks import judged_rows, worth_judging

    models = worth_judging(rows, judging.model.name)
    code = _asked(runtime, judging, task, rows, models, yes=yes)
    with runtime.store.read() as connection:
        return code, judged_rows(connection, rows, judging, models)


def _asked(
    runtime: Runtime,
    judging: RungJudging,
    task: str,
    rows: list[GoldenRow],
    models: frozenset[str],
    *,
    yes: bool,
) -> int:
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
            return 0
        price = price_job(runtime, job).all
        note(
            f"Job {job.id}, judge {judging.model.name}: {price.items:,} answers to look at, about "
            f"{format_usd(price.likely_nusd)}, at most {format_usd(price.worst_nusd)}. "
            "The caps hold in any case."
        )
        if not agreed(runtime, [job], price.worst_nusd, yes=yes):
            return EXIT_INCOMPLETE
        set_off(runtime, job)
        if runtime.settings.broker_url is not None:
            locks.close()
        run = run_jobs(runtime, [job.id])
    explain_stop(run)
    # Answers that it could not judge are learned from without its word.
    return 0 if all(view.job.state is JobState.DONE for view in run.views) else run.exit_code
