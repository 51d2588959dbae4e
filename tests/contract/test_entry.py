"""Where documents start, in whole runs on both databases: by rule, by a router, and what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import event, update

from batcher.budget.savings import SavingKind, read_savings
from batcher.budget.spend import View, read_spend
from batcher.domain import JobState, Purpose
from batcher.engine.control import Ending
from batcher.engine.submission import take_up
from batcher.limits.breaker import FAILURES, OPEN_S
from batcher.money import cost_nusd
from batcher.planning.pricing import price_left
from batcher.routing.state import Routing, Target
from batcher.runtime import Runtime
from batcher.simulator.faults import Fault
from batcher.simulator.requests import Call
from batcher.store.job_items import retry_failed
from batcher.store.jobs import Job
from batcher.store.tables import items, jobs
from batcher.tasks import Task
from tests.support.routers import ANSWER, LADDER, ROUTER, routed_task
from tests.support.runs import (
    JUDGE,
    MODEL,
    balances,
    item_statuses,
    job_of,
    make_job,
    reserved,
    rows,
    run,
    spent,
)
from tests.support.vendor_server import VendorServer

CHEAP, DEAR = MODEL, JUDGE
CHEAP_ID, DEAR_ID = "gpt-4o-mini-2024-07-18", "gpt-4o-2024-11-20"
TASK = routed_task(100)
Decide = Callable[[Call], Fault | None]


@pytest.fixture
def runtime_settings() -> dict[str, Any]:
    tiers = {"economy": [CHEAP], "standard": ["gpt-4.1-mini"], "premium": [DEAR]}
    return {"tiers": tiers, "concurrency": 8, "chunk_items": 8}


@pytest.fixture(autouse=True)
def _task_is_known(runtime: Runtime) -> None:
    runtime.find_task = lambda _: TASK  # type: ignore[assignment]


def texts(simple: int, complex_: int) -> dict[str, str]:
    found = {f"s{n:03}": f"a simple case, number {n:03}" for n in range(simple)}
    return found | {f"c{n:03}": f"a complex case, number {n:03}" for n in range(complex_)}


def is_route(call: Call) -> bool:
    return b"ROUTE it" in call.raw


def routing(say: Callable[[str], str] = lambda word: word) -> Decide:
    """A vendor that routes by the word in the document, and answers all else the same."""

    def decide(call: Call) -> Fault:
        if not is_route(call):
            return Fault(text=ANSWER, times=None)
        return Fault(text=say("complex" if "a complex case" in call.text else "simple"), times=None)

    return decide


def submit(runtime: Runtime, found: dict[str, str], task: Task = TASK, **changes: Any) -> Job:
    return make_job(runtime, found, task=task, model=None, ladder=LADDER, **changes)


def calls(runtime: Runtime) -> Counter[tuple[str, str, str]]:
    """How many calls there were by purpose, tier and model."""
    return Counter((row.purpose, row.tier, row.model) for row in rows(runtime, "attempts"))


def test_a_router_sends_each_document_where_it_belongs(runtime: Runtime, vendor_server: VendorServer) -> None:
    vendor_server.on_call(routing())
    job = submit(runtime, texts(7, 3))
    with runtime.store.read() as connection:
        price = price_left(connection, job, runtime.catalog, runtime.is_usable)
        bare = price_left(
            connection,
            replace(job, spec=replace(TASK, router=None).spec().to_json()),
            runtime.catalog,
            runtime.is_usable,
        )
    assert price.likely_nusd > bare.likely_nusd, "asking the router is part of the price"
    assert (price.items, price.worst_nusd > bare.worst_nusd) == (10, True)
    assert run(runtime, job.id) is Ending.IDLE
    assert item_statuses(runtime, job.id) == {"done": 10}
    assert calls(runtime) == {
        ("route", "economy", CHEAP): 10,
        ("answer", "economy", CHEAP): 7,
        ("answer", "premium", DEAR): 3,
    }, "no start is an escalation"
    tiers = {row.source: row.tier for row in rows(runtime, "items")}
    assert {source: tier for source, tier in tiers.items() if source[0] == "c"} == {
        f"c00{n}": "premium" for n in range(3)
    }
    made = rows(runtime, "attempts")
    assert spent(runtime) == sum(row.cost_nusd for row in made)
    assert reserved(runtime) == 0
    with runtime.store.read() as connection:
        purposes = {one.key: one for one in read_spend(connection, View.PURPOSE)}
        [cheap] = [
            one
            for one in read_savings(connection, runtime.catalog, None, job.id, "UTC")
            if one.kind is SavingKind.CHEAP_TIERS
        ]
    assert purposes[Purpose.ROUTE.value].calls == 10
    assert (cheap.count, cheap.paid_nusd) == (10, spent(runtime)), "it is paid for, and no answer"


def test_a_route_is_asked_once_for_a_content(runtime: Runtime, vendor_server: VendorServer) -> None:
    vendor_server.on_call(routing())
    found = texts(3, 3)
    first = submit(runtime, {**found, "copy": found["c000"]})
    run(runtime, first.id)
    assert item_statuses(runtime, first.id) == {"done": 7}
    again = replace(TASK, version=2)
    second = submit(runtime, found, again)
    run(runtime, second.id)
    assert item_statuses(runtime, second.id) == {"done": 6}
    by_purpose = Counter(row.purpose for row in rows(runtime, "attempts"))
    assert by_purpose == {"route": 6, "answer": 12}


def test_what_is_known_of_a_chunk_s_documents_is_asked_of_the_store_at_once(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    vendor_server.on_call(routing())
    job = submit(runtime, texts(40, 0))
    asked: list[str] = []

    @event.listens_for(runtime.store.engine, "before_cursor_execute")
    def note(*arguments: Any) -> None:
        asked.append(" ".join(arguments[2].split()))

    run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"done": 40}
    of_results = [statement for statement in asked if statement.startswith("SELECT results.")]
    assert len(of_results) <= 2 * 40 / 8, "each chunk of eight asks for its routes, and is leased"


@pytest.mark.parametrize("nonsense", ["", "I cannot say.", "simple, or maybe complex", "{}"])
def test_a_router_that_talks_nonsense_leaves_documents_where_they_are(
    runtime: Runtime, vendor_server: VendorServer, nonsense: str
) -> None:
    vendor_server.on_call(routing(lambda _: nonsense or " "))
    job = submit(runtime, texts(2, 2))
    assert run(runtime, job.id) is Ending.IDLE
    assert calls(runtime) == {("route", "economy", CHEAP): 4, ("answer", "economy", CHEAP): 4}
    assert item_statuses(runtime, job.id) == {"done": 4}


@pytest.mark.parametrize(("status", "tier"), [(400, "economy"), (401, "economy"), (500, "standard")])
def test_a_router_that_fails_leaves_documents_where_they_are(
    runtime: Runtime, vendor_server: VendorServer, status: int, tier: str
) -> None:
    def decide(call: Call) -> Fault:
        return Fault(status=status, times=None) if is_route(call) else Fault(text=ANSWER, times=None)

    vendor_server.on_call(decide)
    job = submit(runtime, texts(6, 6), replace(TASK, router=replace(ROUTER, tier=tier)))
    assert run(runtime, job.id) is Ending.IDLE
    assert item_statuses(runtime, job.id) == {"done": 12}
    answers = [row for row in rows(runtime, "attempts") if row.purpose == "answer"]
    assert {(row.tier, row.outcome) for row in answers} == {("economy", "ok")}
    assert len(answers) == 12


def test_a_router_that_fails_keeps_no_document_from_the_model_that_it_shares(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    def decide(call: Call) -> Fault:
        return Fault(status=500, times=None) if is_route(call) else Fault(text=ANSWER, times=None)

    vendor_server.on_call(decide)
    job = submit(runtime, texts(40, 0))
    assert run(runtime, job.id) is Ending.IDLE
    assert item_statuses(runtime, job.id) == {"done": 40}
    sent = Counter(row.purpose for row in rows(runtime, "attempts"))
    assert sent["answer"] == 40
    assert FAILURES <= sent["route"] < 40, "it is left alone as well"
    times = sorted(row.sent_at for row in rows(runtime, "attempts"))
    assert max(later - earlier for earlier, later in pairwise(times)) < OPEN_S, "no circuit held answers back"


def test_what_climbs_from_where_it_started_is_an_escalation(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    def decide(call: Call) -> Fault:
        if not is_route(call) and call.model == CHEAP_ID:
            return Fault(text="no JSON", times=None)
        return routing()(call)  # type: ignore[return-value]

    vendor_server.on_call(decide)
    job = submit(runtime, texts(1, 1))
    run(runtime, job.id)
    assert calls(runtime) == {
        ("route", "economy", CHEAP): 2,
        ("answer", "economy", CHEAP): 1,
        ("repair", "economy", CHEAP): 1,
        ("escalation", "premium", DEAR): 1,
        ("answer", "premium", DEAR): 1,
    }
    assert item_statuses(runtime, job.id) == {"done": 2}


def test_what_failed_is_retried_where_it_started(runtime: Runtime, vendor_server: VendorServer) -> None:
    def decide(call: Call) -> Fault:
        if not is_route(call) and call.model == DEAR_ID:
            return Fault(text="no JSON", times=None)
        return routing()(call)  # type: ignore[return-value]

    vendor_server.on_call(decide)
    job = submit(runtime, texts(0, 2))
    run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"failed": 2}
    with runtime.store.write() as connection:
        assert retry_failed(connection, job.id, None, job.tier) == 2
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(state=JobState.RUNNING.value))
    assert {row.tier for row in rows(runtime, "items")} == {"premium"}
    vendor_server.on_call(routing())
    run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"done": 2}
    assert calls(runtime)["route", "economy", CHEAP] == 2
    assert calls(runtime)["answer", "economy", CHEAP] == 0


def test_a_document_that_a_rule_placed_is_not_asked_about(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    vendor_server.on_call(routing())
    job = submit(runtime, texts(2, 2))
    with runtime.store.write() as connection:
        ruled = items.c.source.in_(["s000", "c000"])
        connection.execute(update(items).where(ruled).values(start_tier="economy"))
    run(runtime, job.id)
    assert calls(runtime) == {
        ("route", "economy", CHEAP): 2,
        ("answer", "economy", CHEAP): 3,
        ("answer", "premium", DEAR): 1,
    }


@pytest.mark.parametrize("otherwise", ["pinned", "floor", "golden"])
def test_where_something_else_chooses_the_model_nobody_is_asked(
    runtime: Runtime, vendor_server: VendorServer, otherwise: str
) -> None:
    vendor_server.on_call(routing())
    if otherwise == "pinned":
        job = make_job(runtime, texts(2, 2), task=TASK, model=CHEAP)
    elif otherwise == "golden":
        job = submit(runtime, texts(2, 2), purpose=Purpose.GOLDEN)
    else:
        job = submit(runtime, texts(2, 2))
        target = Target(CHEAP, "economy")
        routed = Routing(0.8, "economy", target, CHEAP, "economy", "it is cheap", ())
        with runtime.store.write() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job.id).values(routing=routed.to_json()))
        job = job_of(runtime, job.id)
    run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"done": 4}
    assert not any(purpose == "route" for purpose, _, _ in calls(runtime))


def test_a_cap_holds_for_routers_and_no_route_is_paid_twice(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    vendor_server.on_call(routing())
    cap_nusd = 800_000
    job = submit(runtime, texts(20, 10), max_cost_nusd=cap_nusd)
    stops = 0
    while run(runtime, job.id) is Ending.BUDGET:
        stops += 1
        [account] = [one for one in balances(runtime) if one.account.scope == f"job:{job.id}"]
        assert account.spent_nusd <= cap_nusd
        assert account.reserved_nusd == 0
        assert stops < 40
        cap_nusd += 400_000
        with runtime.store.write() as connection:
            runtime.ledger.set_job_cap(connection, job.id, cap_nusd)
        take_up(runtime.store, runtime.ledger, job.id, JobState.RUNNING)
    assert stops >= 2
    assert item_statuses(runtime, job.id) == {"done": 30}
    assert calls(runtime) == {
        ("route", "economy", CHEAP): 30,
        ("answer", "economy", CHEAP): 20,
        ("answer", "premium", DEAR): 10,
    }
    assert sum(cost_nusd_of(row, runtime) for row in rows(runtime, "attempts")) == spent(runtime)


def cost_nusd_of(row: Any, runtime: Runtime) -> int:
    """What a call cost, from its tokens and the catalogue's prices."""
    from batcher.domain import Usage

    usage = Usage(row.input_tokens, row.cached_tokens, row.cache_write_tokens, row.output_tokens)
    return cost_nusd(usage, runtime.catalog.models[row.model].prices)
