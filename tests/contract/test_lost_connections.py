"""Connections that are lost in mid-run, or just after a commit: nothing is lost, and nothing paid twice."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
import time
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from batcher.documents.corpus import Parsed, document_of_text
from batcher.engine import ingestion
from batcher.engine.control import Ending
from batcher.errors import StoreAwayError
from batcher.runtime import Runtime
from batcher.store.database import Store
from tests.support.runs import (
    bill_nusd,
    item_statuses,
    make_job,
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
def runtime_settings() -> dict[str, Any]:
    return {"concurrency": 8, "chunk_items": 8, "lease_s": 60}


def corpus() -> dict[str, str]:
    return {f"d{number}": f"text {number}" for number in range(DOCUMENTS)}


def assert_each_was_paid_once(runtime: Runtime, job_id: int, vendor: VendorServer) -> None:
    assert item_statuses(runtime, job_id) == {"done": DOCUMENTS}
    assert len(vendor.bill) == DOCUMENTS
    assert [row.outcome for row in rows(runtime, "attempts")] == ["ok"] * DOCUMENTS
    assert spent(runtime) == bill_nusd(vendor)
    assert reserved(runtime) == 0


def lose_words(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The database commits, and the connection breaks before it says so: every fifth time; grows by each."""
    dialect = runtime.store.engine.dialect
    commit, chance = dialect.do_commit, random.Random(5)
    broken = sqlite3.OperationalError if runtime.store.is_sqlite else psycopg.OperationalError
    lost: list[bool] = []

    def commit_and_say_nothing(connection: Any) -> None:
        commit(connection)
        if chance.random() < 0.2:
            lost.append(True)
            raise broken("the connection was lost")

    monkeypatch.setattr(dialect, "do_commit", commit_and_say_nothing)
    return lost


def test_a_commit_whose_word_is_lost_is_not_made_twice(
    runtime: Runtime, vendor_server: VendorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leases last for a minute: one whose word was lost is given back at once, not when it runs out."""
    job = make_job(runtime, corpus())
    lost_words = lose_words(runtime, monkeypatch)
    started = time.monotonic()
    assert run(runtime, job.id) is Ending.IDLE
    assert time.monotonic() - started < 55
    monkeypatch.undo()
    assert len(lost_words) > 5
    assert_each_was_paid_once(runtime, job.id, vendor_server)


def test_an_ingestion_goes_on_when_the_word_of_a_batch_is_lost(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(runtime, {})
    lost_words = lose_words(runtime, monkeypatch)
    monkeypatch.setattr(ingestion, "BATCH_ITEMS", 4)
    parsed = (Parsed(source, document_of_text(content)) for source, content in corpus().items())
    intake = ingestion.ingest(runtime.store, job, parsed, image_tier=None)
    monkeypatch.undo()
    assert intake.seen == DOCUMENTS
    assert lost_words
    assert item_statuses(runtime, job.id) == {"pending": DOCUMENTS}


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


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_whoever_stops_between_the_statements_of_a_batch_loses_his_turn(store: Store, store_url: str) -> None:
    slow, quick = Store(store_url, turn_s=0.3), Store(store_url, turn_s=60)
    began = time.monotonic()

    def fall_asleep() -> None:
        with slow.write() as asleep:
            slow.take_turn(asleep, 1, brief=True)
            link = asleep.connection.driver_connection.pgconn  # type: ignore[union-attr]
            link.enter_pipeline_mode()
            link.send_query_params(b"SELECT 1", [])
            link.send_flush_request()
            link.flush()
            with quick.write() as connection:
                quick.take_turn(connection, 1)
            link.exit_pipeline_mode()

    with pytest.raises((StoreAwayError, psycopg.OperationalError)):
        fall_asleep()
    assert time.monotonic() - began < 20
    slow.close()
    quick.close()


def test_a_run_does_not_go_on_without_those_who_keep_its_leases(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    """An error that is no lost store ends it with that error: it would lose all its leases unawares."""
    vendor_server.configure(latency_s=2.0)
    job = make_job(runtime, corpus())

    async def main() -> None:
        engine = runtime.engine()

        def fail(*_: object) -> list[int]:
            raise ZeroDivisionError

        engine._control.look = fail  # type: ignore[method-assign, assignment]
        try:
            await engine.run([job.id])
        finally:
            await runtime.aclose()

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())
    statuses = item_statuses(runtime, job.id)
    assert statuses.get("done", 0) == len(vendor_server.bill) < DOCUMENTS, "what was in flight is stored"
