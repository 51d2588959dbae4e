from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.documents.chunking import split_text


def quarter_bytes(text: str) -> int:
    return len(text.encode()) // 4 + 1


def words(text: str) -> int:
    return len(text.split())


TEXTS = st.text(
    alphabet=st.sampled_from(" \n\r\t.!?a1éß語。e\u0301\u200d👍🏽\U0001f1e9\U0001f1ea👨")
    | st.characters(exclude_categories=("Cs",)),
    max_size=400,
)


@given(TEXTS, st.integers(8, 60))
def test_nothing_is_lost_and_every_piece_fits(text: str, max_tokens: int) -> None:
    pieces = split_text(text, max_tokens, quarter_bytes)
    assert "".join(pieces) == text
    assert all(pieces)
    assert all(quarter_bytes(piece) <= max_tokens for piece in pieces)


@given(TEXTS, st.integers(1, 20))
def test_also_with_a_count_that_stands_still_over_spaces(text: str, max_tokens: int) -> None:
    pieces = split_text(text, max_tokens, words)
    assert "".join(pieces) == text
    assert all(words(piece) <= max_tokens for piece in pieces)


@given(TEXTS)
def test_characters_stay_whole(text: str) -> None:
    for piece in split_text(text, 30, len)[1:]:
        assert not unicodedata.combining(piece[0]) or len(piece) == 1
        assert piece[0] not in "\u200d\ufe0f🏽"


def test_what_is_short_stays_whole() -> None:
    assert split_text("short", 10, len) == ["short"]
    assert split_text("", 10, len) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("aaaa bbbb.\n\ncccc dddd. eeee\nffff", ["aaaa bbbb.\n\n", "cccc dddd. ", "eeee\nffff"]),
        ("aaaa bbbb\ncccc. dddd eeee", ["aaaa bbbb\n", "cccc. dddd ", "eeee"]),
        ("aaaa bbb. cccc dddd eeee ffff", ["aaaa bbb. ", "cccc dddd ", "eeee ffff"]),
        ("aaaaaaaaaa bbbbbbbb", ["aaaaaaaaaa ", "bbbbbbbb"]),
        ("a" * 20, ["a" * 12, "a" * 8]),
        (
            "今日も良い天気。明日も晴れです。明後日は雨",
            ["今日も良い天気。", "明日も晴れです。", "明後日は雨"],
        ),
    ],
)
def test_the_best_boundary_near_the_end_is_taken(text: str, expected: list[str]) -> None:
    assert split_text(text, 12, len) == expected


def test_flags_families_and_line_ends_are_not_parted() -> None:
    flags = split_text("\U0001f1e9\U0001f1ea" * 10, 5, len)
    assert all(len(piece) % 2 == 0 for piece in flags)
    family = "👨\u200d👩\u200d👧"
    assert split_text(family * 3, 7, len) == [family] * 3
    assert split_text("aaaa\r\nbbbb", 5, len) == ["aaaa", "\r\nbbb", "b"]


def test_one_character_that_is_too_large() -> None:
    with pytest.raises(ValueError, match="single character"):
        split_text("ab語", 1, lambda text: len(text.encode()))


@pytest.mark.parametrize("unit", ["x", "word ", "e\u0301", "\n", "\U0001f1e9\U0001f1ea", "。"])
@pytest.mark.parametrize("max_tokens", [100, 20_000])
def test_a_megabyte_on_one_line_is_counted_a_few_times_over(unit: str, max_tokens: int) -> None:
    text = unit * (1_000_000 // len(unit))
    counted = 0

    def count(piece: str) -> int:
        nonlocal counted
        counted += len(piece)
        return quarter_bytes(piece)

    started = time.process_time()
    pieces = split_text(text, max_tokens, count)
    assert "".join(pieces) == text
    assert counted < 20 * len(text)
    assert time.process_time() - started < 10
