"""What a user asks of a job's routing."""

from __future__ import annotations

from dataclasses import dataclass

from batcher.catalog.privacy import Privacy


@dataclass(frozen=True, slots=True)
class RouteWish:
    """What the command line says of the routing; None where it says nothing.

    Attributes:
        floor: the least share of correct answers that is good enough; it turns routing on.
        privacy: where documents may go.
        max_latency_s: the most that a usual call may take.
        learned: climb the ladder that was learned for the task.
    """

    floor: float | None = None
    privacy: Privacy | None = None
    max_latency_s: float | None = None
    learned: bool = False
