"""``batcher submit``: check the request, take the corpus in, price it, run it, report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batcher.cli.log_lines import LogFormat, begin_log, is_watched
from batcher.cli.output import can_ask, echo_json, note, say
from batcher.cli.request_options import request_options
from batcher.cli.routing_options import (
    allowed_models,
    note_dropped,
    privacy_explained,
    refuse_rehearsal,
    routed,
)
from batcher.errors import PausedError, UsageError
from batcher.settings import Settings

if TYPE_CHECKING:
    from batcher.dispatch.finish_by import FinishBy
    from batcher.engine.ingestion import Intake
    from batcher.engine.submission import Submitted
    from batcher.planning.order import Order, SubmitRequest
    from batcher.runtime import Runtime
    from batcher.store.jobs import Job


@click.command("submit")
@request_options
@click.option("--yes", "-y", is_flag=True, help="Ask nothing; nothing is asked without a terminal either.")
@click.option("--wait/--detach", default=True, help="Run it here and wait (default), or leave it to workers.")
@click.option(
    "--priority",
    type=click.IntRange(-100, 100),
    metavar="N",
    help="Its share of a tier that workers serve: 1 and N, for those below 0 a fraction. Default: 0.",
)
@click.option(
    "--finish-by",
    metavar="TIME",
    help="Be done by HH:MM (the next one, in the configured time_zone) or by an ISO date and time: what is"
    " left then is paused until the next start.",
)
@click.option(
    "--rehearse",
    is_flag=True,
    help="Run it against simulated vendors, without keys and without spending; reports the time, the spend"
    " and the 429s to expect.",
)
@click.option(
    "--faults",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --rehearse: a script of faults, TOML or JSON. See docs/simulator.md",
)
@click.option(
    "--log-format",
    type=click.Choice([log_format.value for log_format in LogFormat]),
    default=LogFormat.TEXT.value,
    show_default=True,
    help="Of the lines on standard error, where that is no terminal.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.pass_obj
def submit(
    settings: Settings,
    request: SubmitRequest,
    yes: bool,
    wait: bool,
    priority: int | None,
    finish_by: str | None,
    rehearse: bool,
    faults: Path | None,
    log_format: str,
    as_json: bool,
) -> int:
    """Put documents through a task, and run it.

    PATHs are files, folders, globs, JSONL, CSV or Parquet tables, or - for JSONL on standard input. What was
    answered before costs nothing; an unfinished job of the same request is taken up. A second start of a
    request that is at work says so, and exits with 1. With BATCHER_BROKER_URL set, workers do the work.
    """
    from batcher.runtime import Runtime

    _check_options(settings, request.paths, wait=wait, rehearse=rehearse, faults=faults)
    request = replace(request, priority=priority)
    way = Way(
        yes=yes, as_json=as_json, detach=not wait, finish_by=finish_by, log_format=LogFormat(log_format)
    )
    if rehearse:
        return _rehearse(Runtime(settings), request, faults, way)
    return submit_request(Runtime(settings), request, way)


def _rehearse(runtime: Runtime, request: SubmitRequest, faults: Path | None, way: Way) -> int:
    from batcher.cli.rehearsing import rehearse_request

    refuse_rehearsal(request.route)
    return rehearse_request(runtime, request, faults, finish_by=way.finish_by, as_json=way.as_json)


def _check_options(
    settings: Settings, paths: Sequence[str], *, wait: bool, rehearse: bool, faults: Path | None
) -> None:
    if faults is not None and not rehearse:
        raise UsageError("--faults spoils simulated calls: give --rehearse too")
    if settings.broker_url is not None:
        from batcher.dispatch.broker import check_broker

        check_broker(settings)
    if not wait:
        from batcher.cli.detaching import check_detachable

        check_detachable(settings, paths)


@dataclass(frozen=True, slots=True)
class Way:
    """How a request is run, and how it tells of it.

    Attributes:
        yes: ask nothing.
        as_json: print the outcome as JSON.
        finish_by: when to be done, as the user wrote it.
        log_format: of the lines where standard error is no terminal.
        detach: leave it to workers, the reading of the corpus to a process in the background.
    """

    yes: bool = False
    as_json: bool = False
    finish_by: str | None = None
    log_format: LogFormat = LogFormat.TEXT
    detach: bool = False


def submit_request(runtime: Runtime, request: SubmitRequest, way: Way) -> int:
    """Run a request to its end and print what it came to; returns the exit code.

    Raises:
        BatcherError: for everything that keeps it from running.
    """
    from batcher.cli.entry_view import note_entry
    from batcher.cli.golden_notes import note_scoring, note_unfit
    from batcher.cli.judging_control import note_own_judge
    from batcher.cli.local_weights import ensure_weights
    from batcher.cli.locking import single_run
    from batcher.engine.submission import open_job
    from batcher.planning.order import corpus_key

    with privacy_explained(runtime, request):
        order = _routed(runtime, _checked(runtime, request, yes=way.yes))
    if not is_watched():
        begin_log(way.log_format)
    finish_by = _read_finish_by(runtime, way.finish_by)
    note_dropped(order)
    note_entry(order, runtime.catalog, runtime.is_usable)
    note_unfit(order)
    note_scoring(order)
    note_own_judge(runtime, [order])
    ensure_weights(runtime, order.model, yes=way.yes)
    key = corpus_key(order)
    with ExitStack() as lock:
        lock.enter_context(single_run(runtime, key))
        _leave_paused_alone(runtime, key)
        if not way.detach:
            return _submit(runtime, order, key, way, finish_by, lock)
        job = open_job(runtime.store, runtime.ledger, order, key)
    from batcher.cli.detaching import leave_reading

    leave_reading(runtime, job)
    if way.as_json:
        echo_json({"job_id": job.id, "state": job.state.value, "model": order.model.name})
    return 0


def _submit(
    runtime: Runtime, order: Order, key: bytes, way: Way, finish_by: FinishBy | None, lock: ExitStack
) -> int:
    from batcher.cli.confirming import confirmed, set_off, waits_for_consent

    hold = waits_for_consent(runtime, yes=way.yes)
    submitted = _take_in(runtime, order, key, hold)
    job = submitted.job
    if not confirmed(runtime, job, yes=way.yes):
        return 1
    if hold is not None:
        set_off(runtime, job)
    if runtime.settings.broker_url is not None:
        # Workers do the rest: others may submit the same meanwhile, or resume it, and watch too.
        lock.close()
    from batcher.cli.digest import read_digest
    from batcher.cli.report import echo_report, echo_sample
    from batcher.cli.running import explain_stop, run_jobs

    run = run_jobs(runtime, [job.id], finish_by)
    explain_stop(run)
    digest = read_digest(runtime, run)
    if way.as_json:
        facts = {"model": order.model.name, "taken_up": submitted.taken_up, "digest": digest.to_json()}
        echo_json(run.views[0].submit_json() | facts)
    elif sys.stdout.isatty():
        echo_sample(runtime.store, job)
        echo_report(run)
    else:
        say("\n".join(digest.lines()))
    if not is_watched() and not run.goes_on:
        runtime.alerts.tell(digest.alert())
    return run.exit_code


def _read_finish_by(runtime: Runtime, text: str | None) -> FinishBy | None:
    if text is None:
        return None
    from batcher.dispatch.finish_by import parse_finish_by

    with runtime.store.read() as connection:
        now = runtime.store.now(connection)
    return parse_finish_by(text, now, runtime.settings.time_zone)


def _leave_paused_alone(runtime: Runtime, key: bytes) -> None:
    """Whoever pauses a job does not want cron to run it; whoever then submits it by hand does."""
    from batcher.engine.submission import PAUSED_BY_USER
    from batcher.store.jobs import find_unfinished

    if can_ask():
        return
    with runtime.store.read() as connection:
        job = find_unfinished(connection, key)
    if job is not None and (job.reason or "").startswith(PAUSED_BY_USER):
        raise PausedError(
            f"Job {job.id} of this request is {job.reason}, and stays so. "
            f"Go on with it: batcher resume {job.id}; give it up: batcher cancel {job.id}"
        )


def _routed(runtime: Runtime, order: Order) -> Order:
    """The order with the model that the evidence asks for, and why, if it is to be routed."""
    with runtime.store.read() as connection:
        order = routed(runtime, order, connection, runtime.store.now(connection))
    if order.routing is not None:
        note(f"{order.routing.reason}.")
    if order.learned is not None:
        from batcher.cli.plan_view import learned_words

        steps = " > ".join(order.learned.models)
        note(f"Learned ladder {order.ladder_policy_id}, {steps}: {learned_words(order.learned)}.")
    return order


def _checked(runtime: Runtime, request: SubmitRequest, *, yes: bool) -> Order:
    """The checked request; without any key a person is offered the local tier."""
    from batcher.planning.order import NoUsableModelError, check_request

    usable = allowed_models(runtime, request.route)
    try:
        return check_request(request, runtime.catalog, usable, runtime.settings.quality)
    except NoUsableModelError as error:
        if yes or not can_ask():
            raise
        note(str(error))
        note("The local tier needs no key: a small model on this machine, whose answers are weak.")
        if not click.confirm("Use the local tier?", err=True):
            raise
    request = replace(request, tier="local")
    return check_request(request, runtime.catalog, usable, runtime.settings.quality)


def _take_in(runtime: Runtime, order: Order, key: bytes, hold: str | None) -> Submitted:
    from batcher.cli.golden_notes import note_unmatched
    from batcher.cli.locking import unfinished_job
    from batcher.cli.reading import ReadingNote
    from batcher.engine.submission import submit as submit_order

    with ReadingNote(find_job=lambda: unfinished_job(runtime, key)) as reading:
        submitted = submit_order(
            runtime.store,
            runtime.ledger,
            order,
            key=key,
            shared=runtime.settings.broker_url is not None,
            hold=hold,
            max_file_bytes=int(runtime.settings.max_file_mb * 1_000_000),
            stdin=sys.stdin.buffer,
            on_take_up=_tell_taken_up,
            on_progress=reading.show,
        )
    _tell_intake(submitted.job, submitted.intake)
    note_unmatched(order.golden)
    return submitted


def _tell_taken_up(job: Job) -> None:
    note(f"Taking up job {job.id}, which was {job.state}{f' ({job.reason})' if job.reason else ''}.")


def _tell_intake(job: Job, intake: Intake) -> None:
    rejected = f", {intake.rejected:,} of them rejected" if intake.rejected else ""
    note(f"Job {job.id}: {intake.seen:,} document{'' if intake.seen == 1 else 's'} read{rejected}.")
