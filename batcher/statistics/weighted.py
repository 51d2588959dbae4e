"""A share estimated from items that were drawn with unequal, known probabilities."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from batcher.statistics.intervals import Interval


@dataclass(frozen=True, slots=True)
class Stratum:
    """What was drawn from one group of items, all with one probability.

    Attributes:
        successes: how many were right (or the sum of scores between 0 and 1).
        trials: how many were drawn and scored.
        weight: how many items they stand for: the group's size.
    """

    successes: float
    trials: int
    weight: float


@dataclass(frozen=True, slots=True)
class WeightedShare:
    """A weighted share with its interval.

    Attributes:
        interval: the share and its bounds.
        drawn: how many items it rests on.
        effective: how many evenly drawn items would say as much (Kish 1965: the squared sum of weights
            through the sum of squared weights); at most ``drawn``.
        unseen: the part of the population, 0 to 1, in groups of which nothing was drawn. The interval
            allows for anything there.
    """

    interval: Interval
    drawn: int
    effective: float
    unseen: float


def weighted_share(strata: Iterable[Stratum], confidence: float = 0.95) -> WeightedShare | None:
    """The share of right items in a population of which a weighted sample is known (Hajek's estimator).

    The interval is the score interval of a weighted sum of shares: all shares that the sample does not
    reject, with the variance taken under the share in question and the strata's own shares at their most
    likely there (as Miettinen and Nurminen 1985 do for differences). With one stratum it is Wilson's. It
    speaks of the process that made the answers, so it does not shrink to nothing when all items are drawn.

    In simulation (1 to 6 strata of 3 to 200 draws, true shares .5 to .99) a 95 % interval covered in 93 to
    98 %; one from Kish's effective sample size alone in 87 to 100 %.

    Returns:
        None if nothing was drawn.

    Raises:
        ValueError: if a stratum has more successes than trials, or no weight.
    """
    given = [_checked(stratum) for stratum in strata]
    seen = [stratum for stratum in given if stratum.trials]
    if not seen:
        return None
    population = sum(stratum.weight for stratum in seen)
    cells = [_Cell(s.successes / s.trials, s.trials, s.weight / population) for s in seen]
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = sum(cell.weight * cell.share for cell in cells)
    low = _lower_limit(cells, z)
    high = 1 - _lower_limit([cell.mirrored() for cell in cells], z)
    whole = sum(stratum.weight for stratum in given)
    unseen = 1 - population / whole
    return WeightedShare(
        Interval(
            share,
            max(0.0, min(share, low)) * (1 - unseen),
            min(1.0, max(share, high)) * (1 - unseen) + unseen,
        ),
        sum(stratum.trials for stratum in seen),
        1 / sum(cell.weight**2 / cell.trials for cell in cells),
        unseen,
    )


_STEPS: Final = 100
"""Bisections; each halves the bracket, and doubles have 53 bits."""


@dataclass(frozen=True, slots=True)
class _Cell:
    share: float
    trials: int
    weight: float
    """Part of the seen population."""

    def mirrored(self) -> _Cell:
        """The same cell, with wrong for right."""
        return _Cell(1 - self.share, self.trials, self.weight)

    def at(self, pull: float) -> float:
        """The cell's most likely share when a Lagrange multiplier pulls the whole's share down.

        Solves ``trials * (share - q) = pull * weight * q * (1 - q)`` for q in [0, share].
        """
        c = pull * self.weight / self.trials
        return 2 * self.share / (1 + c + math.sqrt((1 - c) ** 2 + 4 * c * (1 - self.share)))


def _checked(stratum: Stratum) -> Stratum:
    if not 0 <= stratum.successes <= stratum.trials or stratum.weight <= 0:
        raise ValueError(f"{stratum} is not a share with a weight")
    return stratum


def _lower_limit(cells: Sequence[_Cell], z: float) -> float:
    """The least share that the sample does not reject; found along the pull, which moves it down."""
    if not any(cell.share for cell in cells):
        return 0.0

    def rejected(pull: float) -> tuple[bool, float]:
        at = [cell.at(pull) for cell in cells]
        whole = sum(cell.weight * q for cell, q in zip(cells, at, strict=True))
        inner = sum(cell.weight**2 * q * (1 - q) / cell.trials for cell, q in zip(cells, at, strict=True))
        # The observed share lies pull * inner above the whole: that is the cells' equation, summed.
        return (pull * inner) ** 2 > z * z * inner, whole

    near, far = 0.0, 1.0
    while not rejected(far)[0]:
        near, far = far, far * 2
    for _ in range(_STEPS):
        middle = (near + far) / 2
        if rejected(middle)[0]:
            far = middle
        else:
            near = middle
    return rejected(near)[1]
