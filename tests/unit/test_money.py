"""Money: exact at the edges, rounded up once, never below a bill."""

from __future__ import annotations

import timeit
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.domain import Prices, Usage
from batcher.errors import UsageError
from batcher.money import cost_nusd, format_usd, most_tokens, nusd_to_usd, usd_to_nusd, worst_case_nusd

flat_prices = st.builds(
    Prices,
    input_nusd=st.integers(0, 10**12),
    output_nusd=st.integers(0, 10**12),
    cached_nusd=st.integers(0, 10**12),
    cache_write_nusd=st.integers(0, 10**12),
    request_nusd=st.integers(0, 10**9),
)
prices = st.builds(replace, flat_prices, long=st.none() | flat_prices, long_from=st.integers(0, 2 * 10**6))


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
    charged = tariff.long if tariff.long and usage.input_tokens > tariff.long_from else tariff
    plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    exact = charged.request_nusd + Fraction(
        plain * charged.input_nusd
        + usage.cached_tokens * charged.cached_nusd
        + usage.cache_write_tokens * charged.cache_write_nusd
        + usage.output_tokens * charged.output_nusd,
        10**6,
    )
    assert exact <= cost_nusd(usage, tariff) < exact + 1


@given(usages(), prices, st.integers(0, 1000), st.integers(0, 1000))
def test_no_call_costs_more_than_its_worst_case(
    usage: Usage, tariff: Prices, more_in: int, more_out: int
) -> None:
    bound = worst_case_nusd(usage.input_tokens + more_in, usage.output_tokens + more_out, tariff)
    assert cost_nusd(usage, tariff) <= bound


@given(st.lists(usages(), min_size=1, max_size=5), prices)
def test_no_calls_cost_more_than_their_worst_case_together(calls: list[Usage], tariff: Prices) -> None:
    inputs = [usage.input_tokens for usage in calls]
    outputs = sum(usage.output_tokens for usage in calls)
    bound = worst_case_nusd(sum(inputs), outputs, tariff, calls=len(calls), longest_input=max(inputs))
    # Each cost is rounded up by itself, their bound once.
    assert sum(cost_nusd(usage, tariff) for usage in calls) <= bound + len(calls)


def test_a_call_past_the_threshold_is_charged_wholly_at_the_dearer_prices() -> None:
    """Claude Haiku 5.5: $0.10 and $0.50 up to 100,000 input tokens, cached ones included; then five times."""
    dear = Prices(500_000_000, 2_500_000_000, 50_000_000, 625_000_000)
    tariff = Prices(100_000_000, 500_000_000, 10_000_000, 125_000_000, long=dear, long_from=100_000)
    assert cost_nusd(Usage(100_000, 0, 0, 1_000), tariff) == 10_500_000
    assert cost_nusd(Usage(100_001, 0, 0, 1_000), tariff) == 52_500_500
    assert cost_nusd(Usage(100_001, 100_001, 0, 0), tariff) == 5_000_050
    assert worst_case_nusd(100_000, 1_000, tariff) == 13_000_000
    assert worst_case_nusd(100_001, 1_000, tariff) == 65_000_625


@given(st.text())
def test_no_normal_form_of_a_text_has_more_bytes_than_count(text: str) -> None:
    most = most_tokens(text)
    for form in ("NFC", "NFKC"):
        assert len(normalize(form, text).encode()) <= most  # type: ignore[arg-type]
    assert len(text.encode()) <= most


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("", 0),
        ("plain", 5),
        ("caf\u00e9", 5),
        ("\ufdfa", 33),  # an Arabic ligature: 18 letters in NFKC
        ("\U0001d160", 12),  # a musical note that NFC takes apart
        ("\u00e9\u0323", 5),  # accents that normalisation sorts
        ("\uff21" * 3, 9),  # full-width letters only shrink
        ("\ufdfa" + "\uff21" * 20, 63),  # and must not hide what grows
    ],
)
def test_what_a_text_counts_as(text: str, most: int) -> None:
    assert most_tokens(text) == most


def test_counting_is_fast_where_it_is_common() -> None:
    text = "Der Kreditnehmer zahlt in 36 Raten; er trägt die Gebühren.\n" * 20_000
    best = min(timeit.repeat(lambda: most_tokens(text), number=1, repeat=5))
    assert len(text) / best > 50e6  # bytes a second; far more alone: tests share their machine
