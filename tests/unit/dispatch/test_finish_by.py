"""Being done by a time: which moment is meant, and that no call is in flight when it comes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batcher.catalog.models import load_catalog
from batcher.dispatch.finish_by import FinishBy, parse_finish_by
from batcher.dispatch.rehearsal import Rehearsal
from batcher.dispatch.rehearsal_books import Books
from batcher.dispatch.rehearsal_report import RehearsalReport, read_report
from batcher.domain import ItemStatus, JobState
from batcher.engine.control import Ending
from batcher.errors import UsageError
from batcher.settings import ModelSettings, Settings
from batcher.simulator.bill import BillLine
from tests.support.runs import MODEL, make_job

NOON = 20_000 * 86_400.0 + 43_200


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("text", "zone", "now", "meant"),
    [
        ("06:00", "UTC", "2026-11-20T20:00Z", "2026-11-21T06:00Z"),
        ("6:00", "UTC", "2026-11-20T05:59:59Z", "2026-11-20T06:00Z"),
        ("06:00", "UTC", "2026-11-20T06:00Z", "2026-11-21T06:00Z"),
        ("06:00", "Europe/Berlin", "2026-11-20T20:00Z", "2026-11-21T05:00Z"),
        ("00:30", "Asia/Tokyo", "2026-11-20T16:00Z", "2026-11-21T15:30Z"),
        # The night in which clocks go from 02:00 to 03:00, and the one in which they go back.
        ("06:00", "Europe/Berlin", "2026-03-28T22:00Z", "2026-03-29T04:00Z"),
        ("02:30", "Europe/Berlin", "2026-03-28T22:00Z", "2026-03-29T01:30Z"),
        ("06:00", "Europe/Berlin", "2026-10-24T22:00Z", "2026-10-25T05:00Z"),
        ("2026-11-21T06:00", "Europe/Berlin", "2026-11-20T20:00Z", "2026-11-21T05:00Z"),
        ("2026-11-21 06:00+09:00", "Europe/Berlin", "2026-11-20T20:00Z", "2026-11-20T21:00Z"),
    ],
)
def test_what_moment_is_meant(text: str, zone: str, now: str, meant: str) -> None:
    found = parse_finish_by(text, seconds(now), zone)
    assert datetime.fromtimestamp(found.at, UTC) == datetime.fromisoformat(meant)
    assert found.reason == f"finish-by {text}: no time for another call"


@given(
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    now=st.floats(1.6e9, 2.2e9),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
)
def test_a_clock_time_is_always_ahead_and_at_most_a_day_and_a_change_of_clocks(
    hour: int, minute: int, now: float, zone: str
) -> None:
    found = parse_finish_by(f"{hour:02}:{minute:02}", now, zone)
    assert 0 < found.at - now <= 26 * 3600


@pytest.mark.parametrize("text", ["", "6", "24:00", "06:60", "soon", "2026-11-21", "20261121", "-1:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--finish-by takes a time like 06:00"):
        parse_finish_by(text, NOON, "UTC")


def test_a_moment_that_is_over_is_refused() -> None:
    with pytest.raises(UsageError, match="is over: it is 2026-11-20T12:00"):
        parse_finish_by("2026-11-20T11:59", seconds("2026-11-20T12:00Z"), "UTC")


def rehearse(
    count: int, after_s: float, *, rpm: int = 60, latency_s: float = 0.0
) -> tuple[Ending, RehearsalReport, list[BillLine]]:
    limits = ModelSettings(rpm=rpm, tpm=1_000_000_000)
    used = Settings(home=Path("unused"), models={MODEL: limits})
    catalog = load_catalog(used)
    with Rehearsal(used, catalog, Books(NOON, 5 * 10**9, 0), lambda _: True) as made:
        made.catalog = catalog  # type: ignore[attr-defined] - what make_job asks a runtime for
        made.simulator.config.latency_s = latency_s
        texts = {f"d{number}": f"Document {number} is about rivers." for number in range(count)}
        job = make_job(made, texts)  # type: ignore[arg-type]
        ending = made.run(job.id, finish_by=FinishBy(NOON + after_s, "12:30"))
        return ending, read_report(made, job.id), made.simulator.bill.lines()


@settings(max_examples=4, deadline=None)
@given(after_s=st.floats(200, 500), latency_s=st.floats(0, 30), rpm=st.sampled_from([20, 60, 240]))
def test_nothing_leaves_that_could_not_be_answered_in_time(
    after_s: float, latency_s: float, rpm: int
) -> None:
    ending, report, calls = rehearse(int(after_s * rpm / 60) + 100, after_s, rpm=rpm, latency_s=latency_s)
    assert (ending, report.state, report.reason) == (
        Ending.STOPPED,
        JobState.PAUSED,
        "finish-by 12:30: no time for another call",
    )
    late = [call for call in calls if call.answered_at > NOON + after_s]
    assert len(late) <= 0.05 * len(calls)
    assert report.items[ItemStatus.DONE] == len(calls) == sum(call.billed for call in calls) > 0
    # Neither does it stop much too early: the time is used up to what a call needs.
    needed_s = max(call.answered_at - call.arrived_at for call in calls) if len(calls) > 20 else 120
    assert report.seconds >= after_s - needed_s - max(1.0, 60 / rpm) - 1


def test_while_no_answer_is_known_a_call_is_taken_to_need_the_most_that_it_may() -> None:
    ending, report, calls = rehearse(50, 119)
    assert (ending, report.state, calls) == (Ending.STOPPED, JobState.PAUSED, [])
    assert report.reason == "finish-by 12:30: no time for another call"
    assert report.items[ItemStatus.PENDING] == 50


def test_what_is_done_in_time_is_done() -> None:
    ending, report, _ = rehearse(50, 600)
    assert (ending, report.state, report.items[ItemStatus.DONE]) == (Ending.IDLE, JobState.DONE, 50)
