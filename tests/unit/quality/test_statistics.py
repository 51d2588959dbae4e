"""Intervals against published figures and by counting."""

from __future__ import annotations

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.quality.statistics import wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe 1998, table I, method 3 (Wilson without continuity correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_intervals(successes: int, trials: int, low: float, high: float) -> None:
    interval = wilson(successes, trials)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_stays_in_bounds(case: tuple[int, int]) -> None:
    interval = wilson(*case)
    assert 0 <= interval.low <= interval.share <= interval.high <= 1


@pytest.mark.parametrize("truth", [0.6, 0.8, 0.9, 0.95])
def test_it_covers_about_as_often_as_it_says(truth: float) -> None:
    """Exact coverage, summed over the binomial distribution: averaged over sizes within a point of 95 %."""

    def coverage(trials: int) -> float:
        intervals = [wilson(successes, trials) for successes in range(trials + 1)]
        return sum(
            comb(trials, successes) * truth**successes * (1 - truth) ** (trials - successes)
            for successes, interval in enumerate(intervals)
            if interval.low <= truth <= interval.high
        )

    sizes = range(30, 200, 7)
    assert 0.94 <= sum(map(coverage, sizes)) / len(sizes) <= 0.96


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 4), (5, 4)])
def test_nonsense_is_refused(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="is not a share"):
        wilson(successes, trials)
