"""``batcher results``: a job's results as JSON Lines, CSV or Parquet, whole or in mid-run."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from batcher.cli.arguments import JOB_ID
from batcher.cli.output import note, visible
from batcher.errors import UsageError
from batcher.settings import Settings

if TYPE_CHECKING:
    from batcher.store.jobs import Job

_STDOUT = Path("-")


@click.command("results")
@click.argument("job", type=JOB_ID, required=False)
@click.option(
    "--format",
    "named",
    type=click.Choice(["jsonl", "csv", "parquet"]),
    help="Default: by the file's extension, else jsonl.",
)
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Default: standard output. The file appears whole or not at all.",
)
@click.option(
    "--stage", metavar="NAME", help="The answers of this stage of the task, in place of the last one's."
)
@click.pass_obj
def results(
    settings: Settings, job: int | None, named: str | None, path: Path | None, stage: str | None
) -> None:
    """Write a job's results, also in mid-run.

    One line per document that is done, failed, rejected or cancelled, in the order of submission. Without
    JOB, the newest one. A task of several stages gives the answers of its last one, at what all of them
    cost.
    """
    from batcher.export.files import choose_format
    from batcher.export.lines import open_results
    from batcher.export.writers import WRITERS
    from batcher.runtime import Runtime
    from batcher.store.jobs import get_job, newest_job_id
    from batcher.store.stages import steps_of
    from batcher.tasks.spec import TaskSpec

    target = None if path == _STDOUT else path
    chosen = choose_format(named, target)
    store = Runtime(settings).store
    with store.read() as connection:
        found = get_job(connection, newest_job_id(connection) if job is None else job)
        if stage is not None:
            found = _stage(steps_of(connection, found.id), stage)
    with _open(target, chosen) as stream, open_results(store, found) as lines:
        count = WRITERS[chosen](lines, TaskSpec.from_json(found.spec).schema, stream)
    if target is not None:
        note(f"Wrote {count:,} result{'' if count == 1 else 's'} of job {found.id} to {target}")
    elif count == 0:
        note(f"Job {found.id} has no results yet. Watch it: batcher status {found.id} --watch")


def _stage(steps: Sequence[Job], name: str) -> Job:
    """The job of a stage, by its name.

    Raises:
        UsageError: if there is none.
    """
    found = {step.step.partition(".")[2]: step for step in steps[:-1]}
    if name in found:
        return found[name]
    known = f"Its stages before the last: {', '.join(found)}" if found else "Its task has no stages"
    raise UsageError(f"Job {steps[-1].id} has no stage {name!r}. {known}")


@contextmanager
def _open(target: Path | None, chosen: str) -> Iterator[BinaryIO]:
    from batcher.export.files import open_whole

    if target is not None:
        with open_whole(target) as stream:
            yield stream
    elif chosen != "parquet":
        yield cast("BinaryIO", _Screen(sys.stdout.buffer)) if sys.stdout.isatty() else sys.stdout.buffer
        sys.stdout.buffer.flush()
    elif sys.stdout.isatty():
        raise UsageError("Parquet is no text for a screen. Name a file: -o results.parquet")
    else:
        with tempfile.TemporaryFile() as whole:
            yield whole
            whole.seek(0)
            shutil.copyfileobj(whole, sys.stdout.buffer)
        sys.stdout.buffer.flush()


class _Screen(io.BufferedIOBase):
    """A terminal that results are written to: nothing in them may steer it. Files keep the truth."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """Write a piece of UTF-8 that ends at a character's end."""
        text = bytes(data).decode("utf-8", "replace").replace("\r\n", "\n")
        self._target.write(visible(text).encode("utf-8", "replace"))
        return len(data)
