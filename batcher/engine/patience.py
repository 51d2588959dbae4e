"""Bearing with a database that is away: what a run has in hand is worth more than a quick error."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from batcher.errors import StoreAwayError
from batcher.store.database import Store

Given = ParamSpec("Given")
Found = TypeVar("Found")

_log = logging.getLogger("batcher.store")

OF_A_FILE_S: Final = 3.0
"""A file that fails seldom heals by itself, and whoever started the run looks on."""

OF_A_SERVER_S: Final = 300.0
"""A database server that restarts or hands over to its standby is back within minutes."""

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0


def patience_with(store: Store) -> float:
    """How long to bear with a store that is away, seconds."""
    return OF_A_FILE_S if store.is_sqlite else OF_A_SERVER_S


class Patience:
    """Does things with a store again and again while it is away. Threads may share it.

    What is done twice because its commit was durable and the word of it was lost must do no harm.

    Args:
        lasts_s: for how long from the first failure; infinity for as long as nobody calls ``end``.
        long_s: how long the store must be away for ``back_for_s`` to count it.

    Attributes:
        lasts_s: as given; may be changed.
        trouble: why the store is away, while it is.
    """

    def __init__(self, lasts_s: float, long_s: float = 0.0) -> None:
        self.lasts_s = lasts_s
        self.trouble: str | None = None
        self._long_s = long_s
        self._is_over = threading.Event()
        self._away_since = 0.0
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
        """Seconds since the store came back after it was away for long; infinity if it was not."""
        return time.monotonic() - self._back_at

    def _note(self, trouble: str | None) -> None:
        if trouble is not None and self.trouble is None:
            self._away_since = time.monotonic()
            _log.warning("%s. Trying again", trouble)
        elif trouble is None and self.trouble is not None:
            away_s = time.monotonic() - self._away_since
            if away_s >= self._long_s:
                self._back_at = time.monotonic()
            _log.warning("The store is back after %.1f s", away_s)
        self.trouble = trouble
