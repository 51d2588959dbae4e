"""``batcher retry``, ``resume``, ``pause`` and ``cancel``: a job's way after it was submitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from batcher.cli.arguments import JOB_ID
from batcher.cli.output import echo_json, note, say
from batcher.errors import BatcherError, BusyError, UsageError
from batcher.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from batcher.cli.locking import RunLocks
    from batcher.cli.running import Run
    from batcher.runtime import Runtime
    from batcher.store.jobs import Job

_CLASSES = (
    *("rate_limited", "overloaded", "transient", "unknown_outcome", "account", "bad_request"),
    *("too_long", "truncated", "invalid_output", "refused"),
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")


@click.command("retry")
@click.argument("job", type=JOB_ID)
@click.option("--class", "failure", type=click.Choice(_CLASSES), help="Only failures of this class.")
@_JSON
@click.pass_obj
def retry(settings: Settings, job: int, failure: str | None, as_json: bool) -> int:
    """Try failed items of a job again, and ask its judges again what failed there."""
    from batcher.cli.judging_control import (
        ask_judges_again,
        has_failed_questions,
        with_corrected_judge,
    )
    from batcher.cli.locking import RunLocks
    from batcher.domain import JobState
    from batcher.runtime import Runtime
    from batcher.store.jobs import set_state
    from batcher.store.steps import reopen_stages

    runtime = Runtime(settings)
    with runtime.store.read() as connection:
        found = _whole_job(connection, job)
    with_corrected_judge(runtime, found)
    has_failed = _has_failed(runtime, job, failure)
    if not has_failed and not has_failed_questions(runtime, job, failure):
        note(f"Job {job} has no failed items{f' of class {failure}' if failure else ''}.")
        return _tell(runtime, job, as_json=as_json)
    with RunLocks(runtime) as locks:
        locks.take(job)
        if has_failed or found.state is not JobState.DONE:
            _set_going(runtime, found)
        if has_failed:
            with runtime.store.write() as connection:
                count = _bring_back(connection, runtime, job, failure)
                now = runtime.store.now(connection)
                # A worker that looked in between has found nothing left to do, and ended it again.
                set_state(connection, job, JobState.RUNNING, now, only=[JobState.DONE])
                reopen_stages(connection, job, now)
            note(f"Job {job}: trying {count:,} item{'' if count == 1 else 's'} again.")
        ask_judges_again(runtime, job, [failure])
        _leave_to_workers(runtime, locks)
        return _run_one(runtime, job, as_json=as_json)


@click.command("resume")
@click.argument("job", type=JOB_ID, required=False)
@_JSON
@click.pass_obj
def resume(settings: Settings, job: int | None, as_json: bool) -> int:
    """Go on with a job, or with all unfinished ones.

    Without JOB: all that no process is running and that you did not pause yourself. Its judges go on with it,
    also where it is done and they are not.
    """
    from batcher.cli.judging_control import let_judges_go_on
    from batcher.cli.locking import RunLocks
    from batcher.domain import JobState
    from batcher.runtime import Runtime

    runtime = Runtime(settings)
    if job is not None:
        with runtime.store.read() as connection:
            found = _whole_job(connection, job)
        with RunLocks(runtime) as locks:
            locks.take(job)
            if found.state is not JobState.DONE:
                _set_going(runtime, found)
            if not let_judges_go_on(runtime, found) and found.state is JobState.DONE:
                note(f"Job {job} is done.")
                return _tell(runtime, job, as_json=as_json)
            _leave_to_workers(runtime, locks)
            return _run_one(runtime, job, as_json=as_json)
    return _resume_all(runtime, as_json=as_json)


@click.command("pause")
@click.argument("job", type=JOB_ID)
@click.pass_obj
def pause(settings: Settings, job: int) -> None:
    """Stop a job until it is resumed."""
    from batcher.domain import JobState
    from batcher.engine.children import pause_children
    from batcher.engine.submission import PAUSED_BY_USER
    from batcher.runtime import Runtime
    from batcher.store.jobs import set_pause_reason, set_state

    runtime = Runtime(settings)
    with runtime.store.write() as connection:
        found = _whole_job(connection, job)
        now = runtime.store.now(connection)
        changed = set_state(connection, job, JobState.PAUSED, now, reason=PAUSED_BY_USER)
        if not changed and not set_pause_reason(connection, job, PAUSED_BY_USER):
            raise UsageError(f"Job {job} is {found.state} and cannot be paused.")
        pause_children(connection, job, now, PAUSED_BY_USER)
    note(f"Job {job} is paused. What is in flight is still stored. Go on with: batcher resume {job}")


@click.command("cancel")
@click.argument("job", type=JOB_ID)
@click.pass_obj
def cancel(settings: Settings, job: int) -> None:
    """Stop a job for good.

    Answers that it has stay, and are reused by later jobs.
    """
    from batcher.domain import JobState
    from batcher.engine.children import cancel_children
    from batcher.engine.reclaiming import reclaim_lost
    from batcher.runtime import Runtime
    from batcher.store.job_items import cancel_pending
    from batcher.store.jobs import set_state

    runtime = Runtime(settings)
    reclaim_lost(runtime.store, runtime.ledger)
    with runtime.store.write() as connection:
        found = _whole_job(connection, job)
        if found.state is JobState.CANCELLED:
            note(f"Job {job} is cancelled already.")
            return
        if not set_state(connection, job, JobState.CANCELLED, runtime.store.now(connection)):
            raise UsageError(f"Job {job} is {found.state}: there is nothing to cancel.")
        count = cancel_pending(connection, job)
        held = _count_held(connection, job)
        cancel_children(connection, job, runtime.store.now(connection))
    dropped = f"{count:,} item{'' if count == 1 else 's'} dropped"
    if found.state is JobState.INGESTING:
        dropped += " so far: so is what is still read of its corpus"
    if held:
        dropped += f"; workers hold {held:,} more: those that are not sent yet are dropped too"
    note(f"Job {job} is cancelled, {dropped}. Its answers stay.")


def _count_held(connection: Connection, job_id: int) -> int:
    """How many items workers hold: they drop what they have not sent, and store what they have."""
    from batcher.domain import ItemStatus
    from batcher.store.item_counts import count_items_of
    from batcher.store.steps import step_ids

    counts = count_items_of(connection, step_ids(connection, job_id))
    return sum(count[ItemStatus.LEASED] for count in counts.values())


def _whole_job(connection: Connection, job_id: int) -> Job:
    """The job, if it is none that others go along with."""
    from batcher.store.jobs import get_job

    job = get_job(connection, job_id)
    if job.is_stage:
        raise UsageError(
            f"Job {job_id} is a stage of job {job.parent_id} and goes where that goes: name that"
        )
    return job


def _has_failed(runtime: Runtime, job_id: int, failure: str | None) -> bool:
    from batcher.domain import ItemStatus
    from batcher.store.item_counts import count_errors
    from batcher.store.steps import step_ids

    with runtime.store.read() as connection:
        steps = step_ids(connection, job_id)
        failed = {name for step in steps for name in count_errors(connection, step, ItemStatus.FAILED)}
    return bool(failed) if failure is None else failure in failed


def _bring_back(connection: Connection, runtime: Runtime, job_id: int, failure: str | None) -> int:
    """Bring failed items back, each in the step where it failed; returns how many."""
    from batcher.store.job_items import retry_failed
    from batcher.store.stages import steps_of

    return sum(
        retry_failed(connection, step.id, failure, step.tier, _image_tier(runtime, step))
        for step in steps_of(connection, job_id)
    )


def _leave_to_workers(runtime: Runtime, locks: RunLocks) -> None:
    """Where workers go on with what was set going, others may submit or resume the same meanwhile."""
    if runtime.settings.broker_url is not None:
        locks.close()


def _resumable(runtime: Runtime) -> list[Job]:
    """Unfinished jobs, oldest first, but those that the user paused, and those that another process runs.

    Workers share theirs: those jobs are rung for again.
    """
    from batcher.engine.reclaiming import reclaim_lost
    from batcher.engine.submission import PAUSED_BY_USER
    from batcher.store.jobs import UNFINISHED, list_jobs
    from batcher.store.leases import active_workers

    reclaim_lost(runtime.store, runtime.ledger)
    shared = runtime.settings.broker_url is not None
    with runtime.store.read() as connection:
        unfinished = list_jobs(connection, UNFINISHED)
        return [
            job
            for job in reversed(unfinished)
            if not job.is_stage
            and (shared or not active_workers(connection, job.id))
            and not (job.reason or "").startswith(PAUSED_BY_USER)
        ]


def _set_going(runtime: Runtime, job: Job) -> None:
    """Set a job running, after its corpus has been read to the end."""
    from batcher.cli.reading import ReadingNote
    from batcher.domain import JobState
    from batcher.engine.submission import can_be_read_again, finish_ingestion, take_up
    from batcher.planning.entry import entry_rules_of
    from batcher.store.reading import is_half_read
    from batcher.store.stages import steps_of

    # A job starts when its first ingestion is complete: one paused before that is half read too.
    with runtime.store.read() as connection:
        half_read = job.state is JobState.INGESTING or job.started_at is None
        half_read = half_read or is_half_read(connection, job.id)
    if half_read and not can_be_read_again(job):
        note(
            f"Job {job.id} was still reading standard input, which cannot be read again: going on with what "
            "was stored. Submit the rest anew; what is answered costs nothing."
        )
        half_read = False
    target = JobState.INGESTING if half_read else JobState.RUNNING
    shared = runtime.settings.broker_url is not None
    taken = take_up(runtime.store, runtime.ledger, job.id, target, shared=shared)
    if half_read:
        with runtime.store.read() as connection:
            first = steps_of(connection, job.id)[0]
        with ReadingNote(find_job=lambda: job.id) as reading:
            finish_ingestion(
                runtime.store,
                taken,
                _image_tier(runtime, first),
                max_file_bytes=int(runtime.settings.max_file_mb * 1_000_000),
                on_progress=reading.show,
                rules=entry_rules_of(first, runtime.catalog, runtime.is_usable),
            )


def _image_tier(runtime: Runtime, job: Job) -> str | None:
    from batcher.planning.order import find_image_tier

    return find_image_tier(runtime.catalog, job.ladder or (job.tier,), job.pinned_model, runtime.is_usable)


def _resume_all(runtime: Runtime, *, as_json: bool) -> int:
    """Go on with every job that can; one that cannot does not keep the others from it."""
    from batcher.cli.locking import RunLocks

    with RunLocks(runtime) as locks:
        going, code = _set_all_going(runtime, locks)
        _leave_to_workers(runtime, locks)
        if going:
            run = _run(runtime, going, silent=as_json)
            code = run.exit_code if run.interrupted else max(code, run.exit_code)
            if as_json:
                echo_json([view.submit_json() for view in run.views])
            return code
    note("There is nothing to resume." if code == 0 else "There is nothing else to resume.")
    if as_json:
        echo_json([])
    return code


def _set_all_going(runtime: Runtime, locks: RunLocks) -> tuple[list[int], int]:
    going, code = [], 0
    for job in _resumable(runtime):
        try:
            locks.take(job.id)
            _set_going(runtime, job)
        except BusyError:
            continue
        except BatcherError as error:
            note(f"Job {job.id}: {error}")
            code = max(code, error.exit_code)
        else:
            going.append(job.id)
    return going, code


def _run_one(runtime: Runtime, job_id: int, *, as_json: bool) -> int:
    run = _run(runtime, [job_id], silent=as_json)
    if as_json:
        echo_json(run.views[0].submit_json())
    return run.exit_code


def _run(runtime: Runtime, job_ids: Sequence[int], *, silent: bool = False) -> Run:
    from batcher.cli.report import echo_report
    from batcher.cli.running import explain_stop, run_jobs

    run = run_jobs(runtime, job_ids)
    explain_stop(run)
    if not silent:
        echo_report(run)
    return run


def _tell(runtime: Runtime, job_id: int, *, as_json: bool) -> int:
    """Report on a job that there is nothing to run for."""
    from batcher.cli.job_view import read_job_view
    from batcher.cli.report import report_lines
    from batcher.cli.running import exit_code

    view = read_job_view(runtime, job_id)
    if as_json:
        echo_json(view.submit_json())
    else:
        for line in report_lines(view):
            say(line)
    return exit_code(runtime, view)
