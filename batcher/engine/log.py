"""What the engine says in a log: chunks, calls and items that failed, jobs that are done.

Records carry the ids of what they concern, and hold no text of a document or of an answer.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from batcher.domain import NOT_SENT, FailureClass
from batcher.engine.leasing import Chunk
from batcher.engine.marks import Mark
from batcher.store.attempts import Settlement

_log = logging.getLogger("batcher.engine")

LINES_PER_MINUTE: Final = 60
"""Of one kind, in one process: a vendor that is down fails thousands of calls alike."""

_MINUTE_S: Final = 60.0


class Sparing:
    """Lets so many lines pass per minute, and says with the next one how many it held back."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._said = 0
        self._held_back = 0

    def log(self, level: int, message: str, *arguments: object, **ids: object) -> None:
        """Write a record that carries these ids, if there is room for it this minute."""
        if not _log.isEnabledFor(level):
            return
        now = time.monotonic()
        if now - self._since >= _MINUTE_S:
            self._since, self._said = now, 0
        if self._said >= LINES_PER_MINUTE:
            self._held_back += 1
            return
        self._said += 1
        if self._held_back:
            message, arguments = f"{message} (%d more like it were not logged)", (*arguments, self._held_back)
            self._held_back = 0
        _log.log(level, message, *arguments, extra=ids)


class EngineLog:
    """The log of one engine."""

    def __init__(self) -> None:
        self._calls = Sparing()
        self._items = Sparing()

    def leased(self, chunk: Chunk) -> None:
        """A chunk was leased."""
        if _log.isEnabledFor(logging.DEBUG):
            ids = {"job_id": chunk.lane.job.id, "lease_id": chunk.lease_id, "tier": chunk.lane.tier}
            _log.debug("leased %d items", len(chunk.items), extra=ids)

    def call_ended(self, mark: Mark, settlement: Settlement) -> None:
        """A call has ended; only its failure is worth a line."""
        if settlement.outcome in {"ok", NOT_SENT}:
            return
        status = f" ({settlement.status_code})" if settlement.status_code else ""
        self._calls.log(
            logging.INFO,
            "call failed: %s%s",
            settlement.outcome,
            status,
            job_id=mark.job_id,
            item_id=mark.item_id,
            attempt_id=mark.attempt_id,
            tier=mark.tier,
            model=mark.model,
        )

    def item_failed(self, job_id: int, item_id: int, tier: str, failure: FailureClass | None) -> None:
        """An item is a dead letter."""
        self._items.log(
            logging.WARNING, "item failed for good: %s", failure, job_id=job_id, item_id=item_id, tier=tier
        )


def log_done(job_id: int) -> None:
    """A job is done."""
    _log.info("job %d is done", job_id, extra={"job_id": job_id})
