"""Bounds that hold at all times: exact error rates over all paths, and the mixture against quadrature."""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta

from batcher.statistics.intervals import wilson
from batcher.statistics.sequential import (
    PRIOR_ANSWERS,
    Verdict,
    log_evidence_above,
    log_evidence_below,
    lower_bound,
    upper_bound,
    verdict,
)

LONGEST = 1000
Says = Callable[[int, int], bool]


def says(which: Verdict, floor: float, alpha: float) -> Says:
    return lambda successes, trials: verdict(successes, trials, floor, alpha) is which


def ever(
    above: Says, truth: float, every: int = 10, longest: int = LONGEST, rising: bool = True
) -> list[float]:
    """The chance that a run has had a verdict by each number of answers, exact: all paths are followed.

    Args:
        above: the verdict, from successes and trials; it holds from some number of successes on (or, if
            not ``rising``, up to some number).
        truth: the true share.
        every: how many answers lie between two looks.
        longest: how many answers a run has.
        rising: whether more successes bring the verdict nearer.
    """
    open_paths = np.zeros(longest + 1)
    open_paths[0] = 1.0
    stopped = [0.0]
    for trials in range(1, longest + 1):
        open_paths[1:] = open_paths[1:] * (1 - truth) + open_paths[:-1] * truth
        open_paths[0] *= 1 - truth
        out = 0.0
        if trials % every == 0:
            edge = bisect_left(range(trials + 1), True, key=lambda k: above(k, trials) is rising)
            side = slice(edge, None) if rising else slice(None, edge)
            out = float(open_paths[side].sum())
            open_paths[side] = 0.0
        stopped.append(stopped[-1] + out)
    return stopped


@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize("floor", [0.6, 0.8, 0.9, 0.98])
@pytest.mark.parametrize("every", [1, 10])
def test_at_the_floor_it_is_fooled_no_oftener_than_stated(floor: float, alpha: float, every: int) -> None:
    fooled_up = ever(says(Verdict.ABOVE, floor, alpha), floor, every)[-1]
    fooled_down = ever(says(Verdict.BELOW, floor, alpha), floor, every, rising=False)[-1]
    assert alpha / 10 < fooled_up <= alpha
    assert alpha / 10 < fooled_down <= alpha


def test_a_bound_for_one_look_is_fooled() -> None:
    """What the sequential bounds are for: a 95 % Wilson interval, looked at every 10 answers."""
    up = ever(lambda k, n: wilson(k, n).low > 0.8, 0.8)[-1]
    down = ever(lambda k, n: wilson(k, n).high < 0.8, 0.8, rising=False)[-1]
    assert up == pytest.approx(0.160, abs=0.001)
    assert down == pytest.approx(0.207, abs=0.001)


def test_runs_of_the_test_itself_agree_with_the_counting() -> None:
    drawn = random.Random(17)
    runs, fooled = 300, 0
    for _ in range(runs):
        right, first = 0, None
        for trials in range(10, 401, 10):
            right += sum(drawn.random() < 0.8 for _ in range(10))
            first = first or verdict(right, trials, 0.8)
        fooled += first is Verdict.ABOVE
    exact = ever(says(Verdict.ABOVE, 0.8, 0.05), 0.8, longest=400)[-1]
    assert fooled / runs == pytest.approx(exact, abs=3 * math.sqrt(exact / runs))


@pytest.mark.parametrize(
    ("truth", "which", "by", "chance"),
    [
        (0.90, Verdict.ABOVE, 200, 0.9),
        (0.95, Verdict.ABOVE, 80, 0.9),
        (0.85, Verdict.ABOVE, 800, 0.85),
        (0.70, Verdict.BELOW, 250, 0.85),
        (0.50, Verdict.BELOW, 50, 0.95),
    ],
)
def test_it_decides_soon_enough_to_be_of_use(truth: float, which: Verdict, by: int, chance: float) -> None:
    decided = ever(says(which, 0.8, 0.05), truth, longest=by, rising=which is Verdict.ABOVE)
    assert decided[-1] >= chance


@pytest.mark.parametrize(
    ("successes", "trials", "floor"),
    [(0, 0, 0.8), (9, 10, 0.8), (70, 100, 0.8), (480, 500, 0.9), (0, 7, 0.3)],
)
def test_the_evidence_is_the_mean_gain_over_the_prior(successes: int, trials: int, floor: float) -> None:
    prior = beta(PRIOR_ANSWERS * floor, PRIOR_ANSWERS * (1 - floor))
    failures = trials - successes

    def gain(q: float) -> float:
        ratio = successes * math.log(q / floor) + failures * math.log((1 - q) / (1 - floor))
        return float(math.exp(ratio) * prior.pdf(q))

    up = quad(gain, floor, 1, limit=200)[0] / prior.sf(floor)
    down = quad(gain, 0, floor, limit=200)[0] / prior.cdf(floor)
    assert log_evidence_above(successes, trials, floor) == pytest.approx(math.log(up), abs=1e-6)
    assert log_evidence_below(successes, trials, floor) == pytest.approx(math.log(down), abs=1e-6)


def test_no_answers_are_no_evidence() -> None:
    assert log_evidence_above(0, 0, 0.8) == pytest.approx(0)
    assert (lower_bound(0, 0), upper_bound(0, 0)) == (0, 1)
    assert verdict(0, 0, 0.8) is None


@given(
    st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.001, 0.2)
)
def test_the_bounds_are_the_floors_where_the_verdict_turns(case: tuple[int, int], alpha: float) -> None:
    low, high = lower_bound(*case, alpha), upper_bound(*case, alpha)
    assert 0 <= low <= case[0] / case[1] <= high <= 1
    if low > 1e-6:
        assert verdict(*case, low * (1 - 1e-9), alpha) is Verdict.ABOVE
    if high < 1 - 1e-6:
        assert verdict(*case, high + (1 - high) * 1e-9, alpha) is Verdict.BELOW
    for floor in (low + (1 - low) * 1e-9, (low + high) / 2, high * (1 - 1e-9)):
        if low < floor < high:
            assert verdict(*case, floor, alpha) is None


@pytest.mark.parametrize(
    ("successes", "trials"), [(1, 1), (3, 5), (10, 10), (18, 20), (45, 50), (150, 200), (1990, 2000)]
)
def test_floors_proven_lie_under_all_that_are_not(successes: int, trials: int) -> None:
    """So that a bound found by bisection is a bound."""
    floors = [step / 1000 for step in range(1, 1000)]
    proven = [verdict(successes, trials, floor) is Verdict.ABOVE for floor in floors]
    assert proven == sorted(proven, reverse=True)


@pytest.mark.parametrize("trials", [50, 200, 1000, 2000])
def test_it_costs_less_than_twice_the_width_of_one_look(trials: int) -> None:
    successes = round(0.9 * trials)
    once = wilson(successes, trials)
    low, high = lower_bound(successes, trials, 0.025), upper_bound(successes, trials, 0.025)
    assert low < once.low
    assert high > once.high
    assert high - low < 2 * (once.high - once.low)


@pytest.mark.parametrize(
    ("successes", "trials", "floor"), [(5, 4, 0.8), (-1, 4, 0.8), (1, 4, 0.0), (1, 4, 1.0)]
)
def test_nonsense_is_refused(successes: int, trials: int, floor: float) -> None:
    with pytest.raises(ValueError, match="is not a share"):
        verdict(successes, trials, floor)


def test_bounds_of_nonsense_are_refused() -> None:
    with pytest.raises(ValueError, match="is not a share"):
        lower_bound(3, 2)
