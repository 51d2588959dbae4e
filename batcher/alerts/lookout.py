"""A thread that looks for alerts and delivers them while a run goes on, which never waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from batcher.alerts.alerts import ANSWER_WAIT_S, Alerts, only_logged
from batcher.alerts.rates import Rates

LOOK_EVERY_S: Final = 5.0
COUNT_EVERY_S: Final = 60.0
COUNT_SHARE: Final = 50
"""Looks that count items may take a fiftieth of the time: on large jobs they are rarer than once a minute."""


class Lookout:
    """Looks after a run's alerts from ``__enter__`` to ``__exit__``.

    Args:
        alerts: the store's alerts.
        job_ids: the jobs of the run; None for all that are running.
        rates: what the run counts.
        every_s: seconds between two looks.
    """

    def __init__(
        self,
        alerts: Alerts,
        job_ids: Sequence[int] | None,
        rates: Rates,
        *,
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._alerts = alerts
        self._job_ids = job_ids
        self._rates = rates
        self._every_s = every_s
        self._next_count_at = 0.0
        self._over = threading.Event()
        # A daemon: a store that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._watch, name="batcher-alerts", daemon=True)

    def __enter__(self) -> Lookout:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(2 * ANSWER_WAIT_S)

    def _watch(self) -> None:
        while not self._over.wait(self._every_s):
            self._look()
            self._alerts.deliver(0.0)
        self._alerts.conclude(self._job_ids, rates=self._rates)

    def _look(self) -> None:
        started = time.monotonic()
        thorough = started >= self._next_count_at
        with only_logged("no look for alerts"):
            self._alerts.check(self._job_ids, rates=self._rates, thorough=thorough)
        if thorough:
            took = time.monotonic() - started
            self._next_count_at = started + max(COUNT_EVERY_S, COUNT_SHARE * took)
