"""The schedule's clock, which rings only where somebody hears it: unheard messages would pile up for ever."""

from __future__ import annotations

import logging
from typing import Any, Final

from celery.beat import PersistentScheduler

from batcher.dispatch.celery_app import MAINTENANCE_QUEUE
from batcher.dispatch.waking import Waker
from batcher.errors import BatcherError

_log = logging.getLogger("batcher.schedule")

MOST_WAITING: Final = 3


class SparingScheduler(PersistentScheduler):
    """Celery's scheduler, which sends nothing while a few messages wait that nobody has taken."""

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send what is due."""
        try:
            waiting = Waker(self.app).depth(MAINTENANCE_QUEUE)
        except BatcherError as error:
            _log.error("%s. The schedule tries again", error)
            return
        if waiting >= MOST_WAITING:
            _log.warning("nobody takes messages off %s: start a worker that consumes it", MAINTENANCE_QUEUE)
            return
        super().apply_entry(entry, producer)  # type: ignore[no-untyped-call]
