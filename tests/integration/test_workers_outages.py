"""Workers whose store goes away or changes under them, or whose keys are missing: what they do and say."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, select, text

from batcher.budget.ledger import Ledger
from batcher.dispatch.maintenance import maintain
from batcher.domain import JobState
from batcher.errors import DependencyError
from batcher.store.database import Store
from batcher.store.tables import leases
from tests.support.fleet import Fleet, wait_until
from tests.support.postgres_server import postgres
from tests.support.redis_server import RedisServer
from tests.support.vendor_server import VendorServer

CARDS = ("--task", "./cards")


@pytest.fixture
def fleet(tmp_path: Path, vendor_server: VendorServer) -> Iterator[Fleet]:
    with RedisServer(tmp_path) as redis, postgres(tmp_path / "pg") as new_database:
        made = Fleet.make(
            tmp_path / "fleet",
            broker_url=redis.url,
            store_url=new_database(),
            openai_url=vendor_server.openai_url,
            BATCHER_CONCURRENCY="4",
            BATCHER_CHUNK_ITEMS="4",
        )
        made.batcher("db", "upgrade")
        yield made
        made.end()


@contextlib.contextmanager
def away(fleet: Fleet) -> Iterator[None]:
    """The database takes no connections, and has ended those that there were."""
    url = make_url(fleet.env["BATCHER_DATABASE_URL"])
    engine = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    end = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")

    def allow(word: str) -> None:
        with engine.connect() as connection:
            connection.execute(text(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS {word}"))

    allow("false")
    try:
        with engine.connect() as connection:
            connection.execute(end, {"name": url.database})
        yield
    finally:
        allow("true")
        engine.dispose()


def state_of(fleet: Fleet) -> dict[str, Any]:
    [found] = fleet.batcher("workers", "--json").json
    return dict(found)


def test_answers_held_through_an_outage_longer_than_a_lease_are_not_paid_for_twice(
    fleet: Fleet, vendor_server: VendorServer
) -> None:
    vendor_server.configure(latency_s=1.5)
    worker = fleet.worker("--tier", "economy")
    fleet.table("docs", 4)
    following = fleet.start("submit", "docs.jsonl", *CARDS, name="following")
    vendor_server.wait_for_calls(4)
    following.wait_for("starts: ")
    others = Store(fleet.env["BATCHER_DATABASE_URL"])
    ledger, is_over = Ledger(others, "UTC"), threading.Event()

    def maintain_all_the_time() -> None:
        """The schedule elsewhere; it finds the store back before those do who look every two seconds."""
        while not is_over.wait(0.01):
            with contextlib.suppress(DependencyError):
                maintain(others, ledger)

    schedule = threading.Thread(target=maintain_all_the_time)
    schedule.start()
    try:
        with away(fleet):
            assert not is_over.wait(9), "longer than the lease of 5 s"
            present = state_of(fleet)
            assert present["state"] == "trouble"
            assert "cannot be used" in present["trouble"]
            assert "watching, and says when it is back" in following.log
        fleet.wait_for_state(1, JobState.DONE)
    finally:
        is_over.set()
        schedule.join()
        others.close()
    assert fleet.done(1) == 4
    assert following.process.wait(30) == 0
    assert following.log.count("cannot be used") == following.log.count("The database is back.") == 1
    assert "0 tokens/s" not in following.log
    assert vendor_server.totals()["calls"] == 4
    with fleet.store.read() as connection:
        states = connection.execute(select(leases.c.state)).scalars().all()
    assert states == ["closed"], "nobody took it from the worker that lived"
    wait_until(lambda: state_of(fleet)["state"] == "serving")
    assert worker.stop() == 0


def test_a_worker_stops_when_the_schema_changes_under_it(fleet: Fleet, vendor_server: VendorServer) -> None:
    worker = fleet.worker("--tier", "economy")
    fleet.table("first", 2)
    fleet.batcher("submit", "first.jsonl", *CARDS)
    with fleet.store.write() as connection:
        head = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))
    worker.wait_for("another schema than this worker", 40)
    worker.wait_for("newer than this batcher's")
    with fleet.store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :head"), {"head": head})
    fleet.table("docs", 2)
    fleet.batcher("submit", "docs.jsonl", *CARDS)
    assert (fleet.done(1), fleet.done(2)) == (2, 2)
    assert worker.stop() == 0


def test_a_worker_without_a_key_says_so_and_a_job_without_a_worker_asks_for_one(fleet: Fleet) -> None:
    fleet.table("docs", 2)
    fleet.batcher("submit", "docs.jsonl", *CARDS, "--detach")
    fleet.wait_for_state(1, JobState.RUNNING)
    assert "batcher worker --beat   (no worker answers)" in fleet.batcher("status", 1).out
    worker = fleet.worker("--tier", "economy", OPENAI_API_KEY="")
    present = state_of(fleet)
    assert present["state"] == "trouble"
    assert "needs a key: set OPENAI_API_KEY" in present["trouble"]
    assert "tier economy is not served here" in worker.log
    assert "OPENAI_API_KEY" in fleet.batcher("workers").out
    told = fleet.batcher("status", 1).out
    assert "batcher status 1 --watch   (no worker holds any of it just now)" in told
    assert worker.stop() == 0
