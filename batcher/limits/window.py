"""One limit: so much in any window of so many seconds, paced."""

from __future__ import annotations

from collections import deque
from typing import Final

CELLS_PER_WINDOW: Final = 600
"""Admissions this close together (0.1 s of a minute) share a cell. A cell leaves the window when its last
admission does, so the grouping errs on the safe side."""

BURST_S: Final = 1.0
"""An idle limit may be used at once for as much as this many seconds of it bring."""


class Window:
    """Admits ``limit`` units in any ``span_s`` seconds, spread evenly.

    Two rules, both of which must hold. The bucket refills continuously and holds one second's worth (at
    least one unit): it spreads admissions, because vendors refuse bursts. An amount above what it holds
    goes when it is full and leaves a debt. The log of the last ``span_s`` seconds makes the limit exact
    whatever the amounts are; an amount above ``limit`` itself goes when the log is empty.

    Args:
        limit: units per span.
        span_s: length of the window, seconds.
        paced: False leaves the bucket out (a daily limit may be used up by noon).
        now: the clock's time.
    """

    __slots__ = (
        "_cell_s",
        "_cells",
        "_filled_at",
        "_held",
        "_level",
        "_paced",
        "_rate",
        "_used",
        "limit",
        "span_s",
    )

    def __init__(self, limit: int, span_s: float, *, now: float, paced: bool = True) -> None:
        self.limit = limit
        self.span_s = span_s
        self._paced = paced
        self._rate = limit / span_s
        self._held = max(1.0, self._rate * BURST_S)
        self._level = self._held
        self._filled_at = now
        self._cell_s = span_s / CELLS_PER_WINDOW
        self._cells: deque[list[float]] = deque()  # [first admission, last admission, amount]
        self._used = 0.0

    def delay(self, amount: int, now: float) -> float:
        """Seconds until ``amount`` may go, 0 if it may now. What is admitted meanwhile is not foreseen."""
        self._advance(now)
        return max(self._bucket_delay(amount), self._log_delay(amount, now))

    def take(self, amount: int, now: float) -> None:
        """Book ``amount`` as going now."""
        self._advance(now)
        self._level -= amount
        self._used += amount
        cells = self._cells
        if cells and now - cells[-1][0] < self._cell_s:
            cells[-1][1] = now
            cells[-1][2] += amount
        else:
            cells.append([now, now, amount])

    def give_back(self, amount: int, now: float) -> None:
        """Undo part of what was booked, from the oldest bookings on: they leave the window first anyway."""
        self._advance(now)
        self._level = min(self._held, self._level + amount)
        rest = float(amount)
        for cell in self._cells:
            part = min(rest, cell[2])
            cell[2] -= part
            self._used -= part
            rest -= part
            if rest <= 0:
                return

    def _advance(self, now: float) -> None:
        if now > self._filled_at:
            self._level = min(self._held, self._level + (now - self._filled_at) * self._rate)
            self._filled_at = now
        cells = self._cells
        while cells and cells[0][1] + self.span_s <= now:
            self._used -= cells.popleft()[2]
        if not cells:
            self._used = 0.0

    def _bucket_delay(self, amount: int) -> float:
        if not self._paced:
            return 0.0
        missing = min(amount, self._held) - self._level
        return missing / self._rate if missing > _ROUNDING * self._held else 0.0

    def _log_delay(self, amount: int, now: float) -> float:
        excess = self._used + min(amount, self.limit) - self.limit
        if excess <= 0:
            return 0.0
        for cell in self._cells:
            excess -= cell[2]
            if excess <= 0:
                return max(cell[1] + self.span_s - now, 0.0)
        return 0.0


_ROUNDING: Final = 1e-9
"""A bucket this close to full, as a share of it, is full: else a refill could round to nothing for ever."""
