"""How many more samples settle whether a share clears a floor."""

from __future__ import annotations

import math
from statistics import NormalDist

from batcher.statistics.intervals import wilson
from batcher.statistics.sequential import log_evidence_above, log_evidence_below


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


def more_to_decide(successes: int, trials: int, floor: float, alpha: float = 0.05) -> int | None:
    """How many more samples at the present rate bring a sequential test to its verdict.

    Args:
        successes: right answers so far.
        trials: answers so far.
        floor: a share between 0 and 1, both excluded.
        alpha: as in :func:`batcher.statistics.sequential.verdict`.

    Returns:
        0 if it has one; None if the share equals the floor.

    Raises:
        ValueError: if there are no trials, or more successes than trials.
    """
    if trials <= 0 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is not a share")
    share = successes / trials
    if share == floor:
        return None
    evidence = log_evidence_above if share > floor else log_evidence_below

    def decided(total: int) -> bool:
        return evidence(successes * total / trials, total, floor) >= -math.log(alpha)

    if decided(trials):
        return 0
    few, many = trials, 2 * trials
    while not decided(many):
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if decided(middle) else (middle, many)
    return many - trials
