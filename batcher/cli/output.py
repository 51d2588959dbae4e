"""What commands print: JSON and tables to standard output, everything else to standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import datetime, tzinfo
from typing import Any, Final

import click

from batcher.money import nusd_to_usd

_LAYOUT: Final = {ord("\t"): "\\t", ord("\n"): "\\n"}
_STEERING: Final = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F))
_CONTROLS: Final = {
    code: f"\\u{code:04x}"
    for code in (*_STEERING, *range(0x2066, 0x206A), *range(0xDC80, 0xDD00))
    if code not in _LAYOUT
}
"""Control characters, those that turn the direction of writing, and bytes of file names that are no UTF-8, as
JSON writes them: a JSON text says the same afterwards."""


def echo_json(value: Any, *, on_one_line: bool = False) -> None:
    """Print a value as JSON on standard output."""
    import orjson

    option = 0 if on_one_line else orjson.OPT_INDENT_2
    say(orjson.dumps(value, option=option).decode())


def echo_table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print rows in aligned columns, two spaces apart.

    Args:
        rows: the header first.
        right: positions of columns of numbers.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if position in right else cell.ljust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        say("  ".join(cells).rstrip())


def say(text: str) -> None:
    """Print lines for people on standard output; see :func:`visible`."""
    click.echo(visible(text))


def note(text: str) -> None:
    """Tell the user something that is no result; see :func:`visible`."""
    _writers[-1](text)


def send_notes_to(writer: NoteWriter | None) -> None:
    """Let something else write the notes of this process from now on; None: as they are, as at the start."""
    _writers[1:] = [] if writer is None else [writer]


def notes_go_elsewhere() -> bool:
    """Whether something else writes them."""
    return len(_writers) > 1


def _write_note(text: str) -> None:
    click.echo(visible(text), err=True)


NoteWriter = Callable[[str], None]
_writers: Final[list[NoteWriter]] = [_write_note]


def visible(text: str) -> str:
    r"""Text whose control characters are written out (``\u001b``), line feeds and tabs excepted.

    Names of files, words of models and of vendors come from others: none of them may steer the terminal.
    """
    return text.translate(_CONTROLS)


def visible_line(text: str) -> str:
    r"""The same with line feeds and tabs written out too: one line, whatever a file is called."""
    return text.translate(_CONTROLS | _LAYOUT)


def usd(nusd: int) -> float:
    """Nano-dollars as a JSON number of dollars: exact to 15 digits."""
    return float(nusd_to_usd(nusd))


def usd_or_none(nusd: int | None) -> float | None:
    """The same, where there may be none."""
    return None if nusd is None else usd(nusd)


def show_times_in(time_zone: str | None) -> None:
    """Show times in this IANA zone from now on, as the ledger's days; None: in the machine's own."""
    from zoneinfo import ZoneInfo

    _zone[:] = [] if time_zone is None else [ZoneInfo(time_zone)]


def local_time(seconds: float | None) -> str:
    """Unix seconds as date and time in ``time_zone``, to the minute; "" for None.

    The zone is named where the machine's clock shows another time.
    """
    if seconds is None:
        return ""
    moment, here = _moment(seconds), datetime.fromtimestamp(seconds).astimezone()
    text = moment.strftime("%Y-%m-%d %H:%M")
    return text if moment.utcoffset() == here.utcoffset() else f"{text} {moment.tzname()}"


def iso_time(seconds: float | None) -> str | None:
    """Unix seconds as ISO 8601 in ``time_zone``, with its offset; None for None."""
    return None if seconds is None else _moment(seconds).isoformat(timespec="seconds")


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, *_zone) if _zone else datetime.fromtimestamp(seconds).astimezone()


_zone: Final[list[tzinfo]] = []


def duration(seconds: float) -> str:
    """Seconds for people: ``6.5 s``, ``4 min 10 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def can_ask() -> bool:
    """Whether somebody sits there to answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()
