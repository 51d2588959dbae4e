"""kill -9 at any moment: nothing done is done again, nothing is missing, every call is on the books."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from batcher.domain import JobState
from batcher.runtime import Runtime
from tests.support.run_child import ended, start
from tests.support.runs import balances, item_statuses, job_of, make_job, make_runtime, rows
from tests.support.stopped_processes import stop_outside_a_transaction
from tests.support.vendor_server import VendorServer

DOCUMENTS = 400
KILLS = 20
CONCURRENCY = 16


@pytest.fixture
def runtime(tmp_path: Path, vendor_server: VendorServer) -> Runtime:
    runtime = make_runtime(tmp_path / "home", vendor_server)
    config = tmp_path / "home" / "batcher.toml"
    config.write_text(f"concurrency = {CONCURRENCY}\nchunk_items = 8\n{config.read_text()}")
    vendor_server.configure(latency_s=0.05)
    return runtime


def test_killed_at_twenty_random_moments_every_item_ends_once(
    runtime: Runtime, vendor_server: VendorServer, tmp_path: Path
) -> None:
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    job = make_job(runtime, {f"d{number}": f"text number {number}" for number in range(DOCUMENTS)})
    paid_again_at_most = 0
    for _ in range(KILLS):
        child = start(tmp_path / "home", job.id)
        # From a little before its first call to well into the run: starting takes most of a second.
        seen = len(vendor_server.bill)
        vendor_server.wait_for_calls(seen + moments.randrange(1, 30))
        time.sleep(moments.uniform(0, 0.05))
        child.kill()
        child.join()
        paid_again_at_most += CONCURRENCY + _one_group()
        if item_statuses(runtime, job.id).get("pending", 0) < 60:
            break
    assert ended(tmp_path / "home", job.id) == "idle"
    assert item_statuses(runtime, job.id) == {"done": DOCUMENTS}, f"seed {seed}"
    assert job_of(runtime, job.id).state is JobState.DONE
    assert len(rows(runtime, "results")) == DOCUMENTS
    made = rows(runtime, "attempts")
    assert len(made) >= len(vendor_server.bill), "every call that the vendor saw was marked before it left"
    assert len(vendor_server.bill) - DOCUMENTS <= paid_again_at_most
    day = next(found for found in balances(runtime) if found.account.scope == "day")
    billed = sum(
        line.input_tokens * 150 + line.output_tokens * 600 for line in vendor_server.bill if line.billed
    )
    unknown = sum(row.cost_nusd for row in made if row.state == "unknown")
    assert billed <= day.spent_nusd
    assert day.spent_nusd == sum(row.cost_nusd for row in made)
    assert day.spent_nusd - unknown <= billed
    assert day.reserved_nusd == 0


def _one_group() -> int:
    """Answers that had arrived and were not committed yet: one group, at most what was in flight."""
    return CONCURRENCY


def test_a_worker_that_slept_through_its_lease_begins_no_call_and_its_late_answers_are_booked(
    runtime: Runtime, vendor_server: VendorServer, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    config = tmp_path / "home" / "batcher.toml"
    config.write_text(f"lease_s = 6\n{config.read_text()}")
    vendor_server.configure(latency_s=0.6)
    job = make_job(runtime, {f"d{number}": f"text number {number}" for number in range(40)})
    sleeper = start(tmp_path / "home", job.id)
    request.addfinalizer(sleeper.kill)
    vendor_server.wait_for_calls(8)
    stop_outside_a_transaction(sleeper.pid, tmp_path / "home" / "batcher.db")
    asleep_since = time.monotonic()
    while (
        time.monotonic() - asleep_since < 1.6
    ):  # the lease must really run out: it is on the database's clock
        time.sleep(0.1)
    assert ended(tmp_path / "home", job.id) == "idle"
    assert item_statuses(runtime, job.id) == {"done": 40}
    marked = {row.id for row in rows(runtime, "attempts")}
    answers = {row.id: row.output for row in rows(runtime, "results")}
    os.kill(sleeper.pid, signal.SIGCONT)
    sleeper.join(60)
    assert sleeper.exitcode == 0
    assert {row.id for row in rows(runtime, "attempts")} == marked, "the sleeper began no call after it woke"
    assert len(vendor_server.bill) <= len(marked), "what was on its way when it fell asleep may still arrive"
    assert {row.id: row.output for row in rows(runtime, "results")} == answers, "no result was overwritten"
    made = rows(runtime, "attempts")
    day = next(found for found in balances(runtime) if found.account.scope == "day")
    assert day.spent_nusd == sum(row.cost_nusd for row in made)
    assert day.reserved_nusd == 0
