"""The times of the calls for one answer: they decide whether and when there is another one."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from batcher.engine.call import Fault
from batcher.engine.policy import History


class CallClock:
    """Takes the times of the calls for one answer."""

    def __init__(self) -> None:
        self._time = asyncio.get_running_loop().time
        self._started_at = self._shut_out_s = 0.0
        self._failed_at: float | None = None

    def start(self) -> None:
        """A model is being picked."""
        self._started_at = self._time()

    def picked(self) -> None:
        """A model's circuit lets the call through."""
        self._shut_out_s += self._time() - self._started_at

    def ended(self, history: History, outcome: Fault) -> History:
        """The history with the times of a call that has just failed."""
        now, on_the_wire_s = self._time(), outcome.settlement.latency_s or 0.0
        gap_s = history.gap_s
        if self._failed_at is not None and not gap_s:
            gap_s = now - on_the_wire_s - self._failed_at
        self._failed_at = None if outcome.retry_after_s else now
        elapsed_s = history.elapsed_s + self._shut_out_s + on_the_wire_s
        self._shut_out_s = 0.0
        return replace(history, elapsed_s=elapsed_s, gap_s=gap_s)
