"""Workers on PostgreSQL and Redis: what is submitted is done by them, fairly, and steering reaches them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from batcher.domain import JobState
from tests.support.fleet import Child, Fleet, new_fleet, wait_until
from tests.support.vendor_server import VendorProcess

SOON_S = 6.0
"""Steering reaches a worker within a second or two; the rest is for a busy machine."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, vendor: VendorProcess) -> Iterator[Fleet]:
    """One worker on two tiers, four calls at a time, with the schedule."""
    with new_fleet(tmp_path_factory.mktemp("fleet"), vendor.openai_url, on_postgres=True) as made:
        made.worker("--tier", "economy", "--tier", "premium", "--beat")
        yield made


@pytest.fixture(autouse=True)
def _quiet(fleet: Fleet, vendor: VendorProcess) -> Iterator[None]:
    vendor.configure(latency_s=0.0)
    vendor.clear_faults()
    yield
    vendor.configure(latency_s=0.0)


def submitted(fleet: Fleet, name: str, count: int, *options: str) -> int:
    """Submit a table of documents and leave it to the workers; returns the job."""
    fleet.table(name, count)
    words = ("submit", f"{name}.jsonl", "--task", "./cards", "--detach", "--json", *options)
    return int(fleet.batcher(*words).json["job_id"])


def test_a_small_job_behind_a_large_one_starts_within_seconds_and_priority_gives_a_larger_share(
    fleet: Fleet, vendor: VendorProcess
) -> None:
    vendor.configure(latency_s=0.15)
    large = submitted(fleet, "large", 600)
    wait_until(lambda: fleet.done(large) > 8)
    small = submitted(fleet, "small", 400, "--priority", "3")
    started = time.monotonic()
    wait_until(lambda: fleet.done(small) > 0)
    assert time.monotonic() - started < SOON_S
    before = fleet.done(large), fleet.done(small)
    wait_until(lambda: fleet.done(small) - before[1] >= 60)
    assert fleet.done(small) - before[1] > 2 * (fleet.done(large) - before[0])
    assert before[0] < fleet.done(large) < 600
    for job in (large, small):
        fleet.batcher("cancel", job)
    wait_until(fleet.nothing_reserved_nor_unknown)


def test_pause_resume_and_cancel_reach_a_running_worker(fleet: Fleet, vendor: VendorProcess) -> None:
    vendor.configure(latency_s=0.15)
    job = submitted(fleet, "steered", 400)
    wait_until(lambda: fleet.done(job) > 4)
    fleet.batcher("pause", job)
    wait_until(lambda: "leased" not in fleet.counts(job), SOON_S)
    calls = vendor.totals()["calls"]
    time.sleep(0.5)
    assert vendor.totals()["calls"] == calls, "nothing is sent for a paused job"
    resumed = fleet.start("resume", job)
    wait_until(lambda: vendor.totals()["calls"] > calls, SOON_S)
    assert fleet.job(job).state is JobState.RUNNING
    fleet.batcher("cancel", job)
    wait_until(lambda: not {"leased", "pending"} & set(fleet.counts(job)), SOON_S)
    assert resumed.process.wait(20) == 1
    assert fleet.counts(job)["cancelled"] > 100
    wait_until(fleet.nothing_reserved_nor_unknown)


def test_one_worker_serves_two_tiers_and_each_tier_has_its_queue(fleet: Fleet) -> None:
    dear = submitted(fleet, "dear", 10, "--tier", "premium")
    cheap = submitted(fleet, "cheap", 10)
    for job in (dear, cheap):
        fleet.wait_for_state(job, JobState.DONE)
    assert fleet.job(dear).tier == "premium"
    assert (fleet.done(dear), fleet.done(cheap)) == (10, 10)


def test_what_failed_is_tried_again_by_the_workers(fleet: Fleet, vendor: VendorProcess) -> None:
    vendor.add_fault(status=400, contains="Row 3 of failing", times=None)
    job = submitted(fleet, "failing", 6)
    fleet.wait_for_state(job, JobState.DONE)
    assert fleet.counts(job) == {"done": 5, "failed": 1}
    vendor.clear_faults()
    fleet.batcher("retry", job)
    assert fleet.counts(job) == {"done": 6}


def test_the_log_is_json_and_names_job_item_and_attempt(fleet: Fleet, vendor: VendorProcess) -> None:
    vendor.add_fault(status=400, contains="Row 1 of logged", times=None)
    job = submitted(fleet, "logged", 4)
    fleet.wait_for_state(job, JobState.DONE)
    worker: Child = fleet.started[0]
    wait_until(lambda: f"job {job} is done" in worker.log)
    [call] = [line for line in worker.lines if line.get("job_id") == job and line.get("attempt_id")]
    assert (call["level"], call["message"]) == ("info", "call failed: bad_request (400)")
    [item] = [line for line in worker.lines if line.get("job_id") == job and line["level"] == "warning"]
    assert item["message"] == "item failed for good: bad_request"
    assert item["item_id"] == call["item_id"] > 0
    assert "rivers" not in worker.log


def test_ctrl_c_on_a_terminal_reaches_the_workers_once_and_is_warm(
    fleet: Fleet, vendor: VendorProcess
) -> None:
    vendor.configure(latency_s=1.0)
    vendor.clear_bill()
    job = submitted(fleet, "interrupted", 40)
    vendor.wait_for_calls(4)
    worker = fleet.started[0].process
    os.killpg(worker.pid, signal.SIGINT)
    assert worker.wait(30) == 0
    assert 4 <= fleet.done(job) == vendor.totals()["calls"] < 40
    assert fleet.nothing_reserved_nor_unknown()
