"""Wilson's interval against published figures, against scipy, and by exact coverage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from batcher.statistics.intervals import wilson


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


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "trials"), [(0, 30), (29, 30), (30, 30), (431, 512), (999, 1000)])
def test_it_is_the_interval_of_a_reference_library(successes: int, trials: int, confidence: float) -> None:
    low, high = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    interval = wilson(successes, trials, confidence)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))


@pytest.fixture(scope="module")
def bounds() -> dict[int, tuple[Any, Any]]:
    """All lower and all upper bounds by sample size."""
    intervals = {n: [wilson(k, n) for k in range(n + 1)] for n in range(30, 1001)}
    return {
        n: (np.array([i.low for i in row]), np.array([i.high for i in row])) for n, row in intervals.items()
    }


def coverage(n: int, bounds: tuple[Any, Any], truths: Any) -> Any:
    """Exact; bounds rise with the successes, so those that cover a truth are a run of successes."""
    first = np.searchsorted(bounds[1], truths, side="left")
    last = np.searchsorted(bounds[0], truths, side="right") - 1
    return binom.cdf(last, n, truths) - binom.cdf(first - 1, n, truths)


def test_coverage_on_average(bounds: dict[int, tuple[Any, Any]]) -> None:
    truths = np.arange(60, 99) / 100
    by_truth = np.mean([coverage(n, bounds[n], truths) for n in bounds], axis=0)
    assert by_truth.min() >= 0.94
    assert by_truth.max() <= 0.96


def test_coverage_at_its_worst(bounds: dict[int, tuple[Any, Any]]) -> None:
    """Coverage jumps down just outside a bound and is smooth between them: the worst is at a jump."""

    def worst(n: int) -> float:
        jumps = np.concatenate([bounds[n][0] - 1e-10, bounds[n][1] + 1e-10])
        jumps = np.append(jumps[(jumps >= 0.6) & (jumps <= 0.98)], [0.6, 0.98])
        return float(coverage(n, bounds[n], jumps).min())

    assert 0.915 <= min(map(worst, bounds)) < 0.917


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 4), (5, 4)])
def test_nonsense_is_refused(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="is not a share"):
        wilson(successes, trials)
