"""Paired comparisons against scipy, published figures, a general optimiser, and by exact coverage."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binomtest, multinomial, norm

from batcher.statistics.paired import PairedCounts, Within, difference, mcnemar, within

tables = st.builds(
    PairedCounts, st.integers(0, 60), st.integers(0, 40), st.integers(0, 40), st.integers(0, 60)
).filter(lambda counts: counts.items > 0)


@given(tables)
def test_mcnemar_is_that_of_a_reference_library(counts: PairedCounts) -> None:
    differing = counts.only_first + counts.only_second
    expected = binomtest(counts.only_first, differing).pvalue if differing else 1.0
    assert mcnemar(counts) == pytest.approx(expected)


def test_mcnemar_of_many_items() -> None:
    assert mcnemar(PairedCounts(50_000, 2_000, 2_300, 9_000)) == pytest.approx(5.07e-6, rel=0.01)


def test_published_interval() -> None:
    """Bentur and others 2009, as in Fagerland, Lydersen and Laake 2017, chapter 8: Tango's interval."""
    found = difference(PairedCounts(both=1, only_first=7, only_second=1, neither=12))
    assert (found.low, found.high) == (pytest.approx(-0.517, abs=5e-4), pytest.approx(-0.026, abs=5e-4))
    assert found.difference == pytest.approx(-6 / 21)


@pytest.mark.parametrize(("gained", "lost", "items"), [(40, 20, 160), (3, 9, 50), (1, 7, 21), (12, 2, 400)])
def test_bounds_by_maximising_the_likelihood_outright(gained: int, lost: int, items: int) -> None:
    def score(shift: float) -> float:
        def unlikely(share_lost: float) -> float:
            rest = 1 - 2 * share_lost - shift
            return -(
                gained * math.log(share_lost + shift)
                + lost * math.log(share_lost)
                + (items - gained - lost) * math.log(rest)
            )

        low, high = max(0.0, -shift), (1 - shift) / 2
        found = minimize_scalar(
            unlikely, bounds=(low + 1e-12, high - 1e-12), method="bounded", options={"xatol": 1e-13}
        )
        deviation = math.sqrt(items * (2 * found.x + shift - shift**2))
        return float((gained - lost - items * shift) / deviation)

    z = norm.ppf(0.975)
    observed = (gained - lost) / items
    found = difference(PairedCounts(items - gained - lost, lost, gained, 0))
    assert found.low == pytest.approx(brentq(lambda d: score(d) - z, observed - 0.5, observed), abs=1e-6)
    assert found.high == pytest.approx(brentq(lambda d: score(d) + z, observed, observed + 0.4), abs=1e-6)


@given(tables)
def test_it_holds_the_difference_and_mirrors(counts: PairedCounts) -> None:
    there = difference(counts)
    back = difference(PairedCounts(counts.both, counts.only_second, counts.only_first, counts.neither))
    assert -1 <= there.low <= there.difference <= there.high <= 1
    assert (there.low, there.high) == (pytest.approx(-back.high), pytest.approx(-back.low))
    assert there.low < there.high


@pytest.mark.parametrize("split", [(0.05, 0.05), (0.1, 0.05), (0.15, 0.03), (0.2, 0.2), (0.02, 0.04)])
@pytest.mark.parametrize("items", [40, 60])
def test_it_covers_about_as_often_as_it_says(split: tuple[float, float], items: int) -> None:
    """Exact: summed over the multinomial distribution."""
    truth = split[1] - split[0]
    law = multinomial(items, [*split, 1 - sum(split)])
    covered = 0.0
    for lost, gained in itertools.product(range(items + 1), repeat=2):
        same = items - lost - gained
        if same < 0 or (chance := float(law.pmf([lost, gained, same]))) < 1e-8:
            continue
        found = difference(PairedCounts(same, lost, gained, 0))
        covered += chance * (found.low <= truth <= found.high)
    assert 0.93 <= covered <= 0.985


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        (PairedCounts(430, 20, 15, 47), Within.YES),
        (PairedCounts(300, 150, 15, 47), Within.NO),
        (PairedCounts(40, 4, 2, 4), Within.OPEN),
        (PairedCounts(400, 0, 0, 100), Within.YES),
        (PairedCounts(10, 0, 0, 0), Within.OPEN),
    ],
)
def test_within_five_points(counts: PairedCounts, verdict: Within) -> None:
    assert within(counts) is verdict


def test_within_keeps_to_the_margin_and_the_confidence() -> None:
    counts = PairedCounts(430, 20, 15, 47)
    low = difference(counts).low
    assert within(counts, margin=-low + 1e-6) is Within.YES
    assert within(counts, margin=-low - 1e-6) is Within.OPEN
    assert within(counts, margin=-low - 1e-6, confidence=0.9) is Within.YES


def test_counting_pairs() -> None:
    pairs = [(True, True), (True, False), (True, False), (False, True), (False, False), (True, True)]
    assert PairedCounts.of(pairs) == PairedCounts(both=2, only_first=2, only_second=1, neither=1)
    assert PairedCounts.of(pairs).items == 6


def test_no_items_no_difference() -> None:
    with pytest.raises(ValueError, match="no items"):
        difference(PairedCounts.of([]))
