"""Notes as lines of a log, for runs that nobody watches: when, how grave, what. One line each.

What batcher's own loggers say becomes notes, on a terminal what is grave of it.
"""

from __future__ import annotations

import logging
import sys
from datetime import datetime
from enum import StrEnum
from typing import Final

import click

from batcher.cli.output import note, notes_go_elsewhere, send_notes_to, visible, visible_line


class LogFormat(StrEnum):
    """How a line is written."""

    TEXT = "text"
    JSON = "json"


_LEVELS: Final = {"Warning: ": "WARNING", "Error: ": "ERROR"}
"""How grave a note is stands before it."""


def is_watched() -> bool:
    """Whether somebody sees standard error as it is written."""
    return sys.stderr.isatty()


def log_has_begun() -> bool:
    """Whether notes are written as lines of a log already."""
    return notes_go_elsewhere()


def begin_log(log_format: LogFormat = LogFormat.TEXT) -> None:
    """Write all notes of this process as lines of a log from now on."""
    send_notes_to(_write_json if log_format is LogFormat.JSON else _write_text)
    hear_loggers(logging.INFO)


def hear_loggers(level: int = logging.WARNING) -> None:
    """Make notes of what batcher's loggers say, from this level on."""
    logger = logging.getLogger("batcher")
    logger.setLevel(level)
    logger.addHandler(_HANDLER)
    # Display and report say the same of a run in this process; the engine's lines are for workers' logs.
    logging.getLogger("batcher.engine").setLevel(logging.ERROR)


class _Notes(logging.Handler):
    """Writes records as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        """See :class:`logging.Handler`."""
        start = next((start for start, level in _LEVELS.items() if level == record.levelname), "")
        note(f"{start}{record.getMessage()}")


_HANDLER: Final = _Notes()


def _write_text(text: str) -> None:
    level, message = _split(text)
    click.echo(f"{_now()} {level} {visible_line(message)}", err=True)


def _write_json(text: str) -> None:
    import orjson

    level, message = _split(text)
    line = orjson.dumps({"time": _now(), "level": level, "message": message})
    click.echo(visible(line.decode()), err=True)


def _split(text: str) -> tuple[str, str]:
    for start, level in _LEVELS.items():
        if text.startswith(start):
            return level, text.removeprefix(start)
    return "INFO", text


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
