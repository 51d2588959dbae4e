"""How many more samples settle whether a share clears a floor."""

from __future__ import annotations

import math
from statistics import NormalDist

from batcher.statistics.intervals import wilson


def more_to_settle(successes: int, trials: int, floor: float, confidence: float = 0.95) -> int | None:
    """How many more samples at the present rate take Wilson's interval off the floor.

    Wilson's bounds are the shares that a score test does not reject, so the size is that at which the
    share's distance from the floor is z standard errors: z^2 floor (1 - floor) / (share - floor)^2.

    Returns:
        0 if the lower bound has reached the floor or the upper one is under it; None if the share equals
        the floor, which no number of samples settles.

    Raises:
        ValueError: if there are no trials, or more successes than trials.
    """
    interval = wilson(successes, trials, confidence)
    if interval.share == floor:
        return None
    if interval.low >= floor or interval.high < floor:
        return 0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    needed = z * z * floor * (1 - floor) / (interval.share - floor) ** 2
    return max(1, math.ceil(needed) - trials)
