"""Caps of tiers, providers, tasks and jobs over whole runs: what each stops, what goes on, the last cents."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import BaseModel
from sqlalchemy import select, update

from batcher.alerts.book import Rule
from batcher.domain import JobState, Purpose
from batcher.engine.control import Ending
from batcher.engine.lane import Lane
from batcher.engine.marks import BudgetExhaustedError, Mark
from batcher.engine.shortages import Shortages
from batcher.limits.breaker import CircuitBreaker
from batcher.runtime import Runtime
from batcher.store.tables import alerts, jobs
from batcher.tasks import Task
from batcher.tasks.scorers import exact
from tests.support.capped_runs import cap, capped_runtime, put_on, reservation_nusd
from tests.support.fleet import wait_until
from tests.support.runs import (
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

DOLLAR = 1_000_000_000
TEXTS = {f"doc-{number}.txt": f"Document number {number} is about something." for number in range(12)}
MANY = {f"d{number}": f"text number {number}" for number in range(40)}


@pytest.fixture
def runtime(tmp_path: Path, vendor_server: VendorServer) -> Runtime:
    return capped_runtime(tmp_path / "home", vendor_server)


def reason_of(runtime: Runtime, job_id: int) -> str:
    return job_of(runtime, job_id).reason or ""


def test_a_tiers_cap_holds_back_its_items_and_no_other(runtime: Runtime, vendor_server: VendorServer) -> None:
    cap(runtime, "tier:premium", 0)
    job = make_job(runtime, MANY, model=None, ladder=("economy", "premium"))
    put_on(runtime, "premium", "d0", "d17", "d39")
    assert run(runtime, job.id) is Ending.BUDGET
    assert item_statuses(runtime, job.id) == {"done": 37, "pending": 3}
    assert {line.model for line in vendor_server.bill} == {"at-openai"}
    paused = job_of(runtime, job.id)
    assert (paused.reason or "").startswith("budget: cap of tier premium $0.00")
    with runtime.store.write() as connection:
        today = runtime.ledger.today(connection)
    assert paused.resume_at == runtime.ledger.next_day_starts_at(today)


def test_a_providers_cap_stops_its_job_and_the_next_one_goes_on(runtime: Runtime) -> None:
    cap(runtime, "provider:openai", 0)
    first = make_job(runtime, TEXTS, model="at-openai")
    second = make_job(runtime, MANY, model="at-together", tier="premium")
    assert run(runtime, first.id, second.id) is Ending.BUDGET
    assert item_statuses(runtime, first.id) == {"pending": 12}
    assert item_statuses(runtime, second.id) == {"done": 40}
    assert job_of(runtime, second.id).state is JobState.DONE
    assert "cap of provider openai" in reason_of(runtime, first.id)


def test_a_tasks_cap_stops_its_jobs_and_no_others(runtime: Runtime) -> None:
    class Other(BaseModel):
        label: str

    other = Task(name="other", version=1, prompt="Say.", output=Other, scorer=exact, tier="economy")
    cap(runtime, "task:verdict", 0)
    held, free = make_job(runtime, TEXTS, model=None), make_job(runtime, TEXTS, model=None, task=other)
    run(runtime, held.id, free.id)
    assert item_statuses(runtime, free.id) == {"done": 12}
    assert "cap of task verdict" in reason_of(runtime, held.id)
    cap(runtime, "task:verdict", None)
    with runtime.store.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == held.id).values(state=JobState.RUNNING.value))
    assert run(runtime, held.id) is Ending.IDLE
    assert item_statuses(runtime, held.id) == {"done": 12}


def test_a_jobs_cap_and_the_days_at_once_name_the_one_that_no_day_lifts(runtime: Runtime) -> None:
    cap(runtime, "day", 0)
    job = make_job(runtime, TEXTS, model=None, max_cost_nusd=0)
    run(runtime, job.id)
    assert f"cap of job {job.id}" in reason_of(runtime, job.id)
    assert job_of(runtime, job.id).resume_at is None


def test_a_cap_set_in_mid_day_counts_what_was_spent_before(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    run(runtime, make_job(runtime, TEXTS, model=None).id)
    before = spent(runtime, "tier:economy")
    assert before == spent(runtime) == bill_nusd(vendor_server) > 0
    cap(runtime, "tier:economy", before)
    job = make_job(runtime, MANY, model=None)
    assert run(runtime, job.id) is Ending.BUDGET
    assert item_statuses(runtime, job.id) == {"pending": 40}


def test_a_stand_in_is_paid_from_its_own_providers_account(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    runtime.catalog.tiers["economy"] = ("at-openai", "at-together")
    vendor_server.add_fault(status=503, headers={"retry-after-ms": "10"}, times=None, model="at-openai")
    job = make_job(runtime, MANY, model=None)
    assert run(runtime, job.id) is Ending.IDLE
    assert item_statuses(runtime, job.id) == {"done": 40}
    by_scope = {found.account.scope: found for found in balances(runtime)}
    assert by_scope["provider:together"].spent_nusd == bill_nusd(vendor_server) == spent(runtime)
    assert by_scope["provider:openai"].spent_nusd == 0
    assert reserved(runtime) == 0


def test_a_stand_in_without_room_is_left_alone_and_the_first_model_waited_for(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    runtime.catalog.tiers["economy"] = ("at-openai", "at-together")
    vendor_server.add_fault(status=503, headers={"retry-after-ms": "10"}, times=None, model="at-openai")
    cap(runtime, "provider:together", 0)
    job = make_job(runtime, MANY, model=None)

    async def main() -> Ending:
        engine = runtime.engine()
        engine._traffic._breaker = CircuitBreaker(open_s=0.2, longest_open_s=0.4)
        running = asyncio.create_task(engine.run([job.id]))
        await asyncio.to_thread(_wait_until, lambda: bool(engine._shortages._resting))
        vendor_server.clear_faults()
        ending = await running
        await runtime.aclose()
        return ending

    assert asyncio.run(main()) is Ending.IDLE
    assert item_statuses(runtime, job.id) == {"done": 40}
    assert {line.model for line in vendor_server.bill} == {"at-openai"}
    assert len(rows(runtime, "attempts")) == len(vendor_server.bill), "nothing was marked in vain"


def test_an_idle_run_waits_for_what_another_one_holds_in_reserve(
    runtime: Runtime, tmp_path: Path, vendor_server: VendorServer
) -> None:
    """Room for one call at a time: the second process has nothing to do until the first one's call is in."""
    vendor_server.configure(latency_s=1.5)
    needed_nusd = reservation_nusd(runtime, "the same length, a")
    mine = make_job(runtime, {"a": "the same length, a"}, model=None)
    cap(runtime, "day", needed_nusd + needed_nusd // 2)
    other = make_runtime(tmp_path / "home", vendor_server)
    other.catalog.models.update(runtime.catalog.models)
    other.catalog.tiers.update(runtime.catalog.tiers)
    racer = threading.Thread(target=run, args=(other, mine.id))
    racer.start()
    vendor_server.wait_for_calls(1)
    second = make_job(runtime, {"b": "the same length, b"}, model=None)
    assert run(runtime, second.id) is Ending.IDLE
    racer.join()
    other.store.close()
    assert item_statuses(runtime, mine.id) == item_statuses(runtime, second.id) == {"done": 1}
    assert [line.billed for line in vendor_server.bill] == [True, True]


def test_a_repair_waits_for_room_that_other_calls_may_make(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    """The first document's answer must be repaired while the second one's call holds the rest of the cap."""
    first, second = "A: short", "B: " + "long " * 200
    job = make_job(runtime, {"a": first, "b": second}, model=None)
    both = reservation_nusd(runtime, first) + reservation_nusd(runtime, second)
    vendor_server.add_fault(text="no JSON", contains=first)
    vendor_server.add_fault(delay_s=1.0, contains="B: ")
    cap(runtime, "day", both)
    assert run(runtime, job.id) is Ending.IDLE
    assert item_statuses(runtime, job.id) == {"done": 2}
    by_source = {row.id: row.source for row in rows(runtime, "items")}
    calls = sorted(rows(runtime, "attempts"), key=lambda row: row.sent_at)
    assert [(by_source[row.item_id], row.purpose) for row in calls][2] == ("a", "repair")
    assert len(calls) == 3
    slow = next(row for row in calls if by_source[row.item_id] == "b")
    assert calls[2].sent_at >= slow.sent_at + 1.0, "it waited for the slow call's reservation"
    assert reserved(runtime) == 0


def test_a_repair_that_was_put_off_is_tried_when_its_cap_is_raised(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    job = make_job(runtime, {"a": "A: to repair", "b": "B: slow"}, model=None)
    vendor_server.add_fault(text="no JSON", delay_s=0.7, contains="A: ")
    vendor_server.add_fault(delay_s=2.5, contains="B: ")
    cap(runtime, "day", DOLLAR)
    racer = threading.Thread(target=run, args=(runtime, job.id))
    racer.start()
    vendor_server.wait_for_calls(2)
    cap(runtime, "day", 1)
    wait_until(lambda: any(row.ready_at > time.time() + 60 for row in rows(runtime, "items")))
    cap(runtime, "day", DOLLAR)
    racer.join()
    assert job_of(runtime, job.id).state is JobState.DONE
    assert item_statuses(runtime, job.id) == {"done": 2}
    assert reserved(runtime) == 0


def test_what_was_put_off_is_forgotten_with_its_job_or_when_its_cap_is_raised(runtime: Runtime) -> None:
    job = make_job(runtime, {"a": "text"})
    cap(runtime, "day", DOLLAR)
    shortages = Shortages(runtime.store, runtime.ledger)
    [day] = [found for found in balances(runtime) if found.account.scope == "day"]
    prices = runtime.catalog.model("gpt-4o-mini").prices
    mark = Mark(1, 1, job.id, 1, Purpose.REPAIR, 0, "economy", "gpt-4o-mini", "openai", 2 * DOLLAR, prices)
    refusal = BudgetExhaustedError(mark, day, 2 * DOLLAR, is_follow_up=True, may_pass=False)

    def forgotten() -> set[int]:
        with runtime.store.read() as connection:
            return shortages.forget_raised(connection)

    shortages.refused(cast("Lane", None), refusal)
    assert forgotten() == set()
    cap(runtime, "day", DOLLAR + 1)
    assert forgotten() == set(), "not by enough"
    cap(runtime, "day", 3 * DOLLAR)
    with runtime.store.read() as connection:
        reason, _ = shortages.pause(connection, job.id) or ("", None)
    assert reason.endswith("There is room for it by now: resume")
    assert forgotten() == {job.id}
    assert not shortages
    shortages.refused(cast("Lane", None), refusal)
    shortages.keep_jobs([])
    assert shortages.waiting() is None


def test_stopping_does_not_wait_for_room(runtime: Runtime, vendor_server: VendorServer) -> None:
    first, second = "A: short", "B: " + "long " * 200
    job = make_job(runtime, {"a": first, "b": second}, model=None)
    cap(runtime, "day", reservation_nusd(runtime, first) + reservation_nusd(runtime, second))
    vendor_server.add_fault(text="no JSON", contains=first)
    vendor_server.add_fault(delay_s=2.0, contains="B: ")

    async def main() -> Ending:
        engine = runtime.engine()
        running = asyncio.create_task(engine.run([job.id]))
        await asyncio.to_thread(_wait_until, lambda: bool(engine._writer._waiting))
        engine.stop()
        ending = await running
        await runtime.aclose()
        return ending

    assert asyncio.run(main()) is Ending.STOPPED
    assert item_statuses(runtime, job.id) == {"done": 1, "pending": 1}
    assert [row.purpose for row in rows(runtime, "attempts")] == ["answer", "answer"]
    assert reserved(runtime) == 0


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_job_goes_on_with_its_other_tiers_and_tells_what_it_lacks(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    """Also where a run takes whatever jobs there are, as a worker does."""
    runtime.settings = runtime.settings.model_copy(update={"concurrency": 1, "chunk_items": 1})
    vendor_server.configure(latency_s=0.15)
    cap(runtime, "tier:economy", 0)
    job = make_job(runtime, MANY, model=None, ladder=("economy", "premium"))
    put_on(runtime, "premium", *(MANY.keys() - {"d3", "d7"}))
    seen = _watch(runtime, None, lambda: job_of(runtime, job.id).waiting_reason)
    assert seen == "budget: cap of tier economy reached"
    assert item_statuses(runtime, job.id) == {"done": 38, "pending": 2}
    assert job_of(runtime, job.id).state is JobState.PAUSED
    assert job_of(runtime, job.id).waiting_reason is None


def _watch(runtime: Runtime, job_ids: list[int] | None, look: Callable[[], Any]) -> Any:
    """Run to the end; what ``look`` said first that was something, while the run went on."""

    async def main() -> Any:
        engine = runtime.engine()
        running = asyncio.create_task(engine.run(job_ids))
        seen = None
        while not running.done():
            seen = seen or await asyncio.to_thread(look)
            await asyncio.sleep(0.05)
        await running
        await runtime.aclose()
        return seen

    return asyncio.run(main())


@pytest.mark.over_reservation
def test_a_call_that_costs_more_than_its_reservation_is_told(
    runtime: Runtime, vendor_server: VendorServer, caplog: pytest.LogCaptureFixture
) -> None:
    usage = {"prompt_tokens": 90_000, "completion_tokens": 10, "total_tokens": 90_010}
    message = {"role": "assistant", "content": '{"label": "x"}'}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "at-openai",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }
    vendor_server.add_fault(body=body, times=2)
    job = make_job(runtime, {"a": "one", "b": "two"}, model=None)
    with caplog.at_level(logging.ERROR, "batcher.ledger"):
        run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"done": 2}
    assert len(caplog.records) == 2
    assert "at-openai cost more than was reserved" in caplog.text
    with runtime.store.read() as connection:
        [told] = connection.execute(select(alerts).where(alerts.c.rule == Rule.OVER_RESERVATION.value))
    assert told.scope == "model:at-openai"
    each_nusd = 90_000 * 150 + 10 * 600
    assert spent(runtime) == sum(row.cost_nusd for row in rows(runtime, "attempts")) == 2 * each_nusd
