"""A job that checks samples of another one: its calls say what they are for, and the other's cap pays."""

from __future__ import annotations

from batcher.budget.ledger import job_account
from batcher.domain import JobState, Purpose
from batcher.runtime import Runtime
from tests.support.runs import bill_nusd, item_statuses, job_of, make_job, reserved, rows, run
from tests.support.vendor_server import VendorServer


def spent_by(runtime: Runtime, job_id: int) -> int:
    with runtime.store.read() as connection:
        found = runtime.ledger.balances(connection, [job_account(job_id)])
    return sum(balance.spent_nusd for balance in found)


def test_the_parents_run_does_it_and_the_parents_account_pays(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    parent = make_job(runtime, {"a": "first", "b": "second"})
    child = make_job(runtime, {"c": "to be judged"}, purpose=Purpose.JUDGE, parent_id=parent.id)
    run(runtime, parent.id)
    purposes = {(row.job_id, row.purpose) for row in rows(runtime, "attempts")}
    assert purposes == {(parent.id, "answer"), (child.id, "judge")}
    assert job_of(runtime, child.id).state is JobState.DONE
    assert spent_by(runtime, parent.id) == bill_nusd(vendor_server) > 0
    assert spent_by(runtime, child.id) == 0
    assert reserved(runtime) == 0


def test_it_stops_at_the_parents_cap(runtime: Runtime, vendor_server: VendorServer) -> None:
    parent = make_job(runtime, {"a": "first"}, max_cost_nusd=900_000)
    run(runtime, parent.id)
    room_nusd = 900_000 - spent_by(runtime, parent.id)
    child = make_job(
        runtime, {str(n): f"text {n}" for n in range(20)}, purpose=Purpose.JUDGE, parent_id=parent.id
    )
    run(runtime, child.id)
    assert spent_by(runtime, parent.id) == bill_nusd(vendor_server) <= 900_000
    assert item_statuses(runtime, child.id)["pending"] > 0
    assert job_of(runtime, child.id).state is JobState.PAUSED
    assert "job" in (job_of(runtime, child.id).reason or "")
    assert 0 < room_nusd < 900_000
    assert item_statuses(runtime, child.id)["done"] > 0


def test_golden_calls_are_no_escalations(runtime: Runtime, vendor_server: VendorServer) -> None:
    job = make_job(runtime, {"a": "known"}, purpose=Purpose.GOLDEN)
    run(runtime, job.id)
    assert [row.purpose for row in rows(runtime, "attempts")] == ["golden"]
