"""Workers that are stopped, killed and restarted: what is in flight is stored, nothing is left reserved."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from batcher.domain import JobState
from tests.support.fleet import Child, Fleet, wait_until
from tests.support.redis_server import RedisServer
from tests.support.vendor_server import VendorServer


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as found:
        yield found


@pytest.fixture
def fleet(tmp_path: Path, redis: RedisServer, vendor_server: VendorServer) -> Iterator[Fleet]:
    """Four calls at a time; each takes a second and a half."""
    redis.flush()
    vendor_server.configure(latency_s=1.5)
    made = Fleet.make(
        tmp_path,
        broker_url=redis.url,
        store_url=f"sqlite:///{tmp_path / 'store.db'}",
        openai_url=vendor_server.openai_url,
        BATCHER_CONCURRENCY="4",
        BATCHER_CHUNK_ITEMS="4",
    )
    made.table("docs", 40)
    yield made
    made.end()


def submit(fleet: Fleet) -> None:
    fleet.batcher("submit", "docs.jsonl", "--task", "./cards", "--detach")


def assert_warm(fleet: Fleet, vendor: VendorServer, worker: Child, seconds: float) -> None:
    """A worker that was stopped has ended its calls, stored their answers, and given the rest back."""
    bill = vendor.totals()
    assert seconds < 15, worker.log
    assert bill["calls"] == bill["finished"] == fleet.done(1) < 40
    assert fleet.nothing_reserved_nor_unknown()
    assert fleet.counts(1) == {"done": fleet.done(1), "pending": 40 - fleet.done(1)}
    assert fleet.job(1).state is JobState.RUNNING, "workers of other machines may go on with it"


@pytest.mark.parametrize("started_by", ["batcher worker", "celery"])
def test_sigterm_ends_the_calls_in_flight_and_gives_the_rest_back(
    fleet: Fleet, vendor_server: VendorServer, started_by: str
) -> None:
    plain = started_by == "celery"
    worker = fleet.celery_worker("economy") if plain else fleet.worker("--tier", "economy")
    submit(fleet)
    vendor_server.wait_for_calls(4)
    started = time.monotonic()
    assert worker.stop(signal.SIGTERM) == 0
    assert_warm(fleet, vendor_server, worker, time.monotonic() - started)


def test_a_second_signal_is_hard_and_what_was_in_flight_stays_booked(
    fleet: Fleet, vendor_server: VendorServer
) -> None:
    vendor_server.configure(latency_s=30)
    worker = fleet.worker("--tier", "economy", BATCHER_GRACE_S="60")
    submit(fleet)
    vendor_server.wait_for_calls(4)
    worker.process.send_signal(signal.SIGTERM)
    worker.wait_for("Warm shutdown")
    started = time.monotonic()
    assert worker.stop(signal.SIGTERM) == 1
    assert time.monotonic() - started < 5
    vendor_server.configure(latency_s=0)
    second = fleet.worker("--tier", "economy")
    fleet.wait_for_state(1, JobState.DONE)
    assert fleet.done(1) == 40
    shown = fleet.status(1)
    assert shown["unknown_usd"] > 0
    assert vendor_server.totals()["calls"] == 44
    assert second.stop() == 0


def test_the_grace_time_ends_the_wait(fleet: Fleet, vendor_server: VendorServer) -> None:
    vendor_server.configure(latency_s=30)
    worker = fleet.worker("--tier", "economy", BATCHER_GRACE_S="1")
    submit(fleet)
    vendor_server.wait_for_calls(4)
    started = time.monotonic()
    assert worker.stop(signal.SIGTERM) == 0
    assert time.monotonic() - started < 8
    assert "still in flight after the grace time" in worker.log


def test_a_killed_child_is_replaced_and_its_items_are_taken_up(
    fleet: Fleet, vendor_server: VendorServer
) -> None:
    worker = fleet.worker("--tier", "economy")
    submit(fleet)
    vendor_server.wait_for_calls(4)
    [child] = worker.children()
    os.kill(child, signal.SIGKILL)
    vendor_server.configure(latency_s=0)
    wait_until(lambda: any(other != child for other in worker.children()))
    fleet.wait_for_state(1, JobState.DONE)
    assert "ended with -9; starting another in 1 s" in worker.log
    assert [line for line in worker.log.splitlines() if not line.startswith("{")] == [], "JSON lines alone"
    assert fleet.done(1) == 40
    assert vendor_server.totals()["calls"] <= 40 + 4
    assert worker.stop() == 0
