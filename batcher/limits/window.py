"""One limit: so much in any window of so many seconds, paced.

Everything is kept as shares of the limit: a unit costs 1/limit when it goes. So a limit that changes needs no
conversion, and what went under the old one keeps its share of the window.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from batcher.limits.quotas import MINUTE_S, Quota

CELLS_PER_WINDOW: Final = 600
"""Admissions this close together (0.1 s of a minute) share a cell. A cell leaves the window when its last
admission does, so the grouping errs on the safe side."""

BURST_S: Final = 0.5
"""An idle limit may be used at once for as much as this many seconds of it bring. Vendors may hold a limit
per minute by the second (OpenAI's page on rate limits says so), so it is less than one."""

MARGIN_S: Final = 0.25
"""What went at the same distance from each other arrives a little earlier or later. A vendor that counts the
requests of the last 60 s to the last one refuses 0.4 % of them if we count 60 s too (measured over loopback),
so every span is taken to be this much longer, or by a hundredth if it is short."""

DRAIN_TOLERANCE_S: Final = 1.0
"""A response says what was left when its request arrived, which is late news: a difference below what this
many seconds bring means nothing."""

_ROUNDING: Final = 1e-10
"""A bucket this close to full, as a share of the window, is full: else a refill could round to nothing for
ever."""


class Window:
    """Admits a quota of units in any span of seconds, spread evenly.

    Three rules, all of which must hold. The bucket refills continuously and holds ``BURST_S`` seconds' worth
    (at least one unit): it spreads admissions, because vendors refuse bursts. An amount above what it holds
    goes when it is full and leaves a debt. The log of the last span makes the limit exact whatever the
    amounts are; an amount above the limit itself goes when the log is empty. The room is the vendor's own
    bucket as we believe it to be: as large as the limit, and drained when a response says that less is left,
    because others use the account too.

    Windows longer than a minute have no bucket: a daily limit may be used up by noon.

    Args:
        quota: the limit.
        now: the clock's time.
        full: False starts with an empty bucket, where the limit was in use until now.
    """

    __slots__ = ("_cell_s", "_cells", "_filled_at", "_held", "_level", "_room", "_span_s", "_used", "quota")

    def __init__(self, quota: Quota, *, now: float, full: bool = True) -> None:
        self.quota = quota
        self._held = held_share(quota)
        self._level = self._held if full else 0.0
        self._room = 1.0
        self._filled_at = now
        self._span_s = kept_span_s(quota)
        self._cell_s = self._span_s / CELLS_PER_WINDOW
        self._cells: deque[list[float]] = deque()  # [first admission, last admission, share]
        self._used = 0.0

    def delay(self, amount: float, now: float) -> float:
        """Seconds until ``amount`` may go, 0 if it may now. What is admitted meanwhile is not foreseen."""
        self._advance(now)
        share = amount / self.quota.limit
        missing = min(share, 1.0) - self._room
        if self.quota.span_s <= MINUTE_S:
            missing = max(missing, min(share, self._held) - self._level)
        wait = missing * self._span_s if missing > _ROUNDING else 0.0
        return max(wait, self._log_delay(share, now))

    def take(self, amount: float, now: float) -> None:
        """Book ``amount`` as going now."""
        self._advance(now)
        share = amount / self.quota.limit
        self._level -= share
        self._room -= share
        self._used += share
        cells = self._cells
        if cells and now - cells[-1][0] < self._cell_s:
            cells[-1][1] = now
            cells[-1][2] += share
        else:
            cells.append([now, now, share])

    def give_back(self, amount: float, now: float) -> None:
        """Undo part of what was booked, from the oldest bookings on: they leave the window first anyway."""
        self._advance(now)
        share = amount / self.quota.limit
        self._level = min(self._held, self._level + share)
        self._room = min(1.0, self._room + share)
        for cell in self._cells:
            part = min(share, cell[2])
            cell[2] -= part
            self._used -= part
            share -= part
            if share <= 0:
                return

    def drain(self, remaining: float, now: float) -> None:
        """Believe a response that says that less is left than we thought."""
        self._advance(now)
        left = remaining / self.quota.limit
        if left < self._room - DRAIN_TOLERANCE_S / self.quota.span_s:
            self._room = left

    def change(self, limit: int, now: float) -> None:
        """Go on with another limit for the same span."""
        self._advance(now)
        self.quota = Quota(limit, self.quota.span_s)
        self._held = held_share(self.quota)
        self._level = min(self._level, self._held)

    def _advance(self, now: float) -> None:
        span_s = self._span_s
        if now > self._filled_at:
            refill = (now - self._filled_at) / span_s
            self._level = min(self._held, self._level + refill)
            self._room = min(1.0, self._room + refill)
            self._filled_at = now
        cells = self._cells
        while cells and cells[0][1] + span_s <= now:
            self._used -= cells.popleft()[2]
        if not cells:
            self._used = 0.0

    def _log_delay(self, share: float, now: float) -> float:
        excess = self._used + min(share, 1.0) - 1.0
        if excess <= _ROUNDING:
            return 0.0
        for cell in self._cells:
            excess -= cell[2]
            if excess <= _ROUNDING:
                return max(cell[1] + self._span_s - now, 0.0)
        return 0.0


def kept_span_s(quota: Quota) -> float:
    """The span in which the limit is kept: a little longer than the vendor's."""
    return quota.span_s + min(MARGIN_S, quota.span_s / 100)


def held_share(quota: Quota) -> float:
    """What an idle limit may be used for at once, as a share of it."""
    return min(1.0, max(1.0 / quota.limit, BURST_S / quota.span_s))


def renewed(window: Window | None, quota: Quota, *, now: float, full: bool = True) -> Window:
    """The window of a limit that may have changed. With the same span it goes on with what it has seen.

    Args:
        window: as it was, or None if there was none.
        quota: the limit.
        now: the clock's time.
        full: whether one that is made anew starts with a full bucket.
    """
    if window is None or window.quota.span_s != quota.span_s:
        return Window(quota, now=now, full=full and window is None)
    window.change(quota.limit, now)
    return window
