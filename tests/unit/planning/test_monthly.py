"""Costs at given tokens and volume: figures that practitioners' articles of early 2026 print, computed."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.catalog.models import Catalog, load_catalog
from batcher.domain import Prices
from batcher.money import NUSD_PER_USD, usd_to_nusd
from batcher.planning.history import History, Measured, MeasuredAccuracy
from batcher.planning.monthly import (
    Accuracy,
    CostLine,
    Mix,
    Tokens,
    Volume,
    cheapest_first,
    measured_accuracy,
    measured_extra,
    measured_tokens,
    whole_nusd,
)
from batcher.settings import Settings
from batcher.statistics.intervals import wilson

MILLION = Volume(Fraction(1_000_000), "month")
USUAL = Tokens(1_500, 500)
EQUAL = Tokens(1_000, 1_000)
PRICES = {
    "GPT-4o": ("2.50", "10.00"),
    "GPT-4o mini": ("0.15", "0.60"),
    "Sonnet": ("3.00", "15.00"),
    "Haiku": ("0.80", "4.00"),
    "Flash": ("0.10", "0.40"),
    "Mistral Small": ("0.10", "0.30"),
    "Llama 70B": ("0.88", "0.88"),
    "Llama 8B": ("0.18", "0.18"),
}


def line(name: str, tokens: Tokens, prices: tuple[str, str] | None = None, accuracy: str = "") -> CostLine:
    """A line at prices of dollars per million tokens."""
    given_in, given_out = map(usd_to_nusd, prices or PRICES[name])
    known = Accuracy(Fraction(accuracy)) if accuracy else None
    return CostLine(name, Prices(given_in, given_out, given_in, given_in), tokens, accuracy=known)


@pytest.mark.parametrize(
    ("name", "dollars"),
    [
        ("GPT-4o", 8_750),
        ("GPT-4o mini", 525),
        ("Sonnet", 12_000),
        ("Haiku", 3_200),
        ("Flash", 350),
        ("Mistral Small", 300),
        ("Llama 70B", 1_760),
        ("Llama 8B", 360),
    ],
)
def test_the_monthly_table_of_a_million_requests(name: str, dollars: int) -> None:
    assert line(name, USUAL).request_nusd * MILLION.per_month == dollars * NUSD_PER_USD


@pytest.mark.parametrize(
    ("output_price", "accuracy", "printed", "digits"),
    [
        ("10", "0.92", 0.0109, 4),
        ("15", "0.94", 0.0160, 4),
        ("0.30", "0.86", 0.00035, 5),
        ("0.60", "0.88", 0.00068, 5),
    ],
)
def test_the_cost_per_correct_answer_of_1000_output_tokens(
    output_price: str, accuracy: str, printed: float, digits: int
) -> None:
    found = line("any", Tokens(0, 1_000), ("0", output_price), accuracy).correct_nusd
    assert found is not None
    assert round(float(found) / NUSD_PER_USD, digits) == printed


def test_what_a_routed_mix_saves() -> None:
    strong, mini, sonnet = (line(name, EQUAL) for name in ("GPT-4o", "GPT-4o mini", "Sonnet"))
    simple, complex_ = Fraction(7, 10), Fraction(3, 10)
    router = usd_to_nusd("0.0001")
    with_strong = Mix(((mini, simple), (strong, complex_)))
    assert with_strong.saved_share(strong) == Fraction(658, 1000)
    assert Mix(with_strong.parts, router).saved_share(strong) == Fraction(65, 100)
    with_sonnet = Mix(((mini, simple), (sonnet, complex_)), router)
    saved = with_sonnet.saved_share(strong)
    assert saved is not None
    assert round(float(saved), 2) == 0.52
    assert with_sonnet.dearest() is sonnet
    assert with_sonnet.name == "70 % GPT-4o mini, 30 % Sonnet"


def test_ten_million_tokens_a_day_at_75_to_25() -> None:
    assert line("GPT-4o", USUAL).request_nusd * Volume(Fraction(5_000), "day").per_day == 43.75 * NUSD_PER_USD
    whole = line("GPT-4o", Tokens(7_500_000, 2_500_000))
    assert whole.request_nusd == 43.75 * NUSD_PER_USD


def test_a_mix_is_as_right_as_its_parts() -> None:
    weak, strong = line("Flash", USUAL, accuracy="0.8"), line("GPT-4o", USUAL, accuracy="0.9")
    mix = Mix(((weak, Fraction(1, 2)), (strong, Fraction(1, 2))), 100_000)
    assert mix.accuracy == Fraction(85, 100)
    assert mix.correct_nusd == (Fraction(350_000 + 8_750_000, 2) + 100_000) / Fraction(85, 100)
    unknown = Mix(((weak, Fraction(1, 2)), (line("Haiku", USUAL), Fraction(1, 2))))
    assert (unknown.accuracy, unknown.correct_nusd) == (None, None)
    free = line("own", USUAL, ("0", "0"))
    assert mix.saved_share(free) is None
    never_right = Mix(((line("Flash", USUAL, accuracy="0"), Fraction(1)),))
    assert never_right.correct_nusd is None
    assert line("x", USUAL, ("1", "1"), "0").correct_nusd is None


def test_repairs_are_part_of_a_correct_answers_cost() -> None:
    plain = line("GPT-4o", USUAL, accuracy="0.9")
    repaired = dataclasses.replace(plain, extra_share=Fraction(1, 10))
    assert plain.correct_nusd is not None
    assert repaired.correct_nusd == plain.correct_nusd * Fraction(11, 10)
    assert repaired.request_nusd == plain.request_nusd


def test_a_long_call_is_charged_at_its_own_price_and_may_not_fit() -> None:
    catalog: Catalog = load_catalog(Settings.model_construct())
    luna = catalog.models["gpt-6-luna"]
    short, long = (CostLine(luna.name, luna.prices, Tokens(tokens, 0), luna) for tokens in (272_000, 272_001))
    assert long.request_nusd > 1.9 * short.request_nusd
    mini = catalog.models["gpt-4o-mini"]
    assert CostLine(mini.name, mini.prices, USUAL, mini).fits
    assert not CostLine(mini.name, mini.prices, Tokens(127_900, 500), mini).fits
    assert not CostLine(mini.name, mini.prices, Tokens(10, 16_385), mini).fits
    assert line("GPT-4o", Tokens(10**9, 0)).fits


@given(st.integers(1, 10**12))
def test_a_year_of_days_is_a_year_of_months(count: int) -> None:
    daily, monthly = Volume(Fraction(count), "day"), Volume(Fraction(count), "month")
    assert daily.per_month * 12 == daily.per_day * 365
    assert monthly.per_month * 12 == monthly.per_day * 365
    assert daily.per_day == monthly.per_month == count


def test_measured_tokens_repairs_and_accuracy() -> None:
    measured = Measured(
        asks=10, first_calls=10, input_tokens=8_000, output_tokens_all=2_000, first_nusd=1_000, all_nusd=1_250
    )
    few = Measured(asks=2, first_calls=2, input_tokens=8_000, first_nusd=10, all_nusd=20)
    scored = MeasuredAccuracy(45, 50, wilson(45, 50))
    history = History(same_task={"a": measured, "b": few}, accuracies={"a": scored})
    assert measured_tokens(history) == Tokens(1_333, 167)
    assert measured_tokens(History(same_task={"b": few})) is None
    assert measured_extra(history, "a") == Fraction(1, 4)
    assert measured_extra(history, "b") == measured_extra(history, "c") == 0
    accuracy = measured_accuracy(history, "a")
    assert accuracy is not None
    assert (float(accuracy.share), accuracy.measured) == (0.9, scored)
    assert measured_accuracy(history, "b") is None


def test_order_and_rounding() -> None:
    lines = [line(name, USUAL) for name in ("Sonnet", "Flash", "GPT-4o")]
    assert [each.name for each in cheapest_first(lines)] == ["Flash", "GPT-4o", "Sonnet"]
    assert whole_nusd(Fraction(7, 2)) == 4
