"""``submit --detach``: the job at once, its corpus read by a process in the background."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import click

from batcher.cli.arguments import JOB_ID
from batcher.cli.output import note
from batcher.domain import JobState
from batcher.errors import BatcherError, UsageError
from batcher.settings import Settings, child_environment

if TYPE_CHECKING:
    from pathlib import Path

    from batcher.engine.ingestion import Intake
    from batcher.runtime import Runtime
    from batcher.store.jobs import Job

_LOGS: Final = "logs"
_RING_EVERY: Final = 10_000


def check_detachable(settings: Settings, paths: tuple[str, ...]) -> None:
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
            [sys.executable, "-m", "batcher.cli", *_named_config(), "ingest", str(job.id)],
            env=child_environment(runtime.settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    note(f"Job {job.id}: its documents are being read in the background, log in {log}")
    note(f"Watch it: batcher status {job.id} --watch")


@click.command("ingest")
@click.argument("job", type=JOB_ID)
@click.pass_obj
def ingest(settings: Settings, job: int) -> None:
    """Read a job's corpus; what submit --detach runs.

    Rings for workers as it goes on, so that they start on what is in.
    """
    from batcher.cli.locking import RunLocks
    from batcher.runtime import Runtime
    from batcher.store.jobs import get_job

    runtime = Runtime(settings)
    with RunLocks(runtime) as locks:
        locks.take(job)
        with runtime.store.read() as connection:
            found = get_job(connection, job)
        if found.state is not JobState.INGESTING:
            raise UsageError(f"Job {job} is {found.state}: its corpus is not being read")
        try:
            intake = _read(runtime, found)
        except _NotWantedError as stopped:
            note(f"Job {job} is {stopped}: its corpus is not read any further.")
            return
        except BaseException as error:
            _pause(runtime, job, str(error) if isinstance(error, BatcherError) else type(error).__name__)
            raise
    note(f"Job {job}: {intake.seen:,} documents read, {intake.rejected:,} of them rejected.")


class _NotWantedError(Exception):
    """The job was paused or cancelled in mid-reading."""


def _read(runtime: Runtime, job: Job) -> Intake:
    from batcher.cli.following import ring_for
    from batcher.engine.submission import finish_ingestion
    from batcher.planning.order import find_image_tier
    from batcher.store.jobs import get_job

    rung_at = 0

    def ring_now_and_then(intake: Intake) -> None:
        nonlocal rung_at
        with runtime.store.read() as connection:
            state = get_job(connection, job.id).state
        if state in {JobState.PAUSED, JobState.CANCELLED}:
            raise _NotWantedError(state)
        if rung_at == 0 or intake.seen >= rung_at + _RING_EVERY:
            rung_at = intake.seen
            ring_for(runtime, [job.id])

    image_tier = find_image_tier(
        runtime.catalog, job.ladder or (job.tier,), job.pinned_model, runtime.is_usable
    )
    intake = finish_ingestion(
        runtime.store,
        job,
        image_tier,
        max_file_bytes=int(runtime.settings.max_file_mb * 1_000_000),
        on_progress=ring_now_and_then,
    )
    ring_for(runtime, [job.id])
    return intake


def _pause(runtime: Runtime, job_id: int, why: str) -> None:
    from batcher.store.jobs import set_state

    with runtime.store.write() as connection:
        set_state(
            connection,
            job_id,
            JobState.PAUSED,
            runtime.store.now(connection),
            reason=f"its corpus could not be read to the end: {why}",
            only=[JobState.INGESTING],
        )


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
