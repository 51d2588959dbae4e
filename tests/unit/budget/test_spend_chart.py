"""The chart of the days: bars true to the amounts, marks at the caps, lines no wider than the screen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.budget.spend import DayOfSpend, Period, Spend
from batcher.cli.spend_chart import ASCII, BLOCKS, bar, draw

USD = 10**9


def day(
    settled: int = 0, unknown: int = 0, in_flight: int = 0, cap: int | None = 10, on: str = "2026-11-20"
) -> DayOfSpend:
    spend = Spend(on, 1, 0, 0, 0, settled * USD, unknown * USD, in_flight * USD)
    return DayOfSpend(on, None if cap is None else cap * USD, spend)


def signs(one: DayOfSpend, most: int, width: int) -> str:
    return "".join(ink.sign for ink in bar(one, most * USD, width, ASCII))


@pytest.mark.parametrize(
    ("one", "most", "drawn"),
    [
        (day(5), 10, "#####     |"),
        (day(4, 2, 1), 10, "####??~   |"),
        (day(10), 10, "##########|"),
        (day(0), 10, "          |"),
        (day(8, cap=5), 10, "#####|!!!  "),
        (day(2, 8, cap=5), 10, "##???|?????"),
        (day(3, cap=None), 10, "###        "),
        (DayOfSpend("2026-11-20", None, None), 10, "           "),
        (DayOfSpend("2026-11-20", 10 * USD, None), 10, "          |"),
        (day(0, cap=0), 10, "|          "),
        (day(1, cap=1000), 1000, "#         |"),
    ],
)
def test_a_bar(one: DayOfSpend, most: int, drawn: str) -> None:
    assert signs(one, most, 11) == drawn


def test_nothing_spent_and_no_cap() -> None:
    assert signs(DayOfSpend("2026-11-20", None, None), 0, 5) == "     "


def test_the_whole_chart() -> None:
    days = [
        DayOfSpend("2026-11-18", None, None),
        day(5, on="2026-11-19"),
        day(1, 2, on="2026-11-20"),
    ]
    assert ["".join(text for text, _ in line) for line in draw(days, 40, ASCII)] == [
        "The days from 2026-11-18 to 2026-11-20 against the daily cap of $10.00",
        "11-18  $0.00                            ",
        "11-19  $5.00  ############             |",
        "11-20  $3.00  ##??????                 |",
        "# spent",
        "? unknown outcome, at its worst case",
        "| daily cap",
    ]
    wide = draw(days, 100, BLOCKS)
    assert wide[2][0][0].startswith("2026-11-19  $5.00")
    assert ("│", "bold") in wide[2]


@given(
    days=st.lists(
        st.builds(
            lambda settled, unknown, open_, cap: DayOfSpend(
                "2026-11-20", cap, Spend("2026-11-20", 1, 0, 0, 0, settled, unknown, open_)
            ),
            *(st.integers(0, 10**12) for _ in range(3)),
            st.one_of(st.none(), st.integers(0, 10**12)),
        ),
        min_size=1,
        max_size=4,
    ),
    width=st.integers(35, 200),
)
def test_lines_fit_and_whatever_was_spent_shows(days: list[DayOfSpend], width: int) -> None:
    lines = draw(days, width, ASCII)
    for one, line in zip(days, lines[1:], strict=False):
        text = "".join(part for part, _ in line)
        assert len(text) <= width
        assert one.spend is not None
        assert ("#" in text or "!" in text or one.cap_nusd is not None) or one.spend.settled_nusd == 0
        assert text.count("|") == (one.cap_nusd is not None)


def test_a_period_names_every_day() -> None:
    assert Period("2026-02-27", "2026-03-01").days() == ["2026-02-27", "2026-02-28", "2026-03-01"]
    assert Period.ending("2026-03-01", 2) == Period("2026-02-28", "2026-03-01")
    assert len(Period.ending("2026-11-20").days()) == 30
