"""Sample sizes: the number named settles the call, one fewer does not."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from batcher.statistics.intervals import wilson
from batcher.statistics.sample_size import more_to_settle

counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
floors = st.integers(50, 98).map(lambda percent: percent / 100)


def settled(successes: int, trials: int, floor: float) -> bool:
    interval = wilson(successes, trials)
    return interval.low >= floor or interval.high < floor


@given(counts, floors)
def test_more_samples_settle_it(case: tuple[int, int], floor: float) -> None:
    successes, trials = case
    assume(abs(successes / trials - floor) > 1e-9)
    more = more_to_settle(successes, trials, floor)
    assert more is not None
    assert (more == 0) is settled(successes, trials, floor)
    # At whole multiples of the sample the present rate is met exactly.
    enough, short = -(-(trials + more) // trials), (trials + more - 1) // trials
    assert settled(successes * enough, trials * enough, floor)
    assert more == 0 or not settled(successes * short, trials * short, floor)


@pytest.mark.parametrize(
    ("successes", "trials", "floor", "more"),
    [(85, 100, 0.8, 146), (75, 100, 0.8, 146), (81, 100, 0.8, 6047), (99, 100, 0.8, 0), (20, 100, 0.8, 0)],
)
def test_named_cases(successes: int, trials: int, floor: float, more: int) -> None:
    assert more_to_settle(successes, trials, floor) == more


def test_the_wilson_bound_crosses_where_it_is_said_to() -> None:
    assert more_to_settle(85, 100, 0.8) == 146
    assert wilson(209, 246).low == pytest.approx(0.8, abs=0.001)
    assert wilson(17, 20).low < 0.8
    assert more_to_settle(17, 20, 0.8) == 246 - 20


def test_a_share_at_the_floor_is_never_settled() -> None:
    assert more_to_settle(80, 100, 0.8) is None


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a share"):
        more_to_settle(0, 0, 0.8)
