"""Shows a run as it goes: a live panel on a terminal, a line now and then elsewhere. On standard error."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

from batcher.cli.output import duration, note, visible, visible_line
from batcher.money import format_usd

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress

LINE_EVERY_S: Final = 10.0
"""How often a run without a terminal says how far it is."""

REASON_EVERY_S: Final = 3.0
"""How often it tells a new reason for waiting: limits that take turns are no news."""

REFRESHES_PER_S: Final = 4


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far a run is.

    Attributes:
        ended: items that need nothing more: done, failed or cancelled.
        total: all items that were not rejected.
        waiting: why nothing moves, or None.
        spent_nusd: today, of ``cap_nusd``.
        left_s: seconds until the end at the present rate, or None while that is unknown.
    """

    title: str
    done: int
    failed: int
    ended: int
    total: int
    in_flight: int
    waiting: str | None
    documents_per_s: float
    tokens_per_s: float
    spent_nusd: int
    cap_nusd: int | None
    left_s: float | None

    def rates(self) -> str:
        """``12.3 documents/s, 4,500 tokens/s, $0.12 of $5.00 today, 4 min 10 s left``."""
        cap = "" if self.cap_nusd is None else f" of {format_usd(self.cap_nusd)}"
        parts = [
            f"{self.documents_per_s:.1f} documents/s",
            f"{self.tokens_per_s:,.0f} tokens/s",
            f"{format_usd(self.spent_nusd)}{cap} today",
        ]
        if self.left_s is not None:
            parts.append(f"{duration(self.left_s)} left")
        return ", ".join(parts)

    def counts(self) -> str:
        """``1,200 of 5,000 done, 3 failed, 64 in flight``."""
        text = f"{self.done:,} of {self.total:,} done"
        if self.failed:
            text += f", {self.failed:,} failed"
        return text + (f", {self.in_flight} in flight" if self.in_flight else "")


class Display(Protocol):
    """Where a run shows itself."""

    def show(self, snapshot: Snapshot) -> None:
        """Show how far it is."""

    def say(self, text: str) -> None:
        """Print a line that stays."""

    def close(self) -> None:
        """Leave the screen as it is and show nothing more."""


def make_display() -> Display:
    """A live one on a terminal, plain lines elsewhere."""
    return LiveDisplay() if sys.stderr.isatty() else PlainDisplay()


class PlainDisplay:
    """One line at the start, every ten seconds, and when there is a new reason for waiting."""

    def __init__(self) -> None:
        self._next_at = 0.0
        self._reason_at = 0.0
        self._waiting: str | None = None

    def show(self, snapshot: Snapshot) -> None:
        """See :class:`Display`."""
        waiting = _kind_of(snapshot.waiting)
        now = time.monotonic()
        is_news = waiting != self._waiting and now >= self._reason_at
        if now < self._next_at and not is_news:
            return
        self._next_at, self._reason_at = now + LINE_EVERY_S, now + REASON_EVERY_S
        self._waiting = waiting
        line = f"{snapshot.title}: {snapshot.counts()}; {snapshot.rates()}"
        self.say(line + (f"; waiting: {snapshot.waiting}" if snapshot.waiting else ""))

    def say(self, text: str) -> None:
        """See :class:`Display`."""
        note(f"{datetime.now().astimezone():%H:%M:%S} {text}")

    def close(self) -> None:
        """See :class:`Display`."""


class LiveDisplay:
    """A bar with counts, rates and the reason for waiting, drawn in place with rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True)
        self._live = Live(
            console=self._console,
            refresh_per_second=REFRESHES_PER_S,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._bar = self._make_bar()
        self._task = self._bar.add_task("", total=None)
        self._started = False

    def show(self, snapshot: Snapshot) -> None:
        """See :class:`Display`."""
        if not self._started:
            self._started = True
            self._live.start()
        self._bar.update(
            self._task, description=snapshot.title, completed=snapshot.ended, total=snapshot.total
        )
        self._live.update(self._panel(snapshot))

    def say(self, text: str) -> None:
        """See :class:`Display`."""
        self._console.print(visible(text), markup=False, highlight=False)

    def close(self) -> None:
        """See :class:`Display`."""
        if self._started:
            self._live.stop()
            self._started = False

    def _make_bar(self) -> Progress:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            console=self._console,
        )

    def _panel(self, snapshot: Snapshot) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        lines: list[RenderableType] = [
            self._bar,
            Text(snapshot.counts(), style="red" if snapshot.failed else ""),
            Text(snapshot.rates()),
        ]
        if snapshot.waiting:
            lines.append(Text(f"waiting: {visible_line(snapshot.waiting)}", style="yellow"))
        return Group(*lines)


def _kind_of(waiting: str | None) -> str | None:
    """A reason without its numbers: a countdown is no new reason."""
    return None if waiting is None else "".join(char for char in waiting if not char.isdigit())
