"""A corpus as figures: few enough to keep, exact enough to price."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from batcher.planning.sizes import Distribution, Sizes, rounded_up

NUMBERS = st.lists(st.integers(0, 10**7), min_size=1, max_size=200)


@given(st.integers(0, 10**12), st.integers(1, 6))
def test_rounding_never_goes_below_and_stays_close(number: int, digits: int) -> None:
    rounded = rounded_up(number, digits)
    assert number <= rounded <= number + max(1, number) / 10 ** (digits - 1)


@given(st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 3), st.integers(0, 10**6)), max_size=100))
def test_sizes_keep_counts_tokens_and_a_bound_of_the_bytes(documents: list[tuple[int, int, int]]) -> None:
    sizes = Sizes()
    for text_bytes, images, tokens in documents:
        sizes.add(text_bytes, images, tokens)
    kept = list(sizes)
    assert sizes.documents == len(documents)
    assert bool(sizes) == bool(documents)
    assert sizes.images == sum(images > 0 for _, images, _ in documents)
    assert math.isclose(sum(size.items * size.tokens for size in kept), sum(t for _, _, t in documents))
    told, true = sum(size.items * size.text_bytes for size in kept), sum(b for b, _, _ in documents)
    assert true <= told <= true * 1.001 + len(documents)


def test_many_documents_make_a_small_table() -> None:
    sizes = Sizes()
    for text_bytes in range(0, 400_000, 3):
        sizes.add(text_bytes, 0, text_bytes / 4)
    assert len(list(sizes)) < 20_000
    assert sizes.documents == 133_334


@given(NUMBERS, st.floats(0.01, 1))
def test_percentiles_are_those_of_the_numbers_to_one_per_cent(numbers: list[int], share: float) -> None:
    spread = Distribution()
    for number in numbers:
        spread.add(number)
    exact = sorted(numbers)[math.ceil(share * len(numbers)) - 1]
    [told] = spread.percentiles(share)
    assert exact <= told <= exact * 1.01 + 1
    assert told <= spread.largest == max(numbers)
    assert (spread.total, spread.count) == (sum(numbers), len(numbers))


@given(NUMBERS)
def test_bars_hold_every_number_once_and_have_no_gaps(numbers: list[int]) -> None:
    spread = Distribution()
    for number in numbers:
        spread.add(number)
    bars = spread.bars()
    uppers = list(bars)
    assert sum(bars.values()) == len(numbers)
    assert uppers == [uppers[0] << step for step in range(len(uppers))]
    assert max(numbers) <= uppers[-1] <= 2 * rounded_up(max(numbers), 3) + 1


def test_nothing_has_no_bars_and_no_percentiles_above_zero() -> None:
    assert Distribution().bars() == {}
    assert Distribution().percentiles(0.05, 0.5, 0.95) == [0, 0, 0]
