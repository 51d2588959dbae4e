"""``submit --detach``: the job at once, its corpus read by a process in the background."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from batcher.cli.arguments import JOB_ID
from batcher.cli.output import note
from batcher.domain import JobState
from batcher.errors import UsageError
from batcher.processes import PYTHON
from batcher.settings import Settings, child_environment

if TYPE_CHECKING:
    from pathlib import Path

    from batcher.engine.ingestion import Intake
    from batcher.runtime import Runtime
    from batcher.store.jobs import Job

_LOGS: Final = "logs"
_RING_EVERY: Final = 10_000


def check_detachable(settings: Settings, paths: Sequence[str]) -> None:
    """Raise UsageError if there is nobody to leave the work to, or nothing that can be read later."""
    from batcher.documents.paths import STDIN

    if settings.broker_url is None:
        raise UsageError(
            "--detach needs workers, and no broker_url is set. Leave it out: submit then runs the work itself"
        )
    if STDIN in paths:
        raise UsageError("--detach cannot read standard input later on: name a file, or leave --detach out")


def leave_reading(runtime: Runtime, job: Job) -> None:
    """Leave the reading of a job's corpus to a child that outlives this process."""
    log = _log_file(runtime, job.id)
    with log.open("ab") as output:
        subprocess.Popen(  # noqa: S603 - this Python, and our own arguments
            [*PYTHON, "-m", "batcher.cli", *_named_config(), "ingest", str(job.id)],
            env=child_environment(runtime.settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    note(f"Job {job.id}: its documents are being read in the background, log in {log}")
    note(f"Watch it: batcher status {job.id} --watch")
    _warn_if_nobody_hears(runtime)


def _warn_if_nobody_hears(runtime: Runtime) -> None:
    """Say so if the broker cannot be used: the child's own warning is in its log."""
    from batcher.dispatch.broker import ping
    from batcher.errors import DependencyError

    try:
        ping(runtime.settings)
    except DependencyError as error:
        note(f"Warning: {error}. The job is stored, and workers find it when they look")


@click.command("ingest")
@click.argument("job", type=JOB_ID)
@click.pass_obj
def ingest(settings: Settings, job: int) -> None:
    """Read a job's corpus; what submit --detach runs.

    Rings for workers as it goes on, so that they start on what is in.
    """
    from batcher.cli.locking import RunLocks
    from batcher.engine.reading import paused_if_unread
    from batcher.runtime import Runtime
    from batcher.store.jobs import get_job

    runtime = Runtime(settings)
    with RunLocks(runtime) as locks:
        locks.take(job)
        with runtime.store.read() as connection:
            found = get_job(connection, job)
        if found.state is not JobState.INGESTING:
            raise UsageError(f"Job {job} is {found.state}: its corpus is not being read")
        _let_a_stop_be_an_interruption()
        try:
            with paused_if_unread(runtime.store, job):
                intake = _read(runtime, found)
        except _NotWantedError as stopped:
            note(f"Job {job} is {stopped}: its corpus is not read any further.")
            return
    note(f"Job {job}: {intake.seen:,} documents read, {intake.rejected:,} of them rejected.")


class _NotWantedError(Exception):
    """The job was paused or cancelled in mid-reading."""


def _read(runtime: Runtime, job: Job) -> Intake:
    from batcher.cli.following import ring_for
    from batcher.engine.deserted import GONE
    from batcher.engine.submission import finish_ingestion
    from batcher.planning.entry import entry_rules_of
    from batcher.planning.order import find_image_tier
    from batcher.store.jobs import get_job
    from batcher.store.stages import steps_of

    rung_at = 0

    def ring_now_and_then(intake: Intake) -> None:
        nonlocal rung_at
        with runtime.store.read() as connection:
            present = get_job(connection, job.id)
        # Those who held this process to be lost, because it slept, are told otherwise by its reader.
        taken_for_lost = (present.reason or "").startswith(GONE)
        if present.state in {JobState.PAUSED, JobState.CANCELLED} and not taken_for_lost:
            raise _NotWantedError(present.state)
        if rung_at == 0 or intake.seen >= rung_at + _RING_EVERY:
            rung_at = intake.seen
            ring_for(runtime, [job.id])

    with runtime.store.read() as connection:
        first = steps_of(connection, job.id)[0]
    image_tier = find_image_tier(
        runtime.catalog, first.ladder or (first.tier,), first.pinned_model, runtime.is_usable
    )
    intake = finish_ingestion(
        runtime.store,
        job,
        image_tier,
        max_file_bytes=int(runtime.settings.max_file_mb * 1_000_000),
        on_progress=ring_now_and_then,
        rules=entry_rules_of(first, runtime.catalog, runtime.is_usable),
    )
    ring_for(runtime, [job.id])
    return intake


def _let_a_stop_be_an_interruption() -> None:
    """SIGTERM, as a machine that shuts down sends it, leaves the job paused like Ctrl-C does."""
    # Both, whatever it inherited: a shell's background jobs are started with SIGINT ignored.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)


def _log_file(runtime: Runtime, job_id: int) -> Path:
    folder = runtime.settings.home / _LOGS
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / f"ingest-{job_id}.log"
    os.close(os.open(file, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
    return file


def _named_config() -> list[str]:
    """The file that ``--config`` named, if it did."""
    config = click.get_current_context().find_root().params.get("config")
    return [] if config is None else ["--config", str(config.absolute())]
