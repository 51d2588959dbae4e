"""When the first model of a tier is down, the next one stands in; when it is back, it does the work again."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batcher.domain import JobState
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
TEXTS = {f"d{number}": f"text {number}" for number in range(60)}


@pytest.fixture
def runtime(tmp_path: Path, vendor_server: VendorServer) -> Runtime:
    runtime = make_runtime(tmp_path / "home", vendor_server, concurrency=8, chunk_items=8)
    known = runtime.catalog.models[MODEL]
    for name in (FIRST, SECOND):
        limits = replace(known.limits, rpm=None, tpm=None)
        runtime.catalog.models[name] = replace(known, name=name, id=name, limits=limits)
    runtime.catalog.tiers["pair"] = (FIRST, SECOND)
    return runtime


def work(runtime: Runtime, **job: Any) -> int:
    made = make_job(runtime, TEXTS, model=None, tier="pair", **job)
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
