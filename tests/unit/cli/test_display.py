"""What a run shows of itself."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from batcher.cli.display import PlainDisplay, Snapshot
from batcher.cli.output import duration, echo_json, echo_table, usd, visible, visible_line

SNAPSHOT = Snapshot(
    title="job 7",
    done=1200,
    failed=3,
    ended=1203,
    total=5000,
    in_flight=64,
    waiting=None,
    documents_per_s=12.34,
    tokens_per_s=4567.8,
    spent_nusd=120_000_000,
    cap_nusd=5_000_000_000,
    left_s=250,
)


def test_a_line_says_counts_rates_and_money(capsys: pytest.CaptureFixture[str]) -> None:
    PlainDisplay().show(SNAPSHOT)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err[9:] == (
        "job 7: 1,200 of 5,000 done, 3 failed, 64 in flight; "
        "12.3 documents/s, 4,568 tokens/s, $0.12 of $5.00 today, 4 min 10 s left\n"
    )


def test_plain_lines_do_not_repeat_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    display = PlainDisplay()
    for _ in range(50):
        display.show(SNAPSHOT)
    for seconds in range(42, 30, -1):
        display.show(replace(SNAPSHOT, waiting=f"cooling down {seconds} s: together 429"))
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (6.54, "6.5 s"),
        (59.4, "59 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_money_as_json_keeps_nano_digits() -> None:
    assert usd(4_999_999_999_999) == 4999.999999999
    assert usd(1) == 1e-09


def test_tables_align(capsys: pytest.CaptureFixture[str]) -> None:
    echo_table([("A", "N"), ("long", "1"), ("x", "100")], right=(1,))
    assert capsys.readouterr().out == "A       N\nlong    1\nx     100\n"


def test_what_others_wrote_does_not_steer_the_terminal() -> None:
    assert visible("a\x1b[31mb\x07c\x9b\r\n\u202ed\udcff größe 🙂") == (
        "a\\u001b[31mb\\u0007c\\u009b\\u000d\n\\u202ed\\udcff größe 🙂"
    )
    assert visible_line("two\nlines\there") == "two\\nlines\\there"


def test_json_means_the_same_after_it_was_made_visible(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"name": "a\x1b\x7f\x9b\u2028\u202e\tb\nc"}
    echo_json(value)
    said = capsys.readouterr().out
    assert json.loads(said) == value
    assert not set(said) & {"\x1b", "\x7f", "\x9b", "\u2028", "\u202e"}
