"""What a run shows of itself."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import pytest

from batcher.cli.display import LogDisplay, Snapshot
from batcher.cli.log_lines import LogFormat, begin_log
from batcher.cli.output import (
    duration,
    echo_json,
    echo_table,
    note,
    send_notes_to,
    usd,
    visible,
    visible_line,
)

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d (INFO|WARNING|ERROR) \S.*")

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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """What the display takes for the time; notes are lines of a log, as without a terminal."""
    found = Clock()
    monkeypatch.setattr(time, "monotonic", found)
    begin_log()
    yield found
    send_notes_to(None)


class Clock:
    """Seconds that only the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def messages(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was logged since the last look, without time and level."""
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert all(LINE.fullmatch(line) for line in lines), lines
    return [line.split(" ", 2)[2] for line in lines]


def test_a_follower_tells_only_what_it_knows() -> None:
    followed = replace(SNAPSHOT, in_flight=None, tokens_per_s=None, with_workers=1198)
    assert followed.counts() == "1,200 of 5,000 done, 3 failed, 1,198 with workers"
    assert followed.rates() == "12.3 documents/s, $0.12 of $5.00 today, 4 min 10 s left"


def test_the_first_line_says_where_it_starts_and_later_ones_how_fast_it_is(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    display = LogDisplay()
    display.show(SNAPSHOT)
    assert messages(capsys) == ["job 7 starts: 1,200 of 5,000 done, 3 failed, 64 in flight"]
    clock.now += 30
    display.show(SNAPSHOT)
    assert messages(capsys) == [
        "job 7: 1,200 of 5,000 done, 3 failed, 64 in flight; "
        "12.3 documents/s, 4,568 tokens/s, $0.12 of $5.00 today, 4 min 10 s left"
    ]


def test_a_night_is_a_hundred_lines_and_a_minute_at_most_one_each_tenth(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    display = LogDisplay()
    for second in range(8 * 3600):
        clock.now += 1
        display.show(replace(SNAPSHOT, ended=1203 + second // 10))
    assert 60 < len(messages(capsys)) < 120

    display = LogDisplay()
    for second in range(60):
        clock.now += 1
        display.show(replace(SNAPSHOT, done=second * 83, ended=second * 83))
    assert 8 <= len(messages(capsys)) <= 12


def test_reasons_for_waiting_are_told_when_they_are_new(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    display = LogDisplay()
    display.show(SNAPSHOT)
    for seconds in range(42, 20, -1):
        clock.now += 1
        display.show(replace(SNAPSHOT, waiting=f"cooling down {seconds} s: together 429"))
        display.show(replace(SNAPSHOT, waiting="rate limit: 500 requests/min"))
        display.show(SNAPSHOT)
    assert [line for line in messages(capsys) if "waits" in line] == [
        "job 7 waits: cooling down 42 s: together 429",
        "job 7 waits: rate limit: 500 requests/min",
    ]


def test_a_log_line_has_time_level_and_one_line_of_message(capsys: pytest.CaptureFixture[str]) -> None:
    begin_log()
    note("Warning: two\nlines\r\x1b[31m")
    note("Error: broken")
    begin_log(LogFormat.JSON)
    note("Warning: two\nlines")
    send_notes_to(None)
    note("as it is")
    first, second, third, fourth = capsys.readouterr().err.splitlines()
    assert LINE.fullmatch(first)
    assert first.split(" ", 1)[1] == "WARNING two\\nlines\\u000d\\u001b[31m"
    assert second.split(" ", 1)[1] == "ERROR broken"
    parsed = json.loads(third)
    assert (parsed["level"], parsed["message"]) == ("WARNING", "two\nlines")
    assert datetime.fromisoformat(parsed["time"]).tzinfo is not None
    assert fourth == "as it is"


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
