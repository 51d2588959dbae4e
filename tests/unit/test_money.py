"""Money: exact at the edges, rounded up once, never below a bill."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.domain import Prices, Usage
from batcher.errors import UsageError
from batcher.money import cost_nusd, format_usd, nusd_to_usd, usd_to_nusd, worst_case_nusd

prices = st.builds(
    Prices,
    input_nusd=st.integers(0, 10**12),
    output_nusd=st.integers(0, 10**12),
    cached_nusd=st.integers(0, 10**12),
    cache_write_nusd=st.integers(0, 10**12),
)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    cached, written, plain = (draw(st.integers(0, 10**6)) for _ in range(3))
    return Usage(cached + written + plain, cached, written, draw(st.integers(0, 10**6)))


@given(st.integers(0, 10**18))
def test_dollars_and_back(nusd: int) -> None:
    assert usd_to_nusd(nusd_to_usd(nusd)) == nusd


@pytest.mark.parametrize(("usd", "nusd"), [("5.00", 5 * 10**9), ("0.0000000001", 1), (0, 0), ("1e-9", 1)])
def test_amounts_are_rounded_up(usd: str | int, nusd: int) -> None:
    assert usd_to_nusd(usd) == nusd


@pytest.mark.parametrize("usd", ["", "five", "-1", "NaN", "Infinity", "1,50", "1e"])
def test_what_is_no_amount_is_refused(usd: str) -> None:
    with pytest.raises(UsageError, match=r"Write it like 5\.00"):
        usd_to_nusd(usd)


@pytest.mark.parametrize(
    ("nusd", "text"),
    [
        (0, "$0.00"),
        (5_000_000_000, "$5.00"),
        (1_234_560_000_000, "$1,234.56"),
        (28_100, "$0.0000281"),
        (5_714_400, "$0.005714"),
        (214_285_600, "$0.2143"),
        (220_000_000, "$0.22"),
        (500_000_000, "$0.50"),
        (999_990_000, "$1.00"),
        (-5_714_400, "$-0.005714"),
        (1, "$0.000000001"),
    ],
)
def test_amounts_for_people(nusd: int, text: str) -> None:
    assert format_usd(nusd) == text


@pytest.mark.parametrize("usd", ["1000000000.01", "1e30", "1e999999999"])
def test_what_no_database_could_book_is_refused(usd: str) -> None:
    with pytest.raises(UsageError, match=r"The most is 1,000,000,000"):
        usd_to_nusd(usd)


@given(st.integers(1, 10**18))
def test_an_amount_for_people_is_true_to_four_digits(nusd: int) -> None:
    shown = Decimal(format_usd(nusd).removeprefix("$").replace(",", ""))
    exact = nusd_to_usd(nusd)
    assert abs(shown - exact) <= (Decimal("0.005") if exact >= 1 else exact * Decimal("0.0005"))


def test_fields_worked_figure() -> None:
    """FIELD.md: 1,500 in + 500 out on GPT-4o, a million requests: $8,750."""
    gpt_4o = Prices(2_500_000_000, 10_000_000_000, 1_250_000_000, 2_500_000_000)
    one = cost_nusd(Usage(input_tokens=1500, output_tokens=500), gpt_4o)
    assert nusd_to_usd(one * 1_000_000) == Decimal(8750)


@given(usages(), prices)
def test_a_cost_is_the_exact_sum_rounded_up_once(usage: Usage, tariff: Prices) -> None:
    plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    exact = Fraction(
        plain * tariff.input_nusd
        + usage.cached_tokens * tariff.cached_nusd
        + usage.cache_write_tokens * tariff.cache_write_nusd
        + usage.output_tokens * tariff.output_nusd,
        10**6,
    )
    assert exact <= cost_nusd(usage, tariff) < exact + 1


@given(usages(), prices, st.integers(0, 1000), st.integers(0, 1000))
def test_no_call_costs_more_than_its_worst_case(
    usage: Usage, tariff: Prices, more_in: int, more_out: int
) -> None:
    bound = worst_case_nusd(usage.input_tokens + more_in, usage.output_tokens + more_out, tariff)
    assert cost_nusd(usage, tariff) <= bound
