"""The engine against a real HTTP server and a real store: what is sent, stored and booked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batcher.domain import JobState
from batcher.engine.control import Ending
from batcher.runtime import Runtime
from batcher.store.job_items import retry_failed
from batcher.store.jobs import set_state
from tests.support.runs import (
    MODEL,
    TASK,
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
    return make_runtime(tmp_path / "home", vendor_server, call_timeout_s=5)


def test_every_document_is_answered_and_the_ledger_equals_the_bill(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    job = make_job(runtime, TEXTS)
    assert run(runtime, job.id) is Ending.IDLE
    assert item_statuses(runtime, job.id) == {"done": 12}
    assert job_of(runtime, job.id).state is JobState.DONE
    assert len(vendor_server.bill) == len(rows(runtime, "attempts")) == 12
    assert spent(runtime) == spent(runtime, f"job:{job.id}") == bill_nusd(vendor_server) > 0
    assert reserved(runtime) == 0


def test_the_same_corpus_again_costs_nothing(runtime: Runtime, vendor_server: VendorServer) -> None:
    run(runtime, make_job(runtime, TEXTS).id)
    before = spent(runtime)
    again = make_job(runtime, TEXTS)
    assert run(runtime, again.id) is Ending.IDLE
    assert item_statuses(runtime, again.id) == {"done": 12}
    assert job_of(runtime, again.id).state is JobState.DONE
    assert (len(vendor_server.bill), spent(runtime)) == (12, before)


def test_the_same_content_twice_is_one_call_and_two_results(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    job = make_job(runtime, {f"copy-{number}": "the same" for number in range(50)})
    run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"done": 50}
    assert len({row.result_id for row in rows(runtime, "items")}) == 1
    assert len(vendor_server.bill) == 1


def test_two_jobs_at_once_share_one_call_per_key(runtime: Runtime, vendor_server: VendorServer) -> None:
    first, second = make_job(runtime, TEXTS), make_job(runtime, TEXTS)
    run(runtime, first.id, second.id)
    assert item_statuses(runtime, first.id) == item_statuses(runtime, second.id) == {"done": 12}
    assert len(vendor_server.bill) == 12


def test_refresh_asks_anew_and_keeps_the_old_answer(runtime: Runtime, vendor_server: VendorServer) -> None:
    run(runtime, make_job(runtime, ONE).id)
    refreshing = make_job(runtime, ONE, refresh=True)
    run(runtime, refreshing.id)
    assert len(vendor_server.bill) == 2
    first, second = rows(runtime, "results")
    assert (first.refresh_job_id, second.refresh_job_id) == (0, refreshing.id)
    run(runtime, make_job(runtime, ONE).id)
    assert rows(runtime, "items")[-1].result_id == second.id, "the newest answer is the one that is reused"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 529])
def test_passing_faults_are_retried(runtime: Runtime, vendor_server: VendorServer, status: int) -> None:
    vendor_server.add_fault(status=status, headers={"retry-after-ms": "20"}, times=2)
    job = make_job(runtime, ONE)
    run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"done": 1}
    made = rows(runtime, "attempts")
    assert [row.status_code for row in made] == [status, status, 200]
    booked_until_known = sum(row.cost_nusd for row in made if row.state == "unknown")
    assert (booked_until_known > 0) is (status in {408, 502}), "a gateway may have passed the call on"
    assert spent(runtime) == bill_nusd(vendor_server) + booked_until_known


def test_a_reset_after_sending_stays_booked_at_its_worst_case(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    vendor_server.add_fault(connection="reset_after", times=1)
    job = make_job(runtime, ONE)
    run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"done": 1}
    lost, answered = rows(runtime, "attempts")
    assert (lost.state, lost.outcome, lost.cost_nusd) == ("unknown", "unknown_outcome", lost.reserved_nusd)
    assert answered.state == "settled"
    assert spent(runtime) == lost.reserved_nusd + answered.cost_nusd >= bill_nusd(vendor_server)


def test_a_hanging_server_holds_no_item_for_ever(tmp_path: Path, vendor_server: VendorServer) -> None:
    runtime = make_runtime(tmp_path / "home", vendor_server, call_timeout_s=0.3)
    vendor_server.add_fault(connection="hang", times=1)
    job = make_job(runtime, ONE)
    run(runtime, job.id)
    assert [row.state for row in rows(runtime, "attempts")] == ["unknown", "settled"]
    assert item_statuses(runtime, job.id) == {"done": 1}


def test_a_fault_that_stays_ends_the_item_after_the_allowed_attempts(
    tmp_path: Path, vendor_server: VendorServer
) -> None:
    runtime = make_runtime(tmp_path / "home", vendor_server, max_attempts=2)
    vendor_server.add_fault(status=500, headers={"retry-after-ms": "1"}, times=None)
    job = make_job(runtime, ONE)
    assert run(runtime, job.id) is Ending.IDLE
    [item] = rows(runtime, "items")
    assert (item.status, item.error_class) == ("failed", "transient")
    assert len(vendor_server.bill) == 2
    assert job_of(runtime, job.id).state is JobState.DONE


def test_a_broken_answer_is_repaired_once_with_the_reason_shown(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    vendor_server.add_fault(text='{"label": 7}', times=1)
    job = make_job(runtime, ONE)
    run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"done": 1}
    assert [(row.purpose, row.outcome) for row in rows(runtime, "attempts")] == [
        ("answer", "invalid_output"),
        ("repair", "ok"),
    ]
    assert spent(runtime) == bill_nusd(vendor_server), "the broken answer was paid for too"


def test_what_stays_broken_is_a_dead_letter_that_retry_brings_back(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    vendor_server.add_fault(text="no JSON at all", times=2)
    job = make_job(runtime, ONE)
    run(runtime, job.id)
    [item] = rows(runtime, "items")
    assert (item.status, item.error_class) == ("failed", "invalid_output")
    with runtime.store.write() as connection:
        assert retry_failed(connection, job.id, "refused", job.tier) == 0
        assert retry_failed(connection, job.id, "invalid_output", job.tier) == 1
        assert set_state(connection, job.id, JobState.RUNNING, runtime.store.now(connection))
    run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"done": 1}


def test_duplicates_of_a_failed_document_fail_with_it(runtime: Runtime, vendor_server: VendorServer) -> None:
    vendor_server.add_fault(finish="refused", times=None)
    job = make_job(runtime, {"a": "same", "b": "same", "c": "same"})
    run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"failed": 3}
    assert {row.error_class for row in rows(runtime, "items")} == {"refused"}
    assert len(vendor_server.bill) == 1


@pytest.mark.parametrize(
    ("fault", "why"), [({"finish": "refused"}, "refused"), ({"text": "?"}, "invalid_output")]
)
def test_an_item_climbs_the_ladder(
    runtime: Runtime, vendor_server: VendorServer, fault: dict[str, Any], why: str
) -> None:
    vendor_server.add_fault(times=None, model=runtime.catalog.tier("economy")[0].id, **fault)
    job = make_job(runtime, ONE, model=None, ladder=("economy", "standard"))
    run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"done": 1}
    made = rows(runtime, "attempts")
    assert made[0].outcome == why
    assert (made[-1].tier, made[-1].purpose, made[-1].outcome) == ("standard", "escalation", "ok")
    assert rows(runtime, "results")[0].tier == "standard"


def test_a_truncated_answer_gets_a_larger_output_limit(runtime: Runtime, vendor_server: VendorServer) -> None:
    vendor_server.add_fault(finish="length", times=1)
    job = make_job(runtime, ONE)
    run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"done": 1}
    first, second = rows(runtime, "attempts")
    assert first.outcome == "truncated"
    assert second.reserved_nusd > first.reserved_nusd


def test_a_bad_key_stops_the_lane_and_not_the_items(runtime: Runtime, vendor_server: VendorServer) -> None:
    vendor_server.add_fault(status=401, times=None)
    job = make_job(runtime, {f"d{number}": f"text {number}" for number in range(500)})
    run(runtime, job.id)
    stopped = job_of(runtime, job.id)
    assert stopped.state is JobState.PAUSED
    assert stopped.reason is not None
    assert "openai" in stopped.reason
    assert item_statuses(runtime, job.id) == {"pending": 500}
    assert len(vendor_server.bill) < 120
    assert reserved(runtime) == spent(runtime) == 0


def test_the_same_request_error_three_times_stops_the_lane(
    tmp_path: Path, vendor_server: VendorServer
) -> None:
    runtime = make_runtime(tmp_path / "home", vendor_server, concurrency=1, chunk_items=1)
    vendor_server.add_fault(status=400, times=None)
    job = make_job(runtime, TEXTS)
    run(runtime, job.id)
    assert job_of(runtime, job.id).state is JobState.PAUSED
    assert item_statuses(runtime, job.id) == {"failed": 2, "pending": 10}
    assert len(vendor_server.bill) == 3


def test_a_long_document_is_read_in_parts_and_merged(tmp_path: Path, vendor_server: VendorServer) -> None:
    runtime = make_runtime(tmp_path / "home", vendor_server)
    model = runtime.catalog.models[MODEL]
    runtime.catalog.models[MODEL] = replace(model, practical_context=700)
    text = "\n\n".join(
        f"Paragraph {number} of a long report on rivers and their fish." for number in range(120)
    )
    job = make_job(runtime, {"long.txt": text})
    run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"done": 1}
    made = rows(runtime, "attempts")
    parts = {row.part for row in made if row.part}
    assert len(parts) >= 3
    assert made[-1].part == 0
    assert len(rows(runtime, "results")) == len(made)
    assert spent(runtime) == bill_nusd(vendor_server)
    again = make_job(runtime, {"long.txt": text})
    run(runtime, again.id)
    assert len(vendor_server.bill) == len(made), "nothing is paid for twice"


def test_parts_that_were_answered_are_kept_when_another_part_fails(
    tmp_path: Path, vendor_server: VendorServer
) -> None:
    runtime = make_runtime(tmp_path / "home", vendor_server, max_attempts=1)
    runtime.catalog.models[MODEL] = replace(runtime.catalog.models[MODEL], practical_context=700)
    text = "\n\n".join(
        f"Paragraph {number} of a long report on rivers and their fish." for number in range(120)
    )
    vendor_server.add_fault(status=400, times=1, contains="Paragraph 119 of")
    job = make_job(runtime, {"long.txt": text})
    run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"failed": 1}
    kept = len(rows(runtime, "results"))
    calls = len(vendor_server.bill)
    assert kept >= 1
    with runtime.store.write() as connection:
        retry_failed(connection, job.id, None, job.tier)
        set_state(connection, job.id, JobState.RUNNING, runtime.store.now(connection))
    run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"done": 1}
    parts = max(row.part for row in rows(runtime, "attempts"))
    assert len(vendor_server.bill) - calls == parts - kept + 1


def test_a_document_that_the_vendor_finds_too_long_is_split(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    vendor_server.configure(context=700)
    text = "\n\n".join(
        f"Paragraph {number} of a long report on rivers and their fish." for number in range(60)
    )
    job = make_job(runtime, {"long.txt": text})
    run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"done": 1}
    assert rows(runtime, "attempts")[0].outcome == "too_long"
    assert spent(runtime) == bill_nusd(vendor_server)


def test_a_task_that_does_not_merge_rejects_a_long_document_with_the_reason(
    tmp_path: Path, vendor_server: VendorServer
) -> None:
    runtime = make_runtime(tmp_path / "home", vendor_server)
    runtime.catalog.models[MODEL] = replace(runtime.catalog.models[MODEL], practical_context=700)
    job = make_job(runtime, {"long.txt": "word " * 5000}, task=replace(TASK, long_documents="reject"))
    run(runtime, job.id)
    [item] = rows(runtime, "items")
    assert (item.status, item.error_class) == ("failed", "too_long")
    assert "too long" in item.error
    assert vendor_server.bill == []
