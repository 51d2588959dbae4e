"""``batcher status`` and ``batcher jobs``: how far jobs are."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any

import click

from batcher.cli.arguments import JOB_ID, MANY
from batcher.cli.output import echo_json, echo_table, iso_time, local_time, note, say, usd, visible_line
from batcher.settings import Settings

if TYPE_CHECKING:
    from batcher.budget.ledger import Balance
    from batcher.cli.attendance import Missing
    from batcher.cli.job_view import JobView
    from batcher.domain import ItemStatus
    from batcher.runtime import Runtime
    from batcher.store.jobs import Job

_WATCH_EVERY_S = 1.0


@click.command("status")
@click.argument("job", type=JOB_ID, required=False)
@click.option("--watch", is_flag=True, help="Go on until the job is done, paused or cancelled.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch one line per change.")
@click.pass_obj
def status(settings: Settings, job: int | None, watch: bool, as_json: bool) -> int:
    """How far a job is.

    Without JOB, the newest one.
    """
    if not watch:
        gc.disable()  # it ends before anything is worth collecting, and is to answer within half a second
    from batcher.cli.job_view import read_job_view
    from batcher.cli.reading import notice_deserted
    from batcher.runtime import Runtime
    from batcher.store.jobs import newest_job_id

    runtime = Runtime(settings)
    notice_deserted(runtime)
    if job is None:
        with runtime.store.read() as connection:
            job = newest_job_id(connection)
    view = read_job_view(runtime, job)
    if watch:
        return _watch(runtime, view, as_json=as_json)
    _echo(runtime, view, as_json=as_json)
    return 0


@click.command("jobs")
@click.option("--limit", "-n", type=MANY, default=20, show_default=True, help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def jobs(settings: Settings, limit: int, as_json: bool) -> None:
    """List the jobs, newest first."""
    from batcher.budget.spend import job_balance
    from batcher.cli.reading import notice_deserted
    from batcher.runtime import Runtime
    from batcher.store.jobs import list_jobs
    from batcher.store.stages import count_documents_of

    runtime = Runtime(settings)
    notice_deserted(runtime)
    with runtime.store.read() as connection:
        found = list_jobs(connection, limit=limit)
        counts = count_documents_of(connection, [job.id for job in found])
        balances = {job.id: job_balance(connection, job) for job in found}
    if as_json:
        echo_json([_row_json(job, counts[job.id], balances.get(job.id)) for job in found])
    elif not found:
        note("There are no jobs yet. Start with: batcher submit docs/ --task enrichment")
    else:
        header = ("JOB", "TASK", "TIER", "STATE", "DONE", "FAILED", "ALL", "COST", "SUBMITTED", "REASON")
        rows = [_row(job, counts[job.id], balances.get(job.id)) for job in found]
        echo_table([header, *rows], right=(0, 4, 5, 6, 7))


def _watch(runtime: Runtime, view: JobView, *, as_json: bool) -> int:
    from batcher.cli.job_view import read_job_view
    from batcher.cli.reading import notice_deserted
    from batcher.cli.running import exit_code
    from batcher.domain import JobState

    shown = None
    while True:
        present = (view.job.state, view.items, view.waiting_reason)
        if present != shown:
            shown = present
            if as_json:
                echo_json(view.to_json(), on_one_line=True)
            else:
                _echo_line(view)
        if view.job.state not in {JobState.INGESTING, JobState.RUNNING}:
            break
        time.sleep(_WATCH_EVERY_S)
        notice_deserted(runtime)
        view = read_job_view(runtime, view.job.id)
    if not as_json:
        _echo(runtime, view, as_json=False)
    return exit_code(runtime, view)


def _echo(runtime: Runtime, view: JobView, *, as_json: bool) -> None:
    from batcher.cli.report import next_lines, state_lines

    if as_json:
        echo_json(view.to_json())
        return
    for line in state_lines(view):
        say(line)
    # Workers have two seconds to answer: what is known already does not wait for that.
    for line in next_lines(view, missing=_missing(runtime, view)):
        say(line)


def _missing(runtime: Runtime, view: JobView) -> list[Missing] | None:
    """The workers that a job waits for; None if it waits for none, or they cannot be asked."""
    from batcher.cli.attendance import missing_workers
    from batcher.domain import JobState
    from batcher.errors import BatcherError

    if not view.by_workers or view.has_worker or view.job.state is not JobState.RUNNING:
        return None
    try:
        return missing_workers(runtime, [view.job.id])
    except BatcherError as error:
        note(f"Warning: {error}")
        return None


def _echo_line(view: JobView) -> None:
    from batcher.money import format_usd

    items = ", ".join(f"{count:,} {name}" for name, count in view.items.items() if count)
    cost = format_usd(view.spent_nusd)
    waiting = f"; {view.waiting_reason}" if view.waiting_reason else ""
    say(f"job {view.job.id} {view.job.state}: {items or 'no documents yet'}; {cost}{waiting}")


def _row(job: Job, counts: dict[ItemStatus, int], balance: Balance | None) -> tuple[str, ...]:
    from batcher.domain import ItemStatus, Purpose
    from batcher.money import format_usd

    return (
        str(job.id),
        job.step if job.purpose is Purpose.ANSWER else f"{job.step} ({job.purpose})",
        job.tier,
        job.state,
        f"{counts[ItemStatus.DONE]:,}",
        f"{counts[ItemStatus.FAILED]:,}",
        f"{sum(counts.values()):,}",
        format_usd(balance.spent_nusd if balance else 0),
        local_time(job.created_at),
        visible_line(job.reason or job.waiting_reason or ""),
    )


def _row_json(job: Job, counts: dict[ItemStatus, int], balance: Balance | None) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "task": job.task,
        "step": job.step,
        "part_of": job.parent_id,
        "purpose": job.purpose.value,
        "tier": job.tier,
        "model": job.pinned_model,
        "state": job.state.value,
        "reason": job.reason,
        "waiting_reason": job.waiting_reason,
        "items": {name.value: count for name, count in counts.items()},
        "total": sum(counts.values()),
        "cost_usd": usd(balance.spent_nusd if balance else 0),
        "created_at": iso_time(job.created_at),
        "finished_at": iso_time(job.finished_at),
        "paths": list(job.paths),
    }
