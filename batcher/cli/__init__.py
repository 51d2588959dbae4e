"""The command line: one file per command or group of commands, imported when it is used."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """The ``batcher`` command; returns its exit code.

    Args:
        arguments: the words after ``batcher``; those of this process if None.
    """
    from batcher.cli.entry import run

    return run(arguments)
