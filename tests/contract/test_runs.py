"""Whole runs on SQLite and on PostgreSQL: what the engine asks of a store holds on both."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from sqlalchemy import update

from batcher.domain import JobState
from batcher.engine.control import Ending
from batcher.engine.lane import LaneFactory
from batcher.engine.leasing import Chunk, Leaser
from batcher.engine.marks import Mark
from batcher.engine.reclaiming import reclaim_lost
from batcher.runtime import Runtime
from batcher.store.jobs import set_state
from batcher.store.results import count_models
from batcher.store.tables import leases
from tests.support.runs import (
    MODEL,
    bill_nusd,
    item_statuses,
    job_of,
    make_job,
    make_runtime,
    reserved,
    rows,
    run,
    spent,
)
from tests.support.vendor_server import VendorServer

TEXTS = {f"doc-{number}": f"Document number {number}." for number in range(40)}


def leaser(runtime: Runtime) -> Leaser:
    lanes = LaneFactory(
        runtime.catalog, runtime.provider, runtime.account, runtime.is_usable, runtime.find_task, timeout_s=5
    )
    return Leaser(runtime.store, runtime.ledger, lanes, lease_s=60)


def run_beside(runtime: Runtime, job_id: int, other: Runtime, others_id: int) -> None:
    """Run a job of each at the same time, to both their ends; closes the other's store."""
    racer = threading.Thread(target=run, args=(other, others_id))
    racer.start()
    run(runtime, job_id)
    racer.join()
    other.store.close()


def test_a_run_with_duplicates_and_a_second_job(runtime: Runtime, vendor_server: VendorServer) -> None:
    first = make_job(runtime, {**TEXTS, "copy": TEXTS["doc-0"]})
    second = make_job(runtime, TEXTS)
    assert run(runtime, first.id, second.id) is Ending.IDLE
    assert item_statuses(runtime, first.id) == {"done": 41}
    assert item_statuses(runtime, second.id) == {"done": 40}
    assert len(vendor_server.bill) == 40
    assert spent(runtime) == bill_nusd(vendor_server)
    assert reserved(runtime) == 0


def test_jobs_that_accept_a_model_in_common_do_not_ask_for_the_same_document_at_once(
    runtime: Runtime,
) -> None:
    pinned = make_job(runtime, TEXTS)
    of_a_tier = make_job(runtime, TEXTS, model=None, ladder=("premium",))
    of_another = make_job(runtime, TEXTS, model="gpt-4.1-mini")
    assert set(job_of(runtime, pinned.id).accepts) < set(job_of(runtime, of_a_tier.id).accepts)
    leased = [leaser(runtime).lease(30, [job.id], None) for job in (pinned, of_a_tier, of_another)]
    assert [len(chunk.items) for chunk in leased if isinstance(chunk, Chunk)] == [30, 10, 30]
    assert leaser(runtime).lease(30, [of_a_tier.id], None) is None


def test_two_engines_with_a_job_of_a_tier_and_one_of_a_model_pay_for_each_document_once(
    runtime: Runtime, store_url: str, tmp_path: Path, vendor_server: VendorServer
) -> None:
    vendor_server.configure(latency_s=0.02)
    texts = {f"d{number}": f"text {number}" for number in range(200)}
    of_a_tier = make_job(runtime, texts, model=None)
    pinned = make_job(runtime, texts, model=of_a_tier.accepts[0])
    run_beside(
        runtime,
        of_a_tier.id,
        make_runtime(tmp_path / "other", vendor_server, database_url=store_url),
        pinned.id,
    )
    for job in (of_a_tier, pinned):
        assert item_statuses(runtime, job.id) == {"done": 200}
    assert len(vendor_server.bill) == 200


def test_who_answered_is_counted_and_answers_taken_over_are_not(runtime: Runtime) -> None:
    first = make_job(runtime, {**TEXTS, "copy": TEXTS["doc-0"]})
    run(runtime, first.id)
    second = make_job(runtime, {**TEXTS, "new": "A text that nobody asked about."})
    run(runtime, second.id)
    with runtime.store.read() as connection:
        assert count_models(connection, first.id) == {("economy", MODEL): 40}
        assert count_models(connection, second.id) == {("economy", MODEL): 1}


def test_two_engines_at_once_pay_for_each_document_once(
    runtime: Runtime, store_url: str, tmp_path: Path, vendor_server: VendorServer
) -> None:
    vendor_server.configure(latency_s=0.02)
    job = make_job(runtime, {f"d{number}": f"text {number}" for number in range(200)})
    run_beside(
        runtime, job.id, make_runtime(tmp_path / "other", vendor_server, database_url=store_url), job.id
    )
    assert item_statuses(runtime, job.id) == {"done": 200}
    assert job_of(runtime, job.id).state is JobState.DONE
    assert len(vendor_server.bill) == len(rows(runtime, "attempts")) == 200
    assert spent(runtime) == bill_nusd(vendor_server)
    assert reserved(runtime) == 0


def test_the_cap_pauses_and_a_raise_goes_on(runtime: Runtime, vendor_server: VendorServer) -> None:
    with runtime.store.write() as connection:
        runtime.ledger.set_daily_cap(connection, 1_000_000)
    job = make_job(runtime, TEXTS)
    assert run(runtime, job.id) is Ending.BUDGET
    assert job_of(runtime, job.id).state is JobState.PAUSED
    assert spent(runtime) == bill_nusd(vendor_server) <= 1_000_000
    with runtime.store.write() as connection:
        runtime.ledger.set_daily_cap(connection, 10**9)
        set_state(connection, job.id, JobState.RUNNING, runtime.store.now(connection))
    assert run(runtime, job.id) is Ending.IDLE
    assert item_statuses(runtime, job.id) == {"done": 40}


def test_a_leased_item_is_not_leased_again_until_its_lease_is_lost(runtime: Runtime) -> None:
    job = make_job(runtime, TEXTS)
    first = leaser(runtime).lease(30, [job.id], None)
    second = leaser(runtime).lease(30, [job.id], None)
    assert isinstance(first, Chunk)
    assert isinstance(second, Chunk)
    assert {item.id for item in first.items} & {item.id for item in second.items} == set()
    assert leaser(runtime).lease(30, [job.id], None) is None
    assert reserved(runtime) > 0
    with runtime.store.write() as connection:
        connection.execute(update(leases).where(leases.c.id == first.lease_id).values(expires_at=1.0))
    assert reclaim_lost(runtime.store, runtime.ledger) == 1
    again = leaser(runtime).lease(40, [job.id], None)
    assert isinstance(again, Chunk)
    assert again.lease_id > second.lease_id
    assert {item.id for item in again.items} == {item.id for item in first.items}


def test_what_was_leased_and_never_sent_gives_its_reservation_back(runtime: Runtime) -> None:
    job = make_job(runtime, TEXTS)
    chunk = leaser(runtime).lease(10, [job.id], None)
    assert isinstance(chunk, Chunk)
    with runtime.store.write() as connection:
        connection.execute(update(leases).values(expires_at=1.0))
    reclaim_lost(runtime.store, runtime.ledger)
    assert reserved(runtime) == spent(runtime) == 0
    assert item_statuses(runtime, job.id) == {"pending": 40}


def test_an_answer_that_comes_after_the_lease_was_lost_is_booked_and_used(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    vendor_server.configure(latency_s=0.5)
    job = make_job(runtime, {"only": "text"})

    async def main() -> None:
        engine = runtime.engine()
        running = asyncio.create_task(engine.run([job.id]))
        await asyncio.to_thread(vendor_server.wait_for_calls, 1)
        with runtime.store.write() as connection:
            connection.execute(update(leases).values(expires_at=1.0))
        await asyncio.to_thread(reclaim_lost, runtime.store, runtime.ledger)
        [attempt] = rows(runtime, "attempts")
        assert (attempt.state, attempt.cost_nusd) == ("unknown", attempt.reserved_nusd)
        assert spent(runtime) == attempt.reserved_nusd
        await running
        await runtime.aclose()

    asyncio.run(main())
    first = rows(runtime, "attempts")[0]
    assert (first.state, first.outcome) == ("settled", "ok")
    assert item_statuses(runtime, job.id) == {"done": 1}
    assert spent(runtime) == bill_nusd(vendor_server)
    assert reserved(runtime) == 0
    assert rows(runtime, "items")[0].result_id == first.id


def test_an_item_whose_lease_was_only_late_is_taken_up_again(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    """Past its time when a call asks for leave, renewed afterwards: the item must not stay leased."""
    job = make_job(runtime, {"only": "text"})
    expired: list[bool] = []

    async def main() -> Ending:
        engine = runtime.engine()
        mark = engine._writer.mark

        async def mark_late(asked: Mark) -> None:
            if not expired:
                expired.append(True)
                with runtime.store.write() as connection:
                    connection.execute(update(leases).values(expires_at=1.0))
            await mark(asked)

        engine._writer.mark = mark_late  # type: ignore[method-assign]
        ending = await engine.run([job.id])
        await runtime.aclose()
        return ending

    assert asyncio.run(main()) is Ending.IDLE
    assert expired
    assert item_statuses(runtime, job.id) == {"done": 1}
    assert len(vendor_server.bill) == 1
    assert reserved(runtime) == 0
