"""Whatever a file is called and a vendor says: in an alert it is plain, short text."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.alerts.wording import BODY_LENGTH, BODY_LINES, TITLE_LENGTH, bounded_lines, one_line


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The daily cap is spent", "The daily cap is spent"),
        ("Subject\r\nBcc: everybody@example.org", "Subject Bcc: everybody@example.org"),
        ("<script>alert(1)</script>", "‹script›alert(1)‹/script›"),  # noqa: RUF001
        ("<!channel> and <https://evil.test|click>", "‹!channel› and ‹https://evil.test|click›"),  # noqa: RUF001
        ("@everyone, @Here and llama@together", "(at)everyone, (at)Here and llama@together"),
        ("[click](https://evil.test) [a][b]", "[click] (https://evil.test) [a] [b]"),
        ("abc\u202etxt.exe \x1b[31mred\u2028next", "abc txt.exe [31mred next"),
        ("`rm -rf`", "'rm -rf'"),
        ("x" * 200, "x" * 149 + "…"),
    ],
)
def test_what_could_be_taken_for_more_than_text_is_made_plain(text: str, plain: str) -> None:
    assert one_line(text) == plain


@given(st.text(max_size=400))
def test_a_title_is_one_harmless_line(text: str) -> None:
    line = one_line(text)
    assert len(line) <= TITLE_LENGTH
    assert not set(line) & set("<>`\r\n\t")
    assert all(unicodedata.category(char)[0] != "C" for char in line)
    assert one_line(line) == line


@given(st.lists(st.text(max_size=500), max_size=60))
def test_a_body_keeps_its_lines_and_has_an_end(lines: list[str]) -> None:
    body = bounded_lines("\n".join(lines))
    assert len(body) <= BODY_LENGTH
    assert len(body.split("\n")) <= BODY_LINES
    assert not set(body) & set("<>`\r\t")


def test_lines_stay_apart() -> None:
    assert bounded_lines("one\r\ntwo\n\nthree") == "one\ntwo\n\nthree"
