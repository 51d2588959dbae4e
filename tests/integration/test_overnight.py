"""Nights of cron on a clock that jumps: each digest says what the vendor's bill of that night says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.overnight import Cron, check, moment, off_by, price_of_all, two_nights, usd

DOCS = 2_000


def test_the_cap_ends_the_first_night_the_second_goes_on_and_both_digests_are_true(tmp_path: Path) -> None:
    cap_nusd, first, second = two_nights(tmp_path, DOCS)
    assert [found for found in check(DOCS, cap_nusd, first, second) if found[1] != found[2]] == []
    assert off_by(first.digest["left"]["likely_usd"], usd(second.billed_nusd)) < 0.05
    for start, end in ((first, "WARNING job 1 paused (budget: daily cap"), (second, "job 1 done: ")):
        assert any(" INFO job 1 starts: " in line for line in start.log)
        assert end in "\n".join(start.log)
        assert len(start.log) < 40
        assert not any("\r" in line or "\x1b" in line for line in start.log)


def test_a_night_that_ends_by_its_time_leaves_the_rest_for_the_next(tmp_path: Path) -> None:
    with Cron(tmp_path, 600, 10**12, rpm=60) as cron:
        first = cron.start("2026-11-20T23:55", finish_by="00:00")
        second = cron.start("2026-11-21T20:00")
    assert (first.code, first.digest["state"]) == (1, "paused")
    assert first.digest["reason"] == "finish-by 00:00: no time for another call"
    assert first.digest["resume_at"] is None
    assert 250 < first.digest["done_in_run"] + first.refused == len(first.bill) < 300
    assert sum(call.answered_at > moment("2026-11-21T00:00") for call in first.bill) <= len(first.bill) * 0.05
    assert first.digest["left"]["documents"] == 600 - len(first.bill)
    assert first.digest["left"]["seconds"] == pytest.approx(600 - len(first.bill), rel=0.1)
    assert (second.digest["state"], second.printed["taken_up"]) == ("done", True)
    calls = [*first.bill, *second.bill]
    assert len(calls) == len({call.body_hash for call in calls}) == 600


def test_a_run_over_midnight_counts_each_call_on_the_day_on_which_it_was_reserved(tmp_path: Path) -> None:
    with Cron(tmp_path, 600, 10**12, rpm=60) as cron:
        only = cron.start("2026-11-20T23:55")
    midnight = moment("2026-11-21T00:00")
    before, after = only.digest["days"]
    assert (before["day"], after["day"]) == ("2026-11-20", "2026-11-21")
    assert before["spent_usd"] + after["spent_usd"] == pytest.approx(usd(only.billed_nusd), abs=1e-9)
    assert only.digest["spent_in_run_usd"] == usd(only.billed_nusd)
    arrived_before = sum(call.cost_nusd or 0 for call in only.bill if call.arrived_at < midnight)
    # What was reserved with its chunk before midnight and left afterwards counts on the day before.
    assert usd(arrived_before) <= before["spent_usd"] < usd(only.billed_nusd)


def test_a_cap_that_is_reached_anew_every_night_takes_several_and_never_exceeds_it(tmp_path: Path) -> None:
    cap_nusd = int(price_of_all(600) * 0.3)
    with Cron(tmp_path, 600, cap_nusd) as cron:
        nights = [cron.start(f"2026-11-{day}T20:00") for day in range(20, 25)]
    assert [night.code for night in nights[:3]] == [4, 4, 4]
    assert nights[-1].digest["state"] == "done"
    assert all(night.billed_nusd <= cap_nusd for night in nights)
    assert all(night.digest["spent_in_run_usd"] == usd(night.billed_nusd) for night in nights)
    left = [night.digest["left"]["days"] for night in nights[:3]]
    assert left == sorted(left, reverse=True)
    assert json.dumps(nights[-1].digest)
