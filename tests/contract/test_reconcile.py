"""Reconciling after real runs, on SQLite and PostgreSQL: the ledger comes to the vendor's bill, exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from batcher.budget.comparison import Verdict
from batcher.budget.export_owner import choose_provider
from batcher.budget.reconcile import Reconciliation, compare, settle
from batcher.budget.vendor_export import read_export
from batcher.runtime import Runtime
from batcher.simulator.bill import BillLine
from tests.support.runs import bill_nusd, make_job, reserved, rows, run, spent
from tests.support.vendor_exports import AT_NOON, export_by_call, export_by_day
from tests.support.vendor_server import VendorServer

TEXTS = {f"doc-{number}": f"Document number {number}." for number in range(12)}


def reconcile(runtime: Runtime, file: Path, *, final: bool = True) -> tuple[Reconciliation, int]:
    """Compare and settle; what was found, and what came back."""
    export = read_export(file, {})
    with runtime.store.write() as connection:
        runtime.ledger.lock(connection)
        provider = choose_provider(connection, runtime.catalog, export, None)
        now = runtime.store.now(connection)
        found = compare(connection, runtime.catalog, export, provider, final=final, now=now)
        return found, settle(connection, runtime.ledger, found.proofs)


def states(runtime: Runtime) -> list[tuple[str, str]]:
    return sorted((row.state, row.outcome) for row in rows(runtime, "attempts") if row.outcome != "ok")


def assert_every_account_holds(runtime: Runtime, amount_nusd: int) -> None:
    for scope in ("day", "job:1", "provider:openai", "task:verdict", "tier:economy"):
        assert spent(runtime, scope) == amount_nusd, scope
    assert reserved(runtime) == 0


def run_with_lost_answers(runtime: Runtime, vendor: VendorServer, *, unbilled: int, billed: int) -> None:
    """A run in which so many calls go unanswered, some of them charged."""
    if unbilled:
        vendor.add_fault(connection="reset_before", billed=False, times=unbilled)
    if billed:
        vendor.add_fault(connection="reset_after", billed=True, skip=unbilled + 2, times=billed)
    job = make_job(runtime, TEXTS)
    run(runtime, job.id)
    with runtime.store.write() as connection:
        connection.execute(text(AT_NOON))
    lost = [row for row in rows(runtime, "attempts") if row.state == "unknown"]
    assert len(lost) == unbilled + billed
    assert spent(runtime) > bill_nusd(vendor)


@pytest.mark.parametrize("write", [export_by_day, export_by_call])
def test_calls_that_the_bill_does_not_have_cost_nothing(
    runtime: Runtime,
    vendor_server: VendorServer,
    tmp_path: Path,
    write: Callable[[list[BillLine], Path], Path],
) -> None:
    run_with_lost_answers(runtime, vendor_server, unbilled=3, billed=0)
    before = spent(runtime)
    file = write(vendor_server.bill, tmp_path / "export.csv")
    found, returned = reconcile(runtime, file)
    assert [row.verdict for row in found.rows] == [Verdict.LOWER]
    assert returned == before - bill_nusd(vendor_server) > 0
    assert_every_account_holds(runtime, bill_nusd(vendor_server))
    assert states(runtime) == [("settled", "unbilled")] * 3

    found, returned = reconcile(runtime, file)
    assert (found.findings, returned) == ((), 0)
    assert [row.verdict for row in found.rows] == [Verdict.EQUAL]
    assert_every_account_holds(runtime, bill_nusd(vendor_server))


@pytest.mark.parametrize("write", [export_by_day, export_by_call])
def test_a_single_call_that_the_bill_has_is_settled_with_its_tokens(
    runtime: Runtime,
    vendor_server: VendorServer,
    tmp_path: Path,
    write: Callable[[list[BillLine], Path], Path],
) -> None:
    run_with_lost_answers(runtime, vendor_server, unbilled=0, billed=1)
    found, _ = reconcile(runtime, write(vendor_server.bill, tmp_path / "export.csv"))
    [finding] = found.findings
    assert (finding.unknown, finding.reason) == (1, "")
    assert_every_account_holds(runtime, bill_nusd(vendor_server))
    assert states(runtime) == [("settled", "billed")]
    [call] = [row for row in rows(runtime, "attempts") if row.outcome == "billed"]
    assert call.input_tokens > 0
    assert call.cost_nusd == call.input_tokens * 150 + call.output_tokens * 600


@pytest.mark.parametrize("write", [export_by_day, export_by_call])
def test_which_of_several_were_billed_is_not_guessed(
    runtime: Runtime,
    vendor_server: VendorServer,
    tmp_path: Path,
    write: Callable[[list[BillLine], Path], Path],
) -> None:
    run_with_lost_answers(runtime, vendor_server, unbilled=2, billed=1)
    before = spent(runtime)
    found, returned = reconcile(runtime, write(vendor_server.bill, tmp_path / "export.csv"))
    assert returned == 0
    assert spent(runtime) == before
    assert "1 calls" in found.findings[0].reason


@pytest.mark.parametrize("write", [export_by_day, export_by_call])
def test_an_export_that_lacks_calls_returns_nothing(
    runtime: Runtime,
    vendor_server: VendorServer,
    tmp_path: Path,
    write: Callable[[list[BillLine], Path], Path],
) -> None:
    run_with_lost_answers(runtime, vendor_server, unbilled=3, billed=0)
    before = spent(runtime)
    bill = [line for line in vendor_server.bill if line.billed]
    found, returned = reconcile(runtime, write(bill[1:], tmp_path / "export.csv"))
    assert returned == 0
    assert "less than was answered" in found.findings[0].reason
    assert spent(runtime) == before


def test_an_export_of_a_day_that_is_not_over_returns_nothing_unless_it_is_final(
    runtime: Runtime, vendor_server: VendorServer, tmp_path: Path
) -> None:
    run_with_lost_answers(runtime, vendor_server, unbilled=1, billed=0)
    file = export_by_day(vendor_server.bill, tmp_path / "export.csv")
    found, returned = reconcile(runtime, file, final=False)
    assert returned == 0
    assert "is not over in UTC" in found.findings[0].reason
    assert reconcile(runtime, file, final=True)[1] > 0


def test_a_run_full_of_faults_never_ends_below_the_bill(
    runtime: Runtime, vendor_server: VendorServer, tmp_path: Path
) -> None:
    for number, kind in enumerate(("reset_before", "reset_after", "server_500", "not_json")):
        vendor_server.add_fault(kind=kind, skip=10 * number, every=3, times=3)
    job = make_job(runtime, {f"d{number}": f"Text number {number}" for number in range(60)})
    run(runtime, job.id)
    before = spent(runtime)
    for write in (export_by_call, export_by_day):
        _, returned = reconcile(runtime, write(vendor_server.bill, tmp_path / "export.csv"))
        assert before - returned == spent(runtime) >= bill_nusd(vendor_server)
        before = spent(runtime)
