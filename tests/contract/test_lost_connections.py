"""Connections that are lost in mid-run, or just after a commit: nothing is lost, and nothing paid twice."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from batcher.engine.control import Ending
from batcher.errors import StoreAwayError
from batcher.runtime import Runtime
from batcher.store.database import Store
from tests.support.runs import (
    bill_nusd,
    item_statuses,
    make_job,
    make_runtime,
    reserved,
    rows,
    run,
    spent,
)
from tests.support.vendor_server import VendorServer

DOCUMENTS = 120
DROP = text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture
def runtime(tmp_path: Path, store_url: str, vendor_server: VendorServer) -> Iterator[Runtime]:
    made = make_runtime(
        tmp_path / "home", vendor_server, database_url=store_url, concurrency=8, chunk_items=8, lease_s=2
    )
    yield made
    made.store.close()


def corpus() -> dict[str, str]:
    return {f"d{number}": f"text {number}" for number in range(DOCUMENTS)}


def assert_each_was_paid_once(runtime: Runtime, job_id: int, vendor: VendorServer) -> None:
    assert item_statuses(runtime, job_id) == {"done": DOCUMENTS}
    assert len(vendor.bill) == DOCUMENTS
    assert [row.outcome for row in rows(runtime, "attempts")] == ["ok"] * DOCUMENTS
    assert spent(runtime) == bill_nusd(vendor)
    assert reserved(runtime) == 0


def test_a_commit_whose_word_is_lost_is_not_made_twice(
    runtime: Runtime, vendor_server: VendorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server commits, and the connection breaks before it says so: every fifth time."""
    job = make_job(runtime, corpus())
    engine = runtime.store.engine
    commit, chance = engine.dialect.do_commit, random.Random(5)
    broken = sqlite3.OperationalError if runtime.store.is_sqlite else psycopg.OperationalError
    lost: list[bool] = []

    def commit_and_say_nothing(connection: Any) -> None:
        commit(connection)
        if chance.random() < 0.2:
            lost.append(True)
            raise broken("the connection was lost")

    monkeypatch.setattr(engine.dialect, "do_commit", commit_and_say_nothing)
    assert run(runtime, job.id) is Ending.IDLE
    monkeypatch.undo()
    assert len(lost) > 5
    assert_each_was_paid_once(runtime, job.id, vendor_server)


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_all_connections_dropped_again_and_again(
    runtime: Runtime, store_url: str, vendor_server: VendorServer
) -> None:
    vendor_server.configure(latency_s=0.05)
    job = make_job(runtime, corpus())
    over, dropped = threading.Event(), 0
    other = Store(store_url)

    def drop() -> None:
        nonlocal dropped
        while not over.wait(0.15):
            with other.session() as connection:
                dropped += int(connection.execute(DROP).scalar_one())

    dropping = threading.Thread(target=drop)
    dropping.start()
    try:
        assert run(runtime, job.id) is Ending.IDLE
    finally:
        over.set()
        dropping.join()
        other.close()
    assert dropped >= 3
    assert_each_was_paid_once(runtime, job.id, vendor_server)


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_whoever_stands_still_in_his_turn_loses_it(store: Store, store_url: str) -> None:
    slow, quick = Store(store_url, turn_s=0.3), Store(store_url, turn_s=60)
    began = time.monotonic()

    def fall_asleep() -> None:
        with slow.write() as asleep:
            slow.take_turn(asleep, 1)
            with quick.write() as connection:
                quick.take_turn(connection, 1)
            asleep.execute(text("SELECT 1"))

    with pytest.raises(StoreAwayError):
        fall_asleep()
    assert time.monotonic() - began < 20
    slow.close()
    quick.close()
