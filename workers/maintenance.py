"""What the schedule has done every few seconds, by whichever worker takes the message."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from batcher.dispatch.maintenance import maintain
from batcher.dispatch.waking import Waker
from batcher.errors import BatcherError

if TYPE_CHECKING:
    from celery import Celery

    from batcher.runtime import Runtime

_log = logging.getLogger("batcher.maintenance")


def maintain_once(runtime: Runtime, app: Celery) -> None:
    """Have judged what was drawn, take back lost leases, set due jobs going, send alerts; ring for work."""
    try:
        runtime.judging.keep_up(None)
        tiers = maintain(runtime.store, runtime.ledger)
        runtime.alerts.check(None)
        runtime.alerts.deliver()
        if tiers:
            Waker(app).ring(tiers)
    except BatcherError as error:
        _log.error("%s. The schedule tries again", error)
