"""This process's part of the limits, for as long as the shared store cannot be reached."""

from __future__ import annotations

from collections.abc import Mapping

from batcher.limits.exchange import Ask, Reply
from batcher.limits.quotas import DIMENSIONS, Charge, Dimension, Quota
from batcher.limits.window import Window, renewed


class LocalShare:
    """Answers the asks of one lane as the store would, from an equal part of every limit.

    Its buckets start empty, because the limit was in use until now.

    Args:
        alive: processes that used the key when they were last counted, this one included.

    Attributes:
        windows: this process's parts.
    """

    def __init__(self, alive: int) -> None:
        self._alive = max(1, alive)
        self.windows: dict[Dimension, Window] = {}

    def grant(self, ask: Ask, now: float) -> Reply:
        """Answer an ask. Cool-downs are the lane's own affair here."""
        self._renew(ask.quotas, now)
        for index, window in self._indexed():
            amount = ask.settled[index]
            if amount > 0:
                window.give_back(amount, now)
            elif amount < 0:
                window.take(-amount, now)
        most = max(1, ask.concurrency // self._alive) if ask.concurrency else None
        admitted, wait_s, why = 0, 0.0, ""
        for charge in ask.queue:
            if most is not None and ask.in_flight + admitted >= most:
                wait_s, why = 0.001, "in flight"
                break
            wait_s, why = self._longest_delay(charge, now)
            if wait_s > 0:
                break
            for index, window in self._indexed():
                window.take(charge[index], now)
            admitted += 1
        return Reply(admitted=admitted, wait_s=wait_s, why=why, alive=self._alive)

    def _longest_delay(self, charge: Charge, now: float) -> tuple[float, str]:
        delays = [
            (window.delay(charge[index], now), DIMENSIONS[index].value) for index, window in self._indexed()
        ]
        return max(delays, default=(0.0, ""))

    def _indexed(self) -> list[tuple[int, Window]]:
        return [(DIMENSIONS.index(name), window) for name, window in self.windows.items()]

    def _renew(self, quotas: Mapping[Dimension, Quota], now: float) -> None:
        self.windows = {
            name: renewed(self.windows.get(name), self._part(quota), now=now, full=False)
            for name, quota in quotas.items()
        }

    def _part(self, quota: Quota) -> Quota:
        """An equal part. What cannot be divided is allowed once in a time that is longer in proportion."""
        whole = quota.limit // self._alive
        if whole >= 1:
            return Quota(whole, quota.span_s)
        return Quota(1, quota.span_s * self._alive / quota.limit)
