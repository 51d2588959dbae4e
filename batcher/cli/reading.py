"""Shows how far the reading of a corpus is, if it takes long enough to wonder."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Self

import click

from batcher.cli.output import note

if TYPE_CHECKING:
    from batcher.engine.ingestion import Intake
    from batcher.runtime import Runtime

_LINE_EVERY_S: Final = 30.0
_REDRAW_EVERY_S: Final = 0.25


class ReadingNote:
    """One line, redrawn in place on a terminal, and a new one every half a minute elsewhere.

    Args:
        find_job: finds the job for which what was read stays, so that Ctrl-C is answered with how to go on.
    """

    def __init__(self, *, find_job: Callable[[], int | None] | None = None) -> None:
        self._find_job = find_job
        self._live = sys.stderr.isatty()
        self._every_s = _REDRAW_EVERY_S if self._live else _LINE_EVERY_S
        self._next_at = time.monotonic() + self._every_s
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._drawn and self._live:
            click.echo("\r\033[K", nl=False, err=True)
        if kind is KeyboardInterrupt and self._find_job and (job := self._find_job()) is not None:
            note(f"What was read stays. Go on with: batcher resume {job}")

    def show(self, intake: Intake) -> None:
        """Show it, if it is time."""
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at, self._drawn = now + self._every_s, True
        text = f"reading: {intake.seen:,} documents"
        if self._live:
            click.echo(f"\r{text}\033[K", nl=False, err=True)
        else:
            note(text)


def notice_deserted(runtime: Runtime) -> None:
    """Pause jobs whose readers are gone, and tell of it: perhaps neither a worker nor the schedule runs."""
    from batcher.engine.deserted import pause_deserted

    if deserted := pause_deserted(runtime.store):
        runtime.alerts.conclude(deserted)
