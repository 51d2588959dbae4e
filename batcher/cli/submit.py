"""``batcher submit``: check the request, take the corpus in, price it, run it, report."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batcher.cli.arguments import MANY
from batcher.cli.output import can_ask, echo_json, note
from batcher.errors import ConfigurationError, UsageError
from batcher.settings import Settings

if TYPE_CHECKING:
    from batcher.engine.ingestion import Intake
    from batcher.engine.submission import Submitted
    from batcher.planning.order import Order, SubmitRequest
    from batcher.runtime import Runtime
    from batcher.store.jobs import Job


@click.command("submit")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--task", "-t", required=True, help="A task's name, or the path of one. See: batcher tasks list"
)
@click.option(
    "--param", "-p", "params", multiple=True, metavar="K=V", help="A parameter of the task; repeatable."
)
@click.option("--tier", help="Where to start. Default: what the task says.")
@click.option("--model", help="This model and no other. See: batcher models list")
@click.option("--limit", type=MANY, help="Stop reading after so many documents.")
@click.option("--refresh", is_flag=True, help="Ask anew, although there are answers.")
@click.option("--max-cost", metavar="USD", help="This job's own cap, beside the daily one.")
@click.option("--yes", "-y", is_flag=True, help="Ask nothing; nothing is asked without a terminal either.")
@click.option("--wait/--detach", default=True, help="Run it here and wait (default), or leave it to workers.")
@click.option(
    "--golden",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Known answers: accuracy is measured on them.",
)
@click.option("--text-column", metavar="NAME", help="Column of a table that holds the text.")
@click.option("--id-column", metavar="NAME", help="Column of a table that names its rows.")
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
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.pass_obj
def submit(
    settings: Settings,
    paths: tuple[str, ...],
    task: str,
    params: tuple[str, ...],
    tier: str | None,
    model: str | None,
    limit: int | None,
    refresh: bool,
    max_cost: str | None,
    yes: bool,
    wait: bool,
    golden: Path | None,
    text_column: str | None,
    id_column: str | None,
    rehearse: bool,
    faults: Path | None,
    as_json: bool,
) -> int:
    """Put documents through a task, and run it.

    PATHs are files, folders, globs, JSONL, CSV or Parquet tables, or - for JSONL on standard input. What was
    answered before costs nothing; an unfinished job of the same request is taken up.
    """
    from batcher.money import usd_to_nusd
    from batcher.planning.order import SubmitRequest
    from batcher.runtime import Runtime
    from batcher.tasks.params import parse_assignments

    if faults is not None and not rehearse:
        raise UsageError("--faults spoils simulated calls: give --rehearse too")
    if not wait:
        _refuse_detach(settings)
    request = SubmitRequest(
        paths=paths,
        task=task,
        params=parse_assignments(params),
        tier=tier,
        model=model,
        limit=limit,
        refresh=refresh,
        max_cost_nusd=None if max_cost is None else usd_to_nusd(max_cost),
        golden=golden,
        text_column=text_column,
        id_column=id_column,
    )
    if rehearse:
        from batcher.cli.rehearsing import rehearse_request

        return rehearse_request(Runtime(settings), request, faults, as_json=as_json)
    return _submit(Runtime(settings), request, yes=yes, as_json=as_json)


def _refuse_detach(settings: Settings) -> None:
    if settings.broker_url is None:
        raise UsageError(
            "--detach needs workers, and no broker_url is set. Leave it out: submit then runs the work itself"
        )
    raise ConfigurationError(
        "A broker_url is set, but this version cannot hand work to Celery yet; a later one will. Use --wait"
    )


def _submit(runtime: Runtime, request: SubmitRequest, *, yes: bool, as_json: bool) -> int:
    from batcher.cli.golden_notes import note_unfit
    from batcher.cli.local_weights import ensure_weights

    order = _checked(runtime, request, yes=yes)
    if order.dropped_rungs:
        note(f"Without a key for {' and '.join(order.dropped_rungs)}: no answer climbs there.")
    note_unfit(order)
    ensure_weights(runtime, order.model, yes=yes)
    submitted = _take_in(runtime, order)
    job = submitted.job
    if not _confirmed(runtime, job, yes=yes):
        return 1
    from batcher.cli.report import echo_report, echo_sample
    from batcher.cli.running import explain_stop, run_jobs

    run = run_jobs(runtime, [job.id])
    explain_stop(run)
    if as_json:
        echo_json(run.views[0].submit_json() | {"model": order.model.name, "taken_up": submitted.taken_up})
    else:
        if sys.stdout.isatty():
            echo_sample(runtime.store, job)
        echo_report(run)
    return run.exit_code


def _checked(runtime: Runtime, request: SubmitRequest, *, yes: bool) -> Order:
    """The checked request; without any key a person is offered the local tier."""
    from batcher.planning.order import NoUsableModelError, check_request

    try:
        return check_request(request, runtime.catalog, runtime.is_usable)
    except NoUsableModelError as error:
        if yes or not can_ask():
            raise
        note(str(error))
        note("The local tier needs no key: a small model on this machine, whose answers are weak.")
        if not click.confirm("Use the local tier?", err=True):
            raise
    return check_request(replace(request, tier="local"), runtime.catalog, runtime.is_usable)


def _take_in(runtime: Runtime, order: Order) -> Submitted:
    from batcher.cli.golden_notes import note_unmatched
    from batcher.cli.reading import ReadingNote
    from batcher.engine.submission import submit as submit_order

    with ReadingNote(resumable=True) as reading:
        submitted = submit_order(
            runtime.store,
            runtime.ledger,
            order,
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


def _confirmed(runtime: Runtime, job: Job, *, yes: bool) -> bool:
    """Tell the price; on a terminal, ask if it may be more than the user wants to be asked for."""
    from batcher.money import format_usd, usd_to_nusd
    from batcher.planning.pricing import price_pending

    with runtime.store.read() as connection:
        price = price_pending(connection, job, runtime.catalog, runtime.is_usable)
    if price.worst_nusd == 0:
        return True
    note(
        f"Price of {price.calls:,} call{'' if price.calls == 1 else 's'}: about "
        f"{format_usd(price.likely_nusd)}; with a repair and a climb of every answer at most "
        f"{format_usd(price.worst_nusd)}. The caps hold in any case."
    )
    limit_nusd = usd_to_nusd(str(runtime.settings.confirm_above_usd))
    if yes or price.worst_nusd <= limit_nusd or not can_ask():
        return True
    try:
        if click.confirm("Go on?", err=True):
            return True
    except click.Abort:
        _put_off(runtime, job)
        raise
    _put_off(runtime, job)
    return False


def _put_off(runtime: Runtime, job: Job) -> None:
    from batcher.domain import JobState
    from batcher.engine.submission import PAUSED_BY_USER
    from batcher.store.jobs import set_state

    reason = f"{PAUSED_BY_USER}: the price was not agreed to"
    with runtime.store.write() as connection:
        set_state(connection, job.id, JobState.PAUSED, runtime.store.now(connection), reason=reason)
    note(f"Nothing was spent. Run it with: batcher resume {job.id}, drop it with: batcher cancel {job.id}")
