"""The engine under a cap, when it is stopped, paused or cancelled, and when a lane cannot work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import update

from batcher.budget.ledger import Account
from batcher.domain import JobState
from batcher.engine.control import Ending
from batcher.engine.engine import Engine
from batcher.engine.lane import Lane
from batcher.engine.leasing import Chunk
from batcher.engine.marks import BudgetExhaustedError
from batcher.engine.shortages import Shortages
from batcher.limits.clock import Moment
from batcher.runtime import Runtime
from batcher.store.job_items import cancel_pending
from batcher.store.jobs import set_state
from batcher.store.leases import active_workers
from batcher.store.tables import items
from tests.support.runs import (
    MODEL,
    balances,
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

TEXTS = {f"doc-{number}.txt": f"Document number {number} is about something." for number in range(12)}
ONE = {"one.txt": "The only document."}


@pytest.fixture
def runtime(tmp_path: Path, vendor_server: VendorServer) -> Runtime:
    return make_runtime(tmp_path / "home", vendor_server)


def stopped_after(vendor_server: VendorServer, runtime: Runtime, job_id: int, calls: int) -> Ending:
    """How a run ends, within 20 s, that is stopped when so many calls have arrived."""

    async def main() -> Ending:
        engine = runtime.engine()
        running = asyncio.create_task(engine.run([job_id]))
        await asyncio.to_thread(vendor_server.wait_for_calls, calls)
        engine.stop()
        ending = await asyncio.wait_for(running, 20)
        await runtime.aclose()
        return ending

    return asyncio.run(main())


def test_the_cap_pauses_the_job_and_raising_it_goes_on(runtime: Runtime, vendor_server: VendorServer) -> None:
    texts = {f"d{number}": f"text {number} " * 40 for number in range(60)}
    with runtime.store.write() as connection:
        runtime.ledger.set_daily_cap(connection, 1_000_000)
    job = make_job(runtime, texts)
    assert run(runtime, job.id) is Ending.BUDGET
    paused = job_of(runtime, job.id)
    assert paused.state is JobState.PAUSED
    assert paused.reason is not None
    assert "daily cap" in paused.reason
    assert paused.resume_at is not None
    done = item_statuses(runtime, job.id)["done"]
    assert 0 < done < 60
    assert bill_nusd(vendor_server) == spent(runtime) <= 1_000_000
    needed = paused.reason.rpartition("$")[2]
    assert 1_000_000 - spent(runtime) < int(Decimal(needed) * 10**9), "the last cents were used"
    assert reserved(runtime) == 0
    with runtime.store.write() as connection:
        runtime.ledger.set_daily_cap(connection, 10**9)
        set_state(connection, job.id, JobState.RUNNING, runtime.store.now(connection))
    assert run(runtime, job.id) is Ending.IDLE
    assert item_statuses(runtime, job.id) == {"done": 60}
    assert len(vendor_server.bill) == 60


def test_a_jobs_own_cap_holds(runtime: Runtime, vendor_server: VendorServer) -> None:
    job = make_job(runtime, TEXTS, max_cost_nusd=200_000)
    assert run(runtime, job.id) is Ending.BUDGET
    assert spent(runtime, f"job:{job.id}") <= 200_000
    reason = job_of(runtime, job.id).reason
    assert reason is not None
    assert f"cap of job {job.id}" in reason
    assert job_of(runtime, job.id).resume_at is None


def test_a_cap_that_other_jobs_have_reserved_may_come_free_today(runtime: Runtime) -> None:
    job = make_job(runtime, ONE)
    with runtime.store.write() as connection:
        runtime.ledger.set_daily_cap(connection, 10**9)
        today = Account("day", runtime.ledger.today(connection))
        assert runtime.ledger.reserve(connection, [today], 10**9) is None
    assert run(runtime, job.id) is Ending.BUDGET
    paused = job_of(runtime, job.id)
    assert paused.reason is not None
    assert "$1.00 reserved" in paused.reason
    assert paused.reason.endswith("Other jobs hold what is reserved: resume when they have ended")
    assert paused.resume_at is not None, "and at the latest on the next day"


def test_a_repair_that_the_budget_does_not_admit_is_not_tried_again_today(
    tmp_path: Path, vendor_server: VendorServer
) -> None:
    runtime = make_runtime(tmp_path / "home", vendor_server)
    vendor_server.add_fault(text="?", times=None)
    job = make_job(runtime, ONE)
    lane_cost = 331_200
    with runtime.store.write() as connection:
        runtime.ledger.set_daily_cap(connection, lane_cost)
    assert run(runtime, job.id) is Ending.BUDGET
    assert len(vendor_server.bill) <= 1
    assert spent(runtime) <= lane_cost


def test_stopping_lets_the_calls_in_flight_finish_and_gives_the_rest_back(
    tmp_path: Path, vendor_server: VendorServer
) -> None:
    runtime = make_runtime(tmp_path / "home", vendor_server, concurrency=4, chunk_items=8)
    vendor_server.configure(latency_s=0.2)
    job = make_job(runtime, TEXTS)

    assert stopped_after(vendor_server, runtime, job.id, calls=4) is Ending.STOPPED
    statuses = item_statuses(runtime, job.id)
    assert statuses["done"] == len(vendor_server.bill) < 12
    assert statuses["pending"] == 12 - statuses["done"]
    assert (job_of(runtime, job.id).state, job_of(runtime, job.id).reason) == (JobState.PAUSED, "interrupted")
    assert reserved(runtime) == 0


def test_a_stop_just_after_items_were_taken_gives_them_back(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(runtime, TEXTS)
    take = Engine._start

    def take_and_stop(engine: Engine, chunk: Chunk, asked: Moment) -> None:
        take(engine, chunk, asked)
        engine.stop()

    monkeypatch.setattr(Engine, "_start", take_and_stop)
    assert run(runtime, job.id) is Ending.STOPPED
    assert item_statuses(runtime, job.id) == {"pending": 12}
    assert reserved(runtime) == 0
    assert held(runtime) == []


def test_a_stop_while_a_cap_refuses_a_call_gives_its_item_back(
    runtime: Runtime, vendor_server: VendorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor_server.add_fault(text="?", times=None)
    job = make_job(runtime, ONE)
    with runtime.store.write() as connection:
        runtime.ledger.set_daily_cap(connection, 331_200)
    stops: list[Callable[[], None]] = []
    refuse = Shortages.refused

    def stop_and_refuse(shortages: Shortages, lane: Lane, error: BudgetExhaustedError) -> float:
        stops.pop()()
        return refuse(shortages, lane, error)

    async def main() -> Ending:
        engine, loop = runtime.engine(), asyncio.get_running_loop()

        async def stop() -> None:
            engine.stop()

        stops.append(lambda: asyncio.run_coroutine_threadsafe(stop(), loop).result(10))
        ending = await engine.run([job.id])
        await runtime.aclose()
        return ending

    monkeypatch.setattr(Shortages, "refused", stop_and_refuse)
    assert asyncio.run(main()) is Ending.STOPPED
    assert not stops, "a call was refused"
    assert item_statuses(runtime, job.id) == {"pending": 1}
    assert reserved(runtime) == 0
    assert held(runtime) == []


def test_a_call_that_fails_after_a_stop_is_not_waited_for_again(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    vendor_server.configure(latency_s=0.5)
    vendor_server.add_fault(status=503, headers={"retry-after": "50"}, times=None)
    job = make_job(runtime, ONE)

    assert stopped_after(vendor_server, runtime, job.id, calls=1) is Ending.STOPPED
    assert item_statuses(runtime, job.id) == {"pending": 1}
    assert reserved(runtime) == 0


def held(runtime: Runtime) -> list[tuple[int, str]]:
    """The chunks that somebody works on, by the books."""
    with runtime.store.read() as connection:
        return active_workers(connection)


@pytest.mark.parametrize("target", [JobState.PAUSED, JobState.CANCELLED])
def test_pause_and_cancel_reach_a_running_engine(
    tmp_path: Path, vendor_server: VendorServer, target: JobState
) -> None:
    runtime = make_runtime(tmp_path / "home", vendor_server, concurrency=2, chunk_items=2)
    vendor_server.configure(latency_s=0.1)
    job = make_job(runtime, {f"d{number}": f"text {number}" for number in range(300)})

    def interfere() -> None:
        vendor_server.wait_for_calls(2)
        with runtime.store.write() as connection:
            set_state(connection, job.id, target, runtime.store.now(connection), reason="paused by user")
            if target is JobState.CANCELLED:
                cancel_pending(connection, job.id)

    async def main() -> None:
        engine = runtime.engine()
        running = asyncio.create_task(engine.run([job.id]))
        await asyncio.to_thread(interfere)
        await running
        await runtime.aclose()

    asyncio.run(main())
    assert job_of(runtime, job.id).state is target
    left = item_statuses(runtime, job.id)
    assert left["done"] < 100
    assert left.get("leased", 0) == 0
    assert left["cancelled" if target is JobState.CANCELLED else "pending"] > 200


def test_one_lane_without_a_key_does_not_hold_up_the_others(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    runtime.catalog.tiers["keyless"] = ("groq-llama",)
    runtime.catalog.models["groq-llama"] = replace(
        runtime.catalog.models[MODEL], name="groq-llama", provider="groq"
    )
    job = make_job(runtime, {"a": "one", "b": "two"}, model=None, ladder=("economy", "keyless"))
    with runtime.store.write() as connection:
        connection.execute(update(items).where(items.c.source == "a").values(tier="keyless"))
    run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"pending": 1, "done": 1}
    paused = job_of(runtime, job.id)
    assert paused.state is JobState.PAUSED
    assert paused.reason is not None
    assert "GROQ_API_KEY" in paused.reason


def test_the_accounts_are_those_of_day_job_provider_task_and_tier(runtime: Runtime) -> None:
    job = make_job(runtime, ONE)
    run(runtime, job.id)
    attempt = rows(runtime, "attempts")[0]
    assert {found.account for found in balances(runtime)} == {
        Account("day", attempt.day),
        Account(f"job:{job.id}", ""),
        Account("provider:openai", attempt.day),
        Account("task:verdict", attempt.day),
        Account("tier:economy", attempt.day),
    }
