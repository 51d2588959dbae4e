"""Sequential bounds under unequal probabilities: seeded runs at the floor, and equal weights as a check."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from batcher.statistics.sequential import SequentialTest, Verdict, lower_bound, upper_bound
from batcher.statistics.weighted import Drawn
from batcher.statistics.weighted_sequential import (
    WeightedSequentialTest,
    weighted_lower_bound,
    weighted_upper_bound,
)

# Part of the stream, true share, probability: 80 % easy items drawn rarely, 20 % hard ones drawn often.
STRATA = [(0.8, 0.9, 0.1), (0.2, 0.4, 0.4)]
SHARE = 0.8
RUNS = 400


def stream(seed: int, items: int = 250) -> Iterator[Drawn]:
    """Drawn items of a stream in random order; of those drawn half are hard, so that .65 are right."""
    chance = random.Random(seed)
    while items:
        _, share, probability = STRATA[chance.random() < STRATA[1][0]]
        if chance.random() < probability:
            items -= 1
            yield Drawn(chance.random() < share, probability)


@pytest.fixture(scope="module")
def verdicts() -> list[Verdict | None]:
    found = []
    for seed in range(RUNS):
        test = WeightedSequentialTest(SHARE, 0.1, alpha=0.1)
        for item in stream(seed):
            test.add(item)
        found.append(test.verdict)
    return found


@pytest.mark.parametrize("which", list(Verdict))
def test_at_the_floor_it_is_fooled_no_oftener_than_stated(
    verdicts: list[Verdict | None], which: Verdict
) -> None:
    assert 0 < verdicts.count(which) <= 0.1 * RUNS


def test_without_the_weights_it_would_be_fooled_in_every_run() -> None:
    test = SequentialTest(SHARE)
    for item in stream(1):
        test.add(bool(item.value))
    assert test.verdict is Verdict.BELOW


@pytest.mark.parametrize(("floor", "which"), [(0.6, Verdict.ABOVE), (0.93, Verdict.BELOW)])
def test_it_finds_out(floor: float, which: Verdict) -> None:
    found = []
    for seed in range(40):
        test = WeightedSequentialTest(floor, 0.1)
        for item in stream(seed, 600):
            test.add(item)
        found.append(test.verdict)
    assert found.count(which) >= 36


@pytest.mark.parametrize(("successes", "trials"), [(45, 50), (160, 200), (950, 1000), (1900, 2000)])
def test_equal_probabilities_give_about_the_plain_bounds(successes: int, trials: int) -> None:
    items = [Drawn(number < successes, 0.02) for number in range(trials)]
    low, high = weighted_lower_bound(items, 0.02), weighted_upper_bound(items, 0.02)
    assert low == pytest.approx(lower_bound(successes, trials), abs=0.01)
    assert high == pytest.approx(upper_bound(successes, trials), abs=0.01)


def test_the_test_and_the_bounds_are_one_thing() -> None:
    items = list(stream(7, 120))
    low, high = weighted_lower_bound(items, 0.1), weighted_upper_bound(items, 0.1)
    assert 0 < low < high < 1

    def last(floor: float) -> WeightedSequentialTest:
        test = WeightedSequentialTest(floor, 0.1)
        for item in items[:-1]:
            test.add(item)
            test.verdict = None
        test.add(items[-1])
        return test

    assert last(low - 1e-6).verdict is Verdict.ABOVE
    assert last(high + 1e-6).verdict is Verdict.BELOW
    assert last(low + 1e-6).verdict is None
    assert last(high - 1e-6).verdict is None
    assert last(low).drawn == 120


def test_the_first_verdict_stays() -> None:
    test = WeightedSequentialTest(0.8, 0.5)
    for _ in range(100):
        test.add(Drawn(1, 0.5))
    for _ in range(300):
        test.add(Drawn(0, 0.5))
    assert test.verdict is Verdict.ABOVE


def test_no_draws_bound_nothing() -> None:
    assert weighted_lower_bound([], 0.1) == pytest.approx(0, abs=1e-9)
    assert weighted_upper_bound([], 0.1) == pytest.approx(1, abs=1e-9)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="drawn with at least"):
        WeightedSequentialTest(0.8, 0.1).add(Drawn(1, 0.05))
    with pytest.raises(ValueError, match="drawn with at least"):
        weighted_lower_bound([Drawn(1.5, 0.2)], 0.1)
    with pytest.raises(ValueError, match="least probability"):
        weighted_upper_bound([Drawn(1, 0.2)], 0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        WeightedSequentialTest(0.8, 0.0)
