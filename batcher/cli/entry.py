"""Runs the root command and turns whatever goes wrong into one plain line and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from batcher.cli.root import Invocation, root
from batcher.errors import BatcherError

EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
EXIT_BROKEN_PIPE: Final = 1
"""What click exits with, quietly, when it finds out first that the reader went away."""


def run(arguments: Sequence[str] | None) -> int:
    """Run ``batcher`` with these words; returns the exit code."""
    invocation = Invocation()
    try:
        code = root.main(arguments, prog_name="batcher", standalone_mode=False, obj=invocation)
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        return _say("Interrupted. What is unfinished goes on with: batcher resume", EXIT_INTERRUPTED)
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE
    except BatcherError as error:
        if invocation.verbose:
            _show_traceback(error, invocation)
        return _say(f"Error: {_redacted(str(error), invocation)}", error.exit_code)
    except BrokenPipeError:
        _discard_output()
        return EXIT_BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - the last resort: a line for the user, the rest for the log
        return _unexpected(error, invocation)
    return code if isinstance(code, int) else 0


def _say(message: str, code: int) -> int:
    with contextlib.suppress(BrokenPipeError):
        click.echo(message, err=True)
    return code


def _unexpected(error: Exception, invocation: Invocation) -> int:
    from batcher.cli.crash import write_traceback

    if invocation.verbose:
        _show_traceback(error, invocation)
    place = write_traceback(error, invocation.settings)
    what = _redacted(f"{type(error).__name__}: {error}".splitlines()[0], invocation)
    return _say(f"Error: something went wrong inside batcher: {what}\nThe details are in {place}", 1)


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
