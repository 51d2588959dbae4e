"""How much one process asks of a key, of late: what a stock of permits is measured by."""

from __future__ import annotations

import math
from typing import Final

from batcher.limits.quotas import DIMENSIONS, Charge

HORIZON_S: Final = 0.2
"""A stock lasts for so long at the present rate."""
MOST: Final = 1_000
IDLE_S: Final = 0.5
_MEMORY_S: Final = 0.5
"""The rate is a running mean over about this long."""


class Demand:
    """The rate of requests and their mean charge.

    Attributes:
        low_mark: a stock of no more than this is to be filled up.
    """

    __slots__ = ("_count", "_mean", "_noted_at", "_rate", "_sums", "_target", "_updated_at", "low_mark")

    def __init__(self) -> None:
        self._count = 0
        self._sums = [0.0] * len(DIMENSIONS)
        self._mean = [0.0] * len(DIMENSIONS)
        self._rate = 0.0
        self._target = 0
        self._updated_at = -math.inf
        self._noted_at = -math.inf
        self.low_mark = 0

    def note(self, charge: Charge) -> None:
        """Somebody asks for a permit."""
        self._count += 1
        sums = self._sums
        sums[2] += charge[2]
        sums[4] += charge[4]
        sums[5] += charge[5]

    def wanted(self, stock_count: int, now: float) -> int:
        """How many permits to ask for beyond those that somebody waits for."""
        self._update(now)
        return max(0, self._target - stock_count)

    def charge_of(self, count: int) -> Charge:
        """What so many requests are booked at, all together."""
        _, _, total, _, inputs, outputs = self._mean
        return (count, count, total * count, total * count, inputs * count, outputs * count)

    def is_idle(self, now: float) -> bool:
        """Whether nobody has asked for half a second."""
        return self._count == 0 and now >= self._noted_at + IDLE_S

    def _update(self, now: float) -> None:
        passed_s = now - self._updated_at
        if self._count == 0 and passed_s < IDLE_S:
            return
        if self._count:
            self._noted_at = now
            weight = min(1.0, self._count * 0.1)
            for index in (2, 4, 5):
                self._mean[index] += weight * (self._sums[index] / self._count - self._mean[index])
                self._sums[index] = 0.0
        if passed_s <= 0:
            return
        weight = 1.0 - math.exp(-min(passed_s, 10.0) / _MEMORY_S)
        self._rate += weight * (self._count / passed_s - self._rate)
        self._count = 0
        self._updated_at = now
        self._target = min(int(self._rate * HORIZON_S), MOST)
        self.low_mark = self._target // 2
