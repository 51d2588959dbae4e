"""Agreement against scikit-learn and a published table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from batcher.statistics.agreement import agreement
from batcher.statistics.intervals import wilson


def test_published_kappa() -> None:
    """Cohen 1960, table 1 (in hundredths of 200 items): kappa .492."""
    table = {("a", "a"): 88, ("a", "b"): 14, ("a", "c"): 18, ("b", "a"): 10, ("b", "b"): 40, ("b", "c"): 10}
    table |= {("c", "a"): 2, ("c", "b"): 6, ("c", "c"): 12}
    found = agreement(pair for pair, count in table.items() for _ in range(count))
    assert found is not None
    assert found.kappa == pytest.approx(0.492, abs=5e-4)
    assert (found.items, found.interval) == (200, wilson(140, 200))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1))
def test_it_is_that_of_a_reference_library(ratings: list[tuple[int, int]]) -> None:
    found = agreement(ratings)
    assert found is not None
    if found.kappa is None:
        assert len(set(ratings)) == 1
        assert ratings[0][0] == ratings[0][1]
    else:
        expected = cohen_kappa_score(*zip(*ratings, strict=True))
        assert found.kappa == pytest.approx(expected)
    agreed = sum(one == other for one, other in ratings)
    assert found.interval == wilson(agreed, len(ratings))


def test_agreement_that_chance_explains_is_no_kappa() -> None:
    found = agreement([(True, True)] * 20, confidence=0.9)
    assert found is not None
    assert (found.kappa, found.interval) == (None, wilson(20, 20, 0.9))


def test_a_judge_that_always_says_right_agrees_by_chance_only() -> None:
    found = agreement([(True, True)] * 90 + [(True, False)] * 10)
    assert found is not None
    assert found.interval.share == pytest.approx(0.9)
    assert found.kappa == pytest.approx(0)


def test_nothing_rated_says_nothing() -> None:
    assert agreement([]) is None
