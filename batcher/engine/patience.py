"""Bearing with a database that is away: what a run has in hand is worth more than a quick error."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from batcher.errors import StoreAwayError

Given = ParamSpec("Given")
Found = TypeVar("Found")

_log = logging.getLogger("batcher.store")

OF_A_FILE_S: Final = 3.0
"""A file that fails seldom heals by itself, and whoever started the run looks on."""

OF_A_SERVER_S: Final = 300.0
"""A database server that restarts or hands over to its standby is back within minutes."""

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0


class Patience:
    """Does things with a store again and again while it is away. Threads may share it.

    What is done twice because its commit was durable and the word of it was lost must do no harm.

    Args:
        lasts_s: for how long from the first failure; infinity for as long as nobody calls ``end``.

    Attributes:
        lasts_s: as given; may be changed.
        trouble: why the store is away, while it is.
    """

    def __init__(self, lasts_s: float) -> None:
        self.lasts_s = lasts_s
        self.trouble: str | None = None
        self._is_over = threading.Event()
        self._back_at = -math.inf

    def keep(self, work: Callable[Given, Found], *given: Given.args, **named: Given.kwargs) -> Found:
        """Do it, until it is done.

        Raises:
            StoreAwayError: if the store stays away for too long.
        """
        ends_at, pause_s = math.inf, _FIRST_PAUSE_S
        while True:
            try:
                found = work(*given, **named)
            except StoreAwayError as error:
                self._note(str(error))
                ends_at = min(ends_at, time.monotonic() + self.lasts_s)
                if time.monotonic() + pause_s > ends_at or self._is_over.wait(pause_s):
                    raise
                pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)
            else:
                self._note(None)
                return found

    def end(self) -> None:
        """Raise what fails from now on, at once."""
        self._is_over.set()

    def back_for_s(self) -> float:
        """Seconds since the store came back; infinity if it was not away."""
        return time.monotonic() - self._back_at

    def _note(self, trouble: str | None) -> None:
        if trouble is not None and self.trouble is None:
            _log.warning("%s. Trying again", trouble)
        elif trouble is None and self.trouble is not None:
            self._back_at = time.monotonic()
            _log.warning("The store is back")
        self.trouble = trouble
