"""Runs the root command and turns whatever goes wrong into one plain line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from batcher.cli.output import echo_json, note, send_notes_to, show_times_in
from batcher.cli.root import Invocation, root
from batcher.errors import BatcherError

EXIT_UNEXPECTED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
EXIT_BROKEN_PIPE: Final = 1
"""What click exits with, quietly, when it finds out first that the reader went away."""

EXIT_OUTPUT: Final = 5
_OUTPUT_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def run(arguments: Sequence[str] | None) -> int:
    """Run ``batcher`` with these words; returns the exit code."""
    invocation = Invocation()
    send_notes_to(None)
    show_times_in(None)
    try:
        code = root.main(arguments, prog_name="batcher", standalone_mode=False, obj=invocation)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last resort
        as_json = "--json" in (sys.argv if arguments is None else arguments)
        try:
            code = _say(error, invocation, as_json=as_json)
        except KeyboardInterrupt as interrupt:
            code = _say(interrupt, invocation, as_json=as_json)
    return code if isinstance(code, int) else 0


def _say(error: BaseException, invocation: Invocation, *, as_json: bool) -> int:
    """Tell of what went wrong; returns the exit code."""
    code, message = _failure(error, invocation)
    _tell(error, code, message, as_json=as_json)
    return code


def _failure(error: BaseException, invocation: Invocation) -> tuple[int, str]:
    """The exit code, and what to say without the word error; "" to say nothing."""
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        return EXIT_INTERRUPTED, "Interrupted."
    if isinstance(error, click.ClickException):
        return EXIT_USAGE, error.format_message()
    if isinstance(error, BatcherError):
        if invocation.verbose:
            _show_traceback(error, invocation)
        return error.exit_code, _redacted(str(error), invocation)
    if isinstance(error, BrokenPipeError):
        _discard_output()
        return EXIT_BROKEN_PIPE, ""
    if isinstance(error, OSError) and error.errno in _OUTPUT_FULL and error.filename is None:
        _discard_output()
        return EXIT_OUTPUT, f"The output cannot be written: {error.strerror}. Make room, or write elsewhere"
    return _unexpected(error, invocation)


def _unexpected(error: BaseException, invocation: Invocation) -> tuple[int, str]:
    from batcher.cli.crash import write_traceback

    if invocation.verbose:
        _show_traceback(error, invocation)
    place = write_traceback(error, invocation.settings)
    what = _redacted(f"{type(error).__name__}: {error}".splitlines()[0], invocation)
    where = f"The details are in {place}" if place else "The details are shown with: batcher -v ..."
    return EXIT_UNEXPECTED, f"something went wrong inside batcher: {what}\n{where}"


def _tell(error: BaseException, code: int, message: str, *, as_json: bool) -> None:
    """The message on standard error, and where JSON was asked for on standard output too."""
    if not message:
        return
    with contextlib.suppress(OSError):
        if isinstance(error, click.ClickException):
            error.show()
        else:
            note(message if code == EXIT_INTERRUPTED else f"Error: {message}")
    if as_json:
        with contextlib.suppress(OSError):
            echo_json({"error": message, "exit_code": code})


def _show_traceback(error: BaseException, invocation: Invocation) -> None:
    from batcher.cli.crash import format_traceback

    click.echo(format_traceback(error, invocation.settings), err=True)


def _redacted(text: str, invocation: Invocation) -> str:
    from batcher.cli.crash import hide_secrets

    return hide_secrets(text, invocation.settings)


def _discard_output() -> None:
    """Point standard output at nothing, so that Python's flush at exit has nothing to complain about."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):
        os.dup2(nothing, sys.stdout.fileno())
