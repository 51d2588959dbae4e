"""Two models over the same items: which is better, and by how much."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist
from typing import Final

_STEPS: Final = 60


@dataclass(frozen=True, slots=True)
class PairedCounts:
    """How often both, only the first, only the second, or neither of two was right on the same item."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @classmethod
    def of(cls, pairs: Iterable[tuple[bool, bool]]) -> PairedCounts:
        """Count pairs of (first is right, second is right), one for each item."""
        counts = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
        for first, second in pairs:
            counts[bool(first), bool(second)] += 1
        return cls(*counts.values())

    @property
    def items(self) -> int:
        """How many items were counted."""
        return self.both + self.only_first + self.only_second + self.neither


@dataclass(frozen=True, slots=True)
class Difference:
    """The second's share less the first's, -1 to 1, with its confidence interval."""

    difference: float
    low: float
    high: float


class Within(StrEnum):
    """Whether the second is at most a margin worse than the first."""

    YES = "yes"
    NO = "no"
    OPEN = "open"


def mcnemar(counts: PairedCounts) -> float:
    """The exact p-value, 0 to 1, of "both are right equally often" (McNemar 1947; two-sided, binomial)."""
    split = counts.only_first + counts.only_second
    fewer = min(counts.only_first, counts.only_second)
    ways = tail = 1
    for k in range(fewer):
        ways = ways * (split - k) // (k + 1)
        tail += ways
    return min(1.0, tail / 2 ** (split - 1)) if split else 1.0


def difference(counts: PairedCounts, confidence: float = 0.95) -> Difference:
    """How much more often the second is right, with Tango's score interval (Tango 1998).

    It holds its confidence for small samples and few disagreements, where the usual one (Wald) does not.

    Raises:
        ValueError: if there are no items.
    """
    if counts.items <= 0:
        raise ValueError("no items, no difference")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    observed = (counts.only_second - counts.only_first) / counts.items
    gained, lost, items = counts.only_second, counts.only_first, counts.items
    return Difference(
        observed, _lowest(gained, lost, items, z, observed), -_lowest(lost, gained, items, z, -observed)
    )


def within(counts: PairedCounts, margin: float = 0.05, confidence: float = 0.95) -> Within:
    """Whether switching from the first to the second costs at most a margin.

    Reads the verdict off the two-sided interval that reports show: yes if all of it lies above -margin, no
    if all of it lies below. A wrong yes comes with probability (1 - confidence) / 2 at most, about.

    Args:
        counts: the first is what is in use, the second what would take its place.
        margin: the loss that is put up with, as a share (0.05: 5 points).
        confidence: of the interval.
    """
    interval = difference(counts, confidence)
    if interval.low > -margin:
        return Within.YES
    return Within.NO if interval.high < -margin else Within.OPEN


def _lowest(gained: int, lost: int, items: int, z: float, observed: float) -> float:
    """The least difference that the sample does not reject, by bisection of Tango's score."""
    rejected, kept = -1.0, observed
    for _ in range(_STEPS):
        middle = (rejected + kept) / 2
        if _score(gained, lost, items, middle) > z:
            rejected = middle
        else:
            kept = middle
    return kept


def _score(gained: int, lost: int, items: int, shift: float) -> float:
    """The observed difference's distance from a supposed one, in standard errors under that one."""
    # The most likely share of items lost, if the share of items gained is that plus the shift.
    b = -gained - lost + (2 * items - gained + lost) * shift
    c = -lost * shift * (1 - shift)
    root = math.sqrt(max(0.0, b * b - 8 * items * c))
    share_lost = (root - b) / (4 * items)
    variance = items * (2 * share_lost + shift * (1 - shift))
    distance = gained - lost - items * shift
    if variance <= 0:
        return math.inf if distance > 0 else 0.0
    return distance / math.sqrt(variance)
