"""The command line: one file per command or group of commands, imported when it is used."""

from __future__ import annotations

import gc
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """The ``batcher`` command; returns its exit code.

    Args:
        arguments: the words after ``batcher``; those of this process if None.
    """
    if arguments is None:
        gc.disable()  # until a command begins: what is imported for it is no garbage
    from batcher.cli.entry import run

    code = run(arguments)
    if arguments is None:
        # Else the interpreter, at its end, looks for cycles in all that there is: a tenth of a second, for
        # memory that the system takes back anyway.
        gc.freeze()
    return code
