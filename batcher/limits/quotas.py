"""What vendors count, and which limit is in force: the catalogue's, the user's or the one in the headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from batcher.catalog.models import Limits

MINUTE_S: Final = 60.0
DAY_S: Final = 86_400.0
UNLIMITED: Final = Limits(rpm=None, tpm=None)


class Dimension(StrEnum):
    """One thing that is counted. The value is the name of its field in a record of limits.

    A ``Charge`` has one amount for each, in this order.
    """

    RPM = "rpm"
    RPD = "rpd"
    TPM = "tpm"
    TPD = "tpd"
    ITPM = "itpm"
    OTPM = "otpm"


DIMENSIONS: Final = tuple(Dimension)
_UNITS: Final = {"r": "requests", "t": "tokens", "i": "input tokens", "o": "output tokens"}
_SPANS: Final = {1.0: "s", MINUTE_S: "min", DAY_S: "day"}

Charge = tuple[float, ...]
"""Amounts by dimension, in the order of ``DIMENSIONS``."""


@dataclass(frozen=True, slots=True)
class Quota:
    """So many units in any so many seconds."""

    limit: int
    span_s: float

    @property
    def per_s(self) -> float:
        """Units per second."""
        return self.limit / self.span_s

    def text(self, dimension: Dimension) -> str:
        """For people: ``500 requests/min``."""
        span = _SPANS.get(self.span_s) or f"{self.span_s:g} s"
        return f"{self.limit:,} {_UNITS[dimension[0]]}/{span}"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a response says of one limit.

    Attributes:
        dimension: which one.
        limit: units per window; None if the response does not say.
        window_s: the length of that window.
        remaining: units left; None if not said, or said in a way that cannot be relied on.
        reset_s: seconds until the limit is whole again; None if not said.
    """

    dimension: Dimension
    limit: int | None
    window_s: float
    remaining: int | None = None
    reset_s: float | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that the headers of one response say of limits; empty if they say nothing."""

    readings: tuple[Reading, ...] = ()


class Quotas:
    """The limits in force on one key.

    In rising order of trust: the default, the user's own, the headers. What headers say raises or lowers the
    default, but never goes above the user's own, which is a ceiling.

    Args:
        default: what the catalogue says, with the user's settings over it. A record with fields named like
            the dimensions; missing ones count as None. ``charges_output_limit`` says that the vendor charges
            the output limit of a request to ``tpm`` and not what was written (OpenAI does).
        ceiling: what the user set on purpose; None if nothing.
    """

    def __init__(self, default: Any, ceiling: Any = None) -> None:
        self._default = _of_record(default)
        self._ceiling = _of_record(ceiling)
        self._observed: dict[Dimension, Quota] = {}
        self.charges_output_limit = bool(getattr(default, "charges_output_limit", False))
        most = [getattr(record, "concurrency", None) for record in (default, ceiling)]
        self.concurrency: int | None = min((count for count in most if count), default=None)

    @property
    def observed(self) -> Mapping[Dimension, Quota]:
        """The limits that headers have told."""
        return self._observed

    def learn(self, told: Mapping[Dimension, Quota]) -> bool:
        """Take over limits from headers; whether that is news."""
        if told.items() <= self._observed.items():
            return False
        self._observed.update(told)
        return True

    def in_force(self) -> dict[Dimension, Quota]:
        """The limit of every dimension that has one."""
        apart = Dimension.ITPM in self._observed and Dimension.OTPM in self._observed
        found = {}
        for dimension in DIMENSIONS:
            quota = self._observed.get(dimension)
            if quota is None and not (apart and dimension is Dimension.TPM):
                quota = self._default.get(dimension)
            most = self._ceiling.get(dimension)
            if most is not None and (quota is None or quota.per_s > most.per_s):
                quota = most
            if quota is not None:
                found[dimension] = quota
        return found


def told_limits(observed: Observed) -> dict[Dimension, Quota]:
    """The limits, without what is left of them. Of two for one dimension the tighter counts."""
    told: dict[Dimension, Quota] = {}
    for reading in observed.readings:
        if reading.limit is not None:
            quota = Quota(reading.limit, reading.window_s)
            known = told.get(reading.dimension)
            if known is None or quota.per_s < known.per_s:
                told[reading.dimension] = quota
    return told


def wording(waiting_for: Sequence[tuple[float, Dimension]], quotas: Mapping[Dimension, Quota]) -> str:
    """Why somebody waits for a limit, given how long each takes; "" if none does."""
    longest, dimension = max(waiting_for, default=(0.0, None))
    if dimension is None or longest <= 0 or dimension not in quotas:
        return ""
    return f"rate limit: {quotas[dimension].text(dimension)}"


def _of_record(record: Any) -> dict[Dimension, Quota]:
    found = {}
    for dimension in DIMENSIONS:
        limit = getattr(record, dimension.value, None)
        if limit is not None and limit > 0:
            found[dimension] = Quota(int(limit), DAY_S if dimension.endswith("d") else MINUTE_S)
    return found
