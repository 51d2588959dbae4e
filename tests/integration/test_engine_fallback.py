"""When the first model of a tier is down, the next one stands in; when it is back, it does the work again."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batcher.domain import JobState
from batcher.limits.breaker import SLOW_S
from batcher.runtime import Runtime
from tests.support.runs import (
    MODEL,
    bill_nusd,
    item_statuses,
    job_of,
    make_job,
    make_runtime,
    rows,
    run,
    spent,
)
from tests.support.vendor_server import VendorServer

FIRST, SECOND = "first-choice", "second-choice"


def pair(tmp_path: Path, vendor: VendorServer, *, rpm: int | None = None, **settings: Any) -> Runtime:
    """A tier of two models that have limits of their own."""
    runtime = make_runtime(tmp_path / "home", vendor, **settings)
    known = runtime.catalog.models[MODEL]
    for name in (FIRST, SECOND):
        limits = replace(known.limits, rpm=rpm, tpm=None)
        runtime.catalog.models[name] = replace(known, name=name, id=name, limits=limits)
    runtime.catalog.tiers["pair"] = (FIRST, SECOND)
    return runtime


@pytest.fixture
def runtime(tmp_path: Path, vendor_server: VendorServer) -> Runtime:
    return pair(tmp_path, vendor_server, concurrency=8, chunk_items=8)


def work(runtime: Runtime, count: int = 60, **job: Any) -> int:
    texts = {f"d{number}": f"text {number}" for number in range(count)}
    made = make_job(runtime, texts, model=None, tier="pair", **job)
    run(runtime, made.id)
    return made.id


def test_another_model_of_the_tier_takes_over_when_the_first_has_no_capacity(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    vendor_server.add_fault(status=503, headers={"retry-after-ms": "10"}, times=None, model=FIRST)
    job_id = work(runtime)
    assert item_statuses(runtime, job_id) == {"done": 60}
    outcomes = Counter((row.model, row.outcome) for row in rows(runtime, "attempts"))
    assert outcomes[SECOND, "ok"] == 60
    assert 8 <= outcomes[FIRST, "overloaded"] < 40, "a circuit that is open lets nothing through"
    assert spent(runtime) == bill_nusd(vendor_server)


@pytest.mark.parametrize(
    ("fault", "most_sent"),
    [
        ({"status": 503}, 48),
        ({"status": 529, "headers": {"retry-after-ms": "10"}}, 48),
        ({"kind": "server_500"}, 48),
        ({"kind": "reset_before"}, 48),
    ],
    ids=["503", "529", "500", "reset"],
)
def test_calls_that_were_picked_for_a_dead_model_are_not_sent_to_it(
    tmp_path: Path, vendor_server: VendorServer, fault: dict[str, Any], most_sent: int
) -> None:
    """At a rate of ten calls a second 80 calls are picked before the first one fails."""
    runtime = pair(tmp_path, vendor_server, concurrency=16, rpm=600)
    vendor_server.add_fault(**fault, times=None, model=FIRST)
    job_id = work(runtime, count=80)
    assert item_statuses(runtime, job_id) == {"done": 80}
    assert {row.model for row in rows(runtime, "results")} == {SECOND}
    sent = Counter(row.model for row in rows(runtime, "attempts") if row.outcome != "not_sent")
    assert 8 <= sent[FIRST] <= most_sent
    assert sent[SECOND] == 80


def test_calls_that_wait_for_a_hanging_model_go_to_the_next_one(
    tmp_path: Path, vendor_server: VendorServer
) -> None:
    runtime = pair(tmp_path, vendor_server, concurrency=8, call_timeout_s=SLOW_S + 0.5)
    vendor_server.add_fault(kind="hang", times=None, model=FIRST)
    job_id = work(runtime, count=80)
    assert item_statuses(runtime, job_id) == {"done": 80}
    sent = Counter(row.model for row in rows(runtime, "attempts") if row.outcome != "not_sent")
    assert 8 <= sent[FIRST] <= 24, "those on the wire, and those that were marked when the first timed out"


def test_a_third_of_the_calls_refused_at_once_is_no_reason_to_leave_a_model(
    tmp_path: Path, vendor_server: VendorServer
) -> None:
    runtime = pair(tmp_path, vendor_server, concurrency=48)
    vendor_server.configure(latency_scale=1.0)
    vendor_server.add_fault(status=529, rate=0.3, times=None, model=FIRST)
    job_id = work(runtime, count=80)
    assert item_statuses(runtime, job_id) == {"done": 80}
    assert {row.model for row in rows(runtime, "attempts")} == {FIRST}
    assert Counter(row.outcome for row in rows(runtime, "attempts"))["overloaded"] > 12


def test_an_account_that_refuses_is_left_and_the_next_model_stands_in(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    vendor_server.add_fault(status=401, times=None, model=FIRST)
    job_id = work(runtime)
    assert item_statuses(runtime, job_id) == {"done": 60}
    assert job_of(runtime, job_id).state is JobState.DONE
    assert {row.model for row in rows(runtime, "results")} == {SECOND}
    assert sum(row.model == FIRST for row in rows(runtime, "attempts")) <= 10


def test_when_no_model_of_the_tier_works_the_job_pauses_and_names_them_all(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    vendor_server.add_fault(status=401, times=None)
    job_id = work(runtime)
    assert item_statuses(runtime, job_id) == {"pending": 60}
    assert job_of(runtime, job_id).state is JobState.PAUSED
    assert len(vendor_server.bill) <= 20


def test_while_nothing_is_wrong_the_first_model_does_all_the_work(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    job_id = work(runtime)
    assert item_statuses(runtime, job_id) == {"done": 60}
    assert {row.model for row in rows(runtime, "results")} == {FIRST}
    assert len(vendor_server.bill) == 60
