"""A drawn answer on a terminal: columns, pages, wide letters, nothing that steers."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from batcher.cli.review_page import disagreement_lines, render, wrap
from batcher.quality.review import Opinion, ReviewItem

LONG = "\n".join(
    f"line {number} of a text that is long enough to be wrapped somewhere" for number in range(40)
)


def item(text: str = LONG, output: object = None, images: int = 0) -> ReviewItem:
    return ReviewItem(7, 1, "docs/a\x1b[31m.txt", "economy", "m", text, images, output or {"label": "x"}, ())


@pytest.mark.parametrize("columns", [20, 60, 99, 100, 161])
@pytest.mark.parametrize("text", [LONG, "語" * 500, "a\tb" * 90, "x" * 1000, ""])
def test_no_line_is_wider_than_the_terminal_and_no_page_is_longer(columns: int, text: str) -> None:
    shown = []
    for number in range(render(item(text), "1 of 2", 0, columns, 24).count):
        page = render(item(text), "1 of 2", number, columns, 24)
        assert page.number == number
        assert len(page.lines) <= 24
        assert all(cell_len(line) <= columns for line in page.lines)
        shown += page.lines[2:-2]
    for word in {"line", "語", "x"} & set(text.split()):
        assert any(word in line for line in shown)


def test_a_wide_terminal_has_the_document_beside_the_answer() -> None:
    page = render(item(), "1 of 2", 0, 120, 40)
    [line] = [line for line in page.lines if '"label": "x"' in line]
    left, _, right = line.partition(" │ ")
    assert left.startswith("line")
    assert right.strip() == '"label": "x"'
    narrow = render(item(), "1 of 2", 0, 80, 40)
    assert "DOCUMENT" in narrow.lines


def test_a_page_past_the_end_is_the_last_one() -> None:
    last = render(item(), "", 99, 80, 24)
    assert last.number == last.count - 1 > 0
    assert render(item(), "", -5, 80, 24).number == 0


def test_nothing_steers_the_terminal() -> None:
    page = render(item("\x1b]0;owned\x07\u202ereversed", {"\x1b[2J": "\x9b31m"}), "", 0, 120, 24)
    text = "\n".join(page.lines)
    assert not any(ord(char) < 32 and char != "\n" for char in text)
    assert not {"\x9b", "\u202e"} & set(text)
    assert "\\u001b]0;owned\\u0007\\u202ereversed" in text


def test_pictures_are_told_of() -> None:
    assert any("[2 pictures, not shown" in line for line in render(item("", images=2), "", 0, 120, 24).lines)


def test_indented_lines_stay_indented_when_wrapped() -> None:
    assert wrap("    " + "word " * 10, 24)[1].startswith("    word")


def test_a_disagreement_names_who_and_why() -> None:
    own = Opinion("person:ann", True, 1.0, None, "", 1.0)
    others = [
        Opinion("judge:m", False, 0.0, None, "wrong\nyear", 1.0),
        Opinion("golden", True, 1.0, None, "", 0),
    ]
    assert disagreement_lines(own, others) == ["judge:m says it is wrong: wrong\\nyear"]
