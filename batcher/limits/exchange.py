"""What a lane of a shared limiter asks for, and what it is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson

from batcher.limits.quotas import DIMENSIONS, MINUTE_S, Charge, Dimension, Quota
from batcher.limits.window import DRAIN_TOLERANCE_S, held_share, kept_span_s

LOST_AFTER_S: Final = 10.0
"""The calls of a process that has not asked for so long are over: while it has any, it asks every 2 s."""
FORGOTTEN_AFTER_S: Final = 60.0
"""One that was silent for so long has no part of the limits when the store is lost."""

Spec = tuple[str, int, float, float, int]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request for permits.

    Attributes:
        quotas: the limits in force, as this process knows them.
        observed: the limits that headers told, as text; what all processes share.
        settled: by dimension, what is given back; negative where more was used than booked.
        queue: the charges of those who wait, in their order.
        spare_count: permits wanted beyond the queue, for those who come next.
        spare: what those are to hold in all, by dimension.
        in_flight: calls under way in this process.
        concurrency: the most in all processes; 0 for no limit.
        resumed: the limit was in use until now, though the store does not know it.
        leaving: this process is closing.
    """

    quotas: Mapping[Dimension, Quota]
    observed: str
    settled: tuple[float, ...]
    queue: tuple[Charge, ...]
    spare_count: int
    spare: tuple[float, ...]
    in_flight: int
    concurrency: int = 0
    resumed: bool = False
    leaving: bool = False

    def to_json(self, process: str) -> bytes:
        """As ``lua/take.lua`` reads it."""
        return orjson.dumps(
            {
                "process": process,
                "windows": specs(self.quotas),
                "observed": self.observed,
                "settled": self._by_window(self.settled),
                "queue": [self._by_window(charge) for charge in self.queue],
                "spare_count": self.spare_count,
                "spare": self._by_window(self.spare),
                "in_flight": self.in_flight,
                "concurrency": self.concurrency,
                "resumed": int(self.resumed),
                "leaving": int(self.leaving),
                "lost_after_s": LOST_AFTER_S,
                "forgotten_after_s": FORGOTTEN_AFTER_S,
                "ttl_s": time_to_live_s(self.quotas),
            }
        )

    def _by_window(self, amounts: Charge) -> list[float]:
        return [amount for name, amount in zip(DIMENSIONS, amounts, strict=True) if name in self.quotas]


@dataclass(frozen=True, slots=True)
class Reply:
    """What is granted.

    Attributes:
        admitted: how many of the queue may go.
        spare: how many spare permits are handed out.
        wait_s: seconds until the next of the queue may go, at best.
        why: what the next waits for: a dimension's name, ``cool``, ``in flight``, or "".
        alive: processes that used the key in the last minute, this one included.
        cool_s: seconds for which nothing is admitted.
        cool_reason: why.
        observed: limits that this process did not know; if there are any, nothing else was done.
        rooms: what is believed to be left at the vendor, as a share of each limit.
    """

    admitted: int = 0
    spare: int = 0
    wait_s: float = 0.0
    why: str = ""
    alive: int = 1
    cool_s: float = 0.0
    cool_reason: str = ""
    observed: str = ""
    rooms: Mapping[Dimension, float] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: bytes, quotas: Mapping[Dimension, Quota]) -> Reply:
        """As ``lua/take.lua`` writes it."""
        found: dict[str, Any] = orjson.loads(text)
        rooms = found.pop("rooms")
        return cls(**found, rooms=dict(zip(quotas, rooms, strict=False)) if rooms else {})


class Grantor(Protocol):
    """Answers what lanes ask, from the limits of all processes or from this process's part of them."""

    async def grant(self, key: str, ask: Ask) -> Reply:
        """Answer; never raises."""
        ...

    def share_observed(self, key: str, quotas: Mapping[Dimension, Quota], observed: str, left: Left) -> None:
        """Tell all processes what headers said."""
        ...

    def share_cool_down(self, key: str, seconds: float, reason: str) -> None:
        """Tell all processes to admit nothing for a while."""
        ...

    def trouble(self) -> str:
        """Why permits come from this process's part of the limits just now; "" if they do not."""
        ...


Left = Mapping[Dimension, float]
"""What a response says is left, as a share of each limit."""


def specs(quotas: Mapping[Dimension, Quota]) -> list[Spec]:
    """Windows as the Lua scripts read them."""
    return [
        (name.value, quota.limit, kept_span_s(quota), held_share(quota), int(quota.span_s <= MINUTE_S))
        for name, quota in quotas.items()
    ]


def observation_to_json(quotas: Mapping[Dimension, Quota], observed: str, left: Left) -> bytes:
    """As ``lua/observe.lua`` reads it."""
    return orjson.dumps(
        {
            "observed": observed,
            "windows": specs(quotas),
            "left": [left.get(name, 2.0) for name in quotas],
            "tolerance_s": DRAIN_TOLERANCE_S,
            "ttl_s": time_to_live_s(quotas),
        }
    )


def time_to_live_s(quotas: Mapping[Dimension, Quota]) -> int:
    """How long the state of a key that nobody uses is kept: twice its longest window, at least an hour."""
    return int(max(3600.0, *(2 * quota.span_s for quota in quotas.values()), 0.0))


def observed_to_text(observed: Mapping[Dimension, Quota]) -> str:
    """Limits as all processes share them."""
    return orjson.dumps(
        {name.value: (quota.limit, quota.span_s) for name, quota in observed.items()}
    ).decode()


def observed_from_text(text: str) -> dict[Dimension, Quota]:
    """The inverse."""
    return {Dimension(name): Quota(limit, span_s) for name, (limit, span_s) in orjson.loads(text).items()}
