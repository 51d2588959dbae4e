"""Bounds that hold at all times, for answers drawn with unequal, known probabilities.

An item that is right with value y and was drawn with probability q moves a bet against "the share is at most
m" by the factor 1 + stake * (y - m) / q; an item that was not drawn leaves it alone. Over drawing and answer
together an item changes the bet by stake * (share - m) on average, so it gains nothing on average if the
statement holds, and ever reaches 1/alpha with probability at most alpha (Ville 1939). It is the Horvitz and
Thompson estimate of y - m: the unknown number of items not drawn drops out, as in Hajek's estimator.

It assumes: items come in an order that does not depend on their answers, as if drawn from one stream whose
share stays as it is (strata may differ, if they keep coming in the same mixture); an item is drawn
independently of its answer, with the probability stated; and no probability is under the one stated before
the first draw. What an item's drawing costs in certainty is set by that least probability: with equal
probabilities the bounds are about those of :mod:`batcher.statistics.sequential`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from batcher.statistics.sequential import Verdict
from batcher.statistics.weighted import Drawn

_BETS: Final = 24
_STAKES: Final = tuple(((step + 0.5) / _BETS) ** 2 for step in range(_BETS))
"""Stakes as parts of the largest that cannot go broke; a mixture of equal parts. Squares, because close
calls want small ones."""
_STEPS: Final = 40

_Cells = Mapping[tuple[float, float], int]
"""How many items have a value and a probability."""


class WeightedSequentialTest:
    """Decides on which side of a floor a weighted share lies, draw by draw; the first verdict stays.

    Attributes:
        floor: the share in question.
        alpha: the chance at most of "above" for a share that is not, and of "below" for one that is not.
        least_probability: no item may be drawn with less.
        drawn: items so far.
        verdict: None while it is open.
    """

    __slots__ = ("_above", "_below", "alpha", "drawn", "floor", "least_probability", "verdict")

    def __init__(self, floor: float, least_probability: float, alpha: float = 0.05) -> None:
        if not 0 < floor < 1 or not 0 < alpha < 1 or not 0 < least_probability <= 1:
            raise ValueError(f"{floor=}, {alpha=} and {least_probability=} must lie between 0 and 1")
        self.floor = floor
        self.alpha = alpha
        self.least_probability = least_probability
        self.drawn = 0
        self.verdict: Verdict | None = None
        self._above = [0.0] * _BETS
        self._below = [0.0] * _BETS

    def add(self, item: Drawn) -> Verdict | None:
        """Take in a drawn item and say what is known now.

        Raises:
            ValueError: if its value is not between 0 and 1, or it was drawn with less than the least
                probability.
        """
        _check(item, self.least_probability)
        self.drawn += 1
        certainty = self.least_probability / item.probability
        for bet, stake in enumerate(_STAKES):
            self._above[bet] += _log_gain(stake * certainty, item.value, self.floor)
            self._below[bet] += _log_gain(stake * certainty, 1 - item.value, 1 - self.floor)
        if self.verdict is None:
            enough = -math.log(self.alpha)
            if _log_mean(self._above) >= enough:
                self.verdict = Verdict.ABOVE
            elif _log_mean(self._below) >= enough:
                self.verdict = Verdict.BELOW
        return self.verdict


def weighted_lower_bound(drawn: Iterable[Drawn], least_probability: float, alpha: float = 0.05) -> float:
    """A bound that the weighted share is above at all times at once, with probability 1 - alpha; one-sided.

    Raises:
        ValueError: if a value is not between 0 and 1, or an item was drawn with less than the least
            probability, or that is not inside 0 and 1.
    """
    return _lower(_cells(drawn, least_probability), least_probability, alpha)


def weighted_upper_bound(drawn: Iterable[Drawn], least_probability: float, alpha: float = 0.05) -> float:
    """A bound that the weighted share is under at all times at once; otherwise as the lower one."""
    cells: Counter[tuple[float, float]] = Counter()
    for (value, probability), count in _cells(drawn, least_probability).items():
        cells[1 - value, probability] += count
    return 1 - _lower(cells, least_probability, alpha)


def _cells(drawn: Iterable[Drawn], least_probability: float) -> _Cells:
    if not 0 < least_probability <= 1:
        raise ValueError(f"least probability {least_probability} must lie inside 0 and 1")
    cells: Counter[tuple[float, float]] = Counter()
    for item in drawn:
        _check(item, least_probability)
        cells[float(item.value), item.probability] += 1
    return cells


def _check(item: Drawn, least_probability: float) -> None:
    if not least_probability <= item.probability <= 1 or not 0 <= item.value <= 1:
        raise ValueError(f"{item} has no value between 0 and 1 drawn with at least {least_probability}")


def _lower(cells: _Cells, least_probability: float, alpha: float) -> float:
    """Bets on a larger share win less, so the floors proven to lie under the share end at one point."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        bets = [
            sum(
                count * _log_gain(stake * least_probability / probability, value, middle)
                for (value, probability), count in cells.items()
            )
            for stake in _STAKES
        ]
        if _log_mean(bets) >= -math.log(alpha):
            low = middle
        else:
            high = middle
    return low


def _log_gain(stake: float, value: float, floor: float) -> float:
    """The logarithm of a bet's factor; the stake, under 1, is what is lost where the value is 0."""
    return math.log1p(stake * (value / floor - 1))


def _log_mean(logs: list[float]) -> float:
    top = max(logs)
    return top + math.log(sum(math.exp(value - top) for value in logs) / len(logs))
