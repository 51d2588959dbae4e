"""Bounds for a share that may be looked at after every answer: they hold at all times at once.

A 95 % interval for one look is wrong far more often than in 5 % of runs for those who look every day and act
the first time it clears. Here the evidence against "the share is at most p" is a bet that starts with 1 and
multiplies with every answer, and that gains nothing on average if the statement holds; so it ever reaches
1/alpha with probability at most alpha (Ville 1939). The bet is a mixture over the shares on the other side of
p, weighted by a beta distribution (Robbins 1970; Howard and others 2021), which has a closed form.

All this is about answers that are right independently of each other with one share. Where the share drifts,
or differs from document to document in an order that is not random, the bounds speak of no time in
particular.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Final

PRIOR_ANSWERS: Final = 20.0
"""How sharply bets expect the share near the floor, in answers. Of 1 to 100, and of uniform ones, measured on
floors of .8 and .9 with the truth 2 to 10 points away, 20 needs within a sixth of the fewest answers."""

_STEPS: Final = 60
_MOST_FRACTIONS: Final = 10_000
_TINY: Final = 1e-300
_PRECISE: Final = 1e-14


class Verdict(StrEnum):
    """Which side of a floor a share lies on."""

    ABOVE = "above"
    BELOW = "below"


def log_evidence_above(successes: float, trials: float, floor: float) -> float:
    """The natural logarithm of the evidence that the share is above the floor.

    If the share is at most the floor, the chance that this ever exceeds log(1/alpha) is at most alpha.

    Args:
        successes: right answers (any number from 0 to trials: planning asks for expected ones).
        trials: answers.
        floor: a share between 0 and 1, both excluded.

    Raises:
        ValueError: if the counts are not a share or the floor is not inside 0 and 1.
    """
    if not 0 <= successes <= trials or not 0 < floor < 1:
        raise ValueError(f"{successes} of {trials} against {floor} is not a share against a floor")
    a, b = PRIOR_ANSWERS * floor, PRIOR_ANSWERS * (1 - floor)
    failures = trials - successes
    return (
        _log_beta_below(1 - floor, b + failures, a + successes)
        - _log_beta_below(1 - floor, b, a)
        - successes * math.log(floor)
        - failures * math.log1p(-floor)
    )


def log_evidence_below(successes: float, trials: float, floor: float) -> float:
    """The same for the share being below the floor."""
    return log_evidence_above(trials - successes, trials, 1 - floor)


def verdict(successes: int, trials: int, floor: float, alpha: float = 0.05) -> Verdict | None:
    """Which side of the floor the share lies on, or None while it is open.

    Says "above" of a share at or under the floor, at whatever time, with probability at most alpha; likewise
    "below" of one at or over it.
    """
    if log_evidence_above(successes, trials, floor) >= -math.log(alpha):
        return Verdict.ABOVE
    if log_evidence_below(successes, trials, floor) >= -math.log(alpha):
        return Verdict.BELOW
    return None


def lower_bound(successes: int, trials: int, alpha: float = 0.05) -> float:
    """A bound that the share is above at all times at once, with probability 1 - alpha; one-sided."""
    if trials < 0 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is not a share")
    if successes == 0:
        return 0.0
    enough = -math.log(alpha)
    return _crossing(lambda floor: log_evidence_above(successes, trials, floor) >= enough, successes / trials)


def upper_bound(successes: int, trials: int, alpha: float = 0.05) -> float:
    """A bound that the share is under at all times at once, with probability 1 - alpha; one-sided."""
    return 1 - lower_bound(trials - successes, trials, alpha)


def _crossing(proven: Callable[[float], bool], high: float) -> float:
    """The largest floor, up to ``high``, that is proven to lie under the share."""
    low = 0.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if proven(middle):
            low = middle
        else:
            high = middle
    return low


def _log_beta_below(x: float, a: float, b: float) -> float:
    """The logarithm of the integral of t^(a-1) (1-t)^(b-1) from 0 to x, for a and b above 0."""
    whole = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    if x < (a + 1) / (a + b + 2):
        return _log_beta_fraction(x, a, b)
    above = _log_beta_fraction(1 - x, b, a) - whole
    return whole + math.log1p(-min(math.exp(above), 1 - _PRECISE))


def _log_beta_fraction(x: float, a: float, b: float) -> float:
    """The same by its continued fraction, which converges fast left of the distribution's mean.

    Digital Library of Mathematical Functions, 8.17.22, by Lentz's method.
    """
    d = 1 / _nonzero(1 - (a + b) * x / (a + 1))
    c, fraction = 1.0, d
    for m in range(1, _MOST_FRACTIONS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _nonzero(1 + term * d)
            c = _nonzero(1 + term / c)
            fraction *= c * d
        if abs(c * d - 1) < _PRECISE:
            break
    return a * math.log(x) + b * math.log1p(-x) - math.log(a) + math.log(fraction)


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
