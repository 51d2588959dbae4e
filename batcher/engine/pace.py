"""How often a watch of running jobs looks: now and then, and for no more than a share of the time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pace:
    """When to look again.

    Args:
        every_s: seconds between two looks at least.
        share: looking may take one part in so many of the time.
    """

    def __init__(self, every_s: float, share: float) -> None:
        self._every_s = every_s
        self._share = share
        self._next_at = 0.0

    def is_due(self) -> bool:
        """Whether it is time to look."""
        return time.monotonic() >= self._next_at

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look; how long it takes tells when to look again. A look that fails does not count."""
        started = time.monotonic()
        yield
        ended = time.monotonic()
        self._next_at = ended + max(self._every_s, self._share * (ended - started))
