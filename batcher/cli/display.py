"""Shows a run as it goes: a live panel on a terminal, lines of a log elsewhere. On standard error."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from batcher.cli.log_lines import begin_log, hear_loggers, is_watched, log_has_begun
from batcher.cli.output import duration, note, send_notes_to, visible, visible_line
from batcher.money import format_usd

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress

LINE_EVERY_S: Final = 30.0
"""How often at most a log says how far a run is, unless another tenth of it is done."""

LINE_SHARE: Final = 1 / 20
"""The longer it runs, the longer it stays silent: a twentieth of its time. A night of eight hours is some
hundred lines."""

TENTH_EVERY_S: Final = 3.0
"""How often at most another tenth is worth a line."""

REASON_EVERY_S: Final = 3.0
"""How often a log tells a new reason for waiting."""

REASON_AGAIN_S: Final = 300.0
"""How often it tells one that it has told before: limits that take turns are no news."""

REFRESHES_PER_S: Final = 4


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far a run is.

    Attributes:
        ended: items that need nothing more: done, failed or cancelled.
        total: all items that were not rejected.
        in_flight: calls, None where that is not known, as ``tokens_per_s`` is then.
        with_workers: documents that workers have taken, at work or waiting there.
        waiting: why nothing moves, or None.
        spent_nusd: today, of ``cap_nusd``.
        left_s: seconds until the end at the present rate, or None while that is unknown.
    """

    title: str
    done: int
    failed: int
    ended: int
    total: int
    in_flight: int | None
    waiting: str | None
    documents_per_s: float
    tokens_per_s: float | None
    spent_nusd: int
    cap_nusd: int | None
    left_s: float | None
    with_workers: int = 0

    def rates(self) -> str:
        """``12.3 documents/s, 4,500 tokens/s, $0.12 of $5.00 today, 4 min 10 s left``."""
        cap = "" if self.cap_nusd is None else f" of {format_usd(self.cap_nusd)}"
        parts = [f"{self.documents_per_s:.1f} documents/s"]
        if self.tokens_per_s is not None:
            parts.append(f"{self.tokens_per_s:,.0f} tokens/s")
        parts.append(f"{format_usd(self.spent_nusd)}{cap} today")
        if self.left_s is not None:
            parts.append(f"{duration(self.left_s)} left")
        return ", ".join(parts)

    def counts(self) -> str:
        """``1,200 of 5,000 done, 3 failed, 64 in flight``."""
        text = f"{self.done:,} of {self.total:,} done"
        if self.failed:
            text += f", {self.failed:,} failed"
        if self.with_workers:
            text += f", {self.with_workers:,} with workers"
        return text + (f", {self.in_flight} in flight" if self.in_flight else "")


class Display(Protocol):
    """Where a run shows itself.

    Attributes:
        show_every_s: how often it wants a snapshot.
        count_every_s: how often the counts in it have to be read anew.
    """

    show_every_s: float
    count_every_s: float

    def show(self, snapshot: Snapshot) -> None:
        """Show how far it is."""

    def say(self, text: str) -> None:
        """Print a line that stays."""

    def close(self) -> None:
        """Leave the screen as it is and show nothing more."""

    def conclude(self, text: str) -> None:
        """Tell how it ended, if the closing report does not stand beside it."""


def make_display() -> Display:
    """A live one on a terminal, lines of a log elsewhere."""
    if is_watched():
        hear_loggers()
        return LiveDisplay()
    if not log_has_begun():
        begin_log()
    return LogDisplay()


class LogDisplay:
    """A line at the start, now and then, and when there is a new reason for waiting."""

    show_every_s = 1.0
    count_every_s = 5.0

    def __init__(self) -> None:
        self._started: float | None = None
        self._line_at = self._tenth_at = self._reason_at = 0.0
        self._tenth = 0
        self._reason: str | None = None
        self._told: dict[str, float] = {}

    def show(self, snapshot: Snapshot) -> None:
        """See :class:`Display`."""
        now = time.monotonic()
        tenth = 10 * snapshot.ended // max(1, snapshot.total)
        if self._started is None:
            self._started = now
            self._say_how_far(snapshot, now, tenth, " starts")
        elif now >= self._line_at or (tenth > self._tenth and now >= self._tenth_at):
            self._say_how_far(snapshot, now, tenth)
        elif self._is_news(snapshot.waiting, now):
            self.say(f"{snapshot.title} waits: {snapshot.waiting}")
            self._note_reason(snapshot.waiting, now)

    def say(self, text: str) -> None:
        """See :class:`Display`."""
        note(text)

    def close(self) -> None:
        """See :class:`Display`."""

    def conclude(self, text: str) -> None:
        """See :class:`Display`."""
        note(text)

    def _say_how_far(self, snapshot: Snapshot, now: float, tenth: int, event: str = "") -> None:
        rates = f"; {snapshot.rates()}" if not event else ""
        waiting = f"; waiting: {snapshot.waiting}" if snapshot.waiting else ""
        self.say(f"{snapshot.title}{event}: {snapshot.counts()}{rates}{waiting}")
        ran_s = now - (self._started or now)
        self._line_at = now + max(LINE_EVERY_S, LINE_SHARE * ran_s)
        self._tenth_at = now + TENTH_EVERY_S
        self._tenth = tenth
        self._note_reason(snapshot.waiting, now)

    def _is_news(self, waiting: str | None, now: float) -> bool:
        reason = _kind_of(waiting)
        if reason is None or reason == self._reason or now < self._reason_at:
            return False
        return now >= self._told.get(reason, now)

    def _note_reason(self, waiting: str | None, now: float) -> None:
        reason = _kind_of(waiting)
        if reason is None:
            return
        self._reason, self._reason_at = reason, now + REASON_EVERY_S
        self._told[reason] = now + REASON_AGAIN_S


class LiveDisplay:
    """A bar with counts, rates and the reason for waiting, drawn in place with rich."""

    show_every_s = 0.25
    count_every_s = 1.0

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
            send_notes_to(self.say)
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
            send_notes_to(None)

    def conclude(self, text: str) -> None:
        """See :class:`Display`."""

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
