"""The chart of ``batcher spend``: a bar for each day, against that day's cap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

from batcher.cli.output import say
from batcher.money import format_usd

if TYPE_CHECKING:
    from batcher.budget.spend import DayOfSpend

NARROW: Final = 60
"""Below so many columns a day is shown without its year."""

LEAST_BAR: Final = 10


@dataclass(frozen=True, slots=True)
class Ink:
    """How one part of a bar is drawn."""

    sign: str
    style: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Inks:
    """How all parts are drawn."""

    settled: Ink
    over: Ink
    unknown: Ink
    open: Ink
    cap: Ink
    blank: Ink = Ink(" ", "", "")

    def legend(self) -> list[Ink]:
        """Those that need an explanation."""
        return [self.settled, self.over, self.unknown, self.open, self.cap]


ASCII: Final = Inks(
    settled=Ink("#", "", "spent"),
    over=Ink("!", "", "over the cap"),
    unknown=Ink("?", "", "unknown outcome, at its worst case"),
    open=Ink("~", "", "in flight, at its worst case"),
    cap=Ink("|", "", "daily cap"),
)
BLOCKS: Final = Inks(
    settled=Ink("█", "green", "spent"),
    over=Ink("█", "red", "over the cap"),
    unknown=Ink("▓", "yellow", "unknown outcome, at its worst case"),
    open=Ink("░", "cyan", "in flight, at its worst case"),
    cap=Ink("│", "bold", "daily cap"),
)

Line = list[tuple[str, str]]
"""Pieces of text, each with rich's name of its style."""


def show_chart(days: Sequence[DayOfSpend]) -> None:
    """Print it: with colours and blocks on a terminal, in plain ASCII elsewhere and under ``NO_COLOR``."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    encodes_blocks = (console.encoding or "").lower().replace("-", "").startswith("utf")
    plain = not console.is_terminal or console.no_color or console.is_dumb_terminal or not encodes_blocks
    lines = draw(days, console.width, ASCII if plain else BLOCKS)
    for line in lines:
        if plain:
            say("".join(text for text, _ in line).rstrip())
        else:
            console.print(Text.assemble(*line), soft_wrap=True, highlight=False)


def draw(days: Sequence[DayOfSpend], width: int, inks: Inks) -> list[Line]:
    """The chart's lines, none wider than ``width`` columns unless that is less than a bar needs."""
    labels = [day.day if width >= NARROW else day.day[5:] for day in days]
    amounts = [format_usd(_taken_nusd(day)) for day in days]
    wide = max(map(len, amounts), default=0)
    bar_width = max(LEAST_BAR, width - max(map(len, labels), default=0) - wide - 4)
    most = max((max(_taken_nusd(day), day.cap_nusd or 0) for day in days), default=0)
    caps = {day.cap_nusd for day in days if day.cap_nusd is not None}
    title = f"The days from {days[0].day} to {days[-1].day}" if days else "No days"
    if len(caps) == 1:
        title += f" against the daily cap of {format_usd(caps.pop())}"
    lines: list[Line] = [[(title, "bold")]]
    used: set[Ink] = set()
    for label, amount, day in zip(labels, amounts, days, strict=True):
        cells = bar(day, most, bar_width, inks)
        used |= set(cells)
        pieces = [("".join(ink.sign for ink in run), look.style) for look, run in _runs(cells)]
        lines.append([(f"{label}  {amount:>{wide}}  ", ""), *pieces])
    lines += [[(ink.sign, ink.style), (f" {ink.meaning}", "")] for ink in inks.legend() if ink in used]
    return lines


def bar(day: DayOfSpend, most_nusd: int, width: int, inks: Inks) -> list[Ink]:
    """The cells of one day's bar, with the mark of its cap; whatever was spent shows, be it ever so little.

    Args:
        day: what it shows.
        most_nusd: what a bar of full width stands for.
        width: cells, the last of them the cap's mark at most.
        inks: what to draw with.
    """
    cells = [inks.blank] * width
    if most_nusd == 0:
        return cells
    scale = width - 1
    spend, end_nusd = day.spend, 0
    end = 0
    cap_at = None if day.cap_nusd is None else round(day.cap_nusd * scale / most_nusd)
    amounts = () if spend is None else (spend.settled_nusd, spend.unknown_nusd, spend.open_nusd)
    for ink, amount in zip((inks.settled, inks.unknown, inks.open), amounts, strict=False):
        end_nusd += amount
        start, end = end, max(round(end_nusd * scale / most_nusd), end + (amount > 0))
        for cell in range(start, min(end, width)):
            over = ink is inks.settled and cap_at is not None and cell >= cap_at
            cells[cell] = inks.over if over and end_nusd > (day.cap_nusd or 0) else ink
    if cap_at is not None:
        cells.insert(cap_at, inks.cap)
        cells.pop()
    return cells


def _taken_nusd(day: DayOfSpend) -> int:
    return 0 if day.spend is None else day.spend.booked_nusd + day.spend.open_nusd


def _runs(cells: Sequence[Ink]) -> list[tuple[Ink, list[Ink]]]:
    return [(look, list(run)) for look, run in groupby(cells)]
