"""Single keys from a terminal. Those typed ahead are not lost."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

import click

_ESCAPE: Final = b"\x1b"
_MANY_BYTES: Final = b"\xc0"
"""From this byte on, a character of UTF-8 goes on: by one byte, from E0 on by two, from F0 on by three."""

_SEQUENCE_S: Final = 0.05
"""So soon after an escape character comes the rest of what a cursor key sends."""

_MOST_BYTES: Final = 8


class Keyboard:
    """Takes keys as they are pressed, from ``__enter__`` to ``__exit__``; nothing is echoed meanwhile."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        self._grab()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Another program has the terminal, as it was, until the block ends."""
        self._release()
        try:
            yield
        finally:
            self._grab()

    def read(self) -> str:
        """The next key: a character, or what a cursor key sends; "" at the end of the input.

        Raises:
            KeyboardInterrupt: if it is Ctrl-C.
        """
        if self._before is None:
            return click.getchar()
        number = sys.stdin.fileno()
        key = os.read(number, 1)
        if key == _ESCAPE:
            key += self._rest(number)
        elif key >= _MANY_BYTES:
            key += os.read(number, 1 + (key >= b"\xe0") + (key >= b"\xf0"))
        return key.decode("utf-8", "replace")

    def _rest(self, number: int) -> bytes:
        import select

        rest = b""
        while len(rest) < _MOST_BYTES and select.select([number], [], [], _SEQUENCE_S)[0]:
            part = os.read(number, 1)
            rest += part
            if not part or part.isalpha() or part == b"~":
                break
        return rest

    def _grab(self) -> None:
        try:
            import termios
            import tty
        except ImportError:  # no such terminals here: each key is asked for by itself
            return
        number = sys.stdin.fileno()
        self._before = termios.tcgetattr(number)
        tty.setcbreak(number, termios.TCSADRAIN)

    def _release(self) -> None:
        if self._before is None:
            return
        import termios

        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._before)
        self._before = None
