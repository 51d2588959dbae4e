"""How much an engine does at once, and how long it waits for what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from batcher.engine.policy import RetryLimits

CONTROL_INTERVAL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How much at once, how long.

    Attributes:
        concurrency: calls in flight at most.
        chunk_items: items per lease at most.
        lease_s: seconds until an unrenewed lease expires.
        control_s: how often a run looks whether its jobs were paused or cancelled, and stores why it waits.
    """

    concurrency: int
    chunk_items: int
    lease_s: float
    retry: RetryLimits
    control_s: float = CONTROL_INTERVAL_S
