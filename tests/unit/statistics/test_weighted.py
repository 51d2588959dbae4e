"""Weighted shares: they are Wilson's where weights are equal, and cover where they are not."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from batcher.statistics.intervals import wilson
from batcher.statistics.weighted import Stratum, weighted_share

cells = st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(cells, st.sampled_from([0.8, 0.95, 0.99]))
def test_one_stratum_is_wilson(case: tuple[int, int], confidence: float) -> None:
    found = weighted_share([Stratum(*case, weight=1234.5)], confidence)
    expected = wilson(*case, confidence)
    assert found is not None
    assert found.interval.low == pytest.approx(expected.low, abs=1e-9)
    assert found.interval.high == pytest.approx(expected.high, abs=1e-9)
    assert (found.interval.share, found.drawn) == (pytest.approx(expected.share), case[1])
    assert found.effective == pytest.approx(case[1])


@given(st.lists(st.tuples(cells, st.floats(0.5, 5000)), min_size=1, max_size=8))
def test_bounds_hold_the_share_and_mirror(drawn: list[tuple[tuple[int, int], float]]) -> None:
    right = weighted_share([Stratum(k, n, weight) for (k, n), weight in drawn])
    wrong = weighted_share([Stratum(n - k, n, weight) for (k, n), weight in drawn])
    assert right is not None
    assert wrong is not None
    assert 0 <= right.interval.low <= right.interval.share <= right.interval.high <= 1
    assert right.interval.low < right.interval.high
    assert right.interval.low == pytest.approx(1 - wrong.interval.high, abs=1e-9)
    assert right.effective <= right.drawn * (1 + 1e-9)


@pytest.mark.parametrize(
    ("truths", "draws", "weights"),
    [
        ((0.9, 0.9), (20, 20), (0.5, 0.5)),
        ((0.9, 0.9), (10, 50), (0.5, 0.5)),
        ((0.98, 0.8), (40, 20), (0.9, 0.1)),
        ((0.6, 0.99), (10, 60), (0.5, 0.5)),
        ((0.97, 0.99), (5, 60), (0.5, 0.5)),
        ((0.9, 0.5), (3, 60), (0.3, 0.7)),
        ((0.5, 0.99), (8, 60), (0.08, 0.92)),
    ],
)
def test_it_covers_with_two_strata(
    truths: tuple[float, float], draws: tuple[int, int], weights: tuple[float, float]
) -> None:
    """Exact: summed over both binomial distributions."""
    truth = sum(weight * share for weight, share in zip(weights, truths, strict=True))
    covered = 0.0
    for first, second in itertools.product(range(draws[0] + 1), range(draws[1] + 1)):
        chance = float(binom.pmf(first, draws[0], truths[0]) * binom.pmf(second, draws[1], truths[1]))
        if chance < 1e-7:
            continue
        found = weighted_share([Stratum(first, draws[0], weights[0]), Stratum(second, draws[1], weights[1])])
        assert found is not None
        covered += chance * (found.interval.low <= truth <= found.interval.high)
    assert 0.925 <= covered <= 0.985


@pytest.mark.parametrize(
    "strata",
    [
        [(1500, 0.95, 0.03), (300, 0.6, 0.15)],
        [
            (800, 0.97, 0.04),
            (400, 0.95, 0.04),
            (100, 0.9, 0.1),
            (60, 0.8, 0.1),
            (30, 0.6, 0.1),
            (20, 0.5, 0.1),
        ],
        [(3000, 0.98, 0.01), (500, 0.8, 0.1), (50, 0.6, 0.5)],
    ],
    ids=["two", "six", "steep"],
)
def test_it_covers_under_poisson_sampling(strata: list[tuple[int, float, float]]) -> None:
    """Every item is drawn or not by itself, so some strata go without; 500 seeded draws."""
    drawn = random.Random(3)
    population = sum(size for size, _, _ in strata)
    truth = sum(size * share for size, share, _ in strata) / population
    runs, covered, shares = 500, 0, 0.0
    for _ in range(runs):
        given = []
        for size, share, probability in strata:
            scored = [drawn.random() < share for _ in range(size) if drawn.random() < probability]
            given.append(Stratum(sum(scored), len(scored), size))
        found = weighted_share(given)
        assert found is not None
        covered += found.interval.low <= truth <= found.interval.high
        shares += found.interval.share
    assert 0.93 <= covered / runs <= 0.985
    assert shares / runs == pytest.approx(truth, abs=0.01)


def test_the_weighting_is_right() -> None:
    """Of 1,000 easy items a tenth was drawn and all were right, of 100 hard ones half, and half were."""
    found = weighted_share([Stratum(100, 100, 1000), Stratum(25, 50, 100)])
    assert found is not None
    assert found.interval.share == pytest.approx(1050 / 1100)
    assert found.drawn == 150
    assert found.effective == pytest.approx(1100**2 / (100 * 10**2 + 50 * 2**2))


def test_what_nobody_saw_could_be_anything() -> None:
    seen = weighted_share([Stratum(40, 40, 90)])
    both = weighted_share([Stratum(40, 40, 90), Stratum(0, 0, 10)])
    assert seen is not None
    assert both is not None
    assert (seen.unseen, both.unseen) == (0, pytest.approx(0.1))
    assert both.interval.share == 1
    assert both.interval.low == pytest.approx(0.9 * seen.interval.low)
    assert both.interval.high == 1


def test_scores_between_right_and_wrong_count_in_part() -> None:
    found = weighted_share([Stratum(15.0, 30, 150)])
    assert found is not None
    assert found.interval.share == pytest.approx(0.5)
    assert found.interval.low == pytest.approx(wilson(15, 30).low)


def test_nothing_drawn_says_nothing() -> None:
    assert weighted_share([]) is None
    assert weighted_share([Stratum(0, 0, 10)]) is None


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a share with a weight"):
        weighted_share([Stratum(3, 2, 1)])
    with pytest.raises(ValueError, match="is not a share with a weight"):
        weighted_share([Stratum(1, 2, 0)])
