"""A process that stood still while its calls were marked: none leaves, and none is held against anybody."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from batcher.budget.spend import View, read_spend, spend_of_job
from batcher.engine.control import Ending
from batcher.engine.marks import Mark
from batcher.engine.reclaiming import reclaim_lost
from tests.support.runs import MODEL, item_statuses, make_job, make_runtime, reserved, rows, spent
from tests.support.vendor_server import VendorServer

LEASE_S = 6.0
DOCUMENTS = 12
"""More than the eight failures in a row that open a circuit for 15 seconds."""


def test_calls_held_back_after_a_long_sleep_open_no_circuit_and_keep_no_permit(
    tmp_path: Path, vendor_server: VendorServer
) -> None:
    runtime = make_runtime(tmp_path / "home", vendor_server, lease_s=1, chunk_items=DOCUMENTS)
    runtime.settings.models[MODEL].rpd = DOCUMENTS
    job = make_job(runtime, {f"d{number}": f"text {number}" for number in range(DOCUMENTS)})
    slept: list[bool] = []

    async def main() -> Ending:
        engine = runtime.engine()
        mark = engine._writer.mark

        async def mark_and_sleep(asked: Mark) -> None:
            await mark(asked)
            if not slept:
                slept.append(True)
                time.sleep(1.1)  # noqa: ASYNC251 - the whole process stands still
                assert reclaim_lost(runtime.store, runtime.ledger) == 1

        engine._writer.mark = mark_and_sleep  # type: ignore[method-assign]
        try:
            async with asyncio.timeout(12):
                return await engine.run([job.id])
        finally:
            await runtime.aclose()

    assert asyncio.run(main()) is Ending.IDLE
    outcomes = [row.outcome for row in rows(runtime, "attempts")]
    assert outcomes == ["not_sent"] * DOCUMENTS + ["ok"] * DOCUMENTS
    assert item_statuses(runtime, job.id) == {"done": DOCUMENTS}
    assert len(vendor_server.bill) == DOCUMENTS
    assert spent(runtime) == sum(row.cost_nusd for row in rows(runtime, "attempts") if row.outcome == "ok")
    assert reserved(runtime) == 0
    with runtime.store.read() as connection:
        assert spend_of_job(connection, job.id).calls == DOCUMENTS, "what was held back is no call"
        assert [row.calls for row in read_spend(connection, View.MODEL)] == [DOCUMENTS]


def test_a_lease_that_is_given_while_others_are_being_renewed_is_not_taken_for_lost(
    tmp_path: Path, vendor_server: VendorServer
) -> None:
    runtime = make_runtime(tmp_path / "home", vendor_server, lease_s=LEASE_S, chunk_items=DOCUMENTS)
    vendor_server.configure(latency_s=0.1)
    job = make_job(runtime, {f"d{number}": f"text {number}" for number in range(DOCUMENTS)})

    async def main() -> Ending:
        engine = runtime.engine()
        lease = engine._leaser.lease
        given: list[Any] = []

        def lease_slowly(*arguments: Any, **options: Any) -> Any:
            given.append(lease(*arguments, **options))
            if len(given) == 1:
                time.sleep(0.4 * LEASE_S)  # renewals are due after a third
            return given[-1]

        engine._leaser.lease = lease_slowly  # type: ignore[method-assign]
        try:
            async with asyncio.timeout(30):
                return await engine.run([job.id])
        finally:
            await runtime.aclose()

    assert asyncio.run(main()) is Ending.IDLE
    assert [row.outcome for row in rows(runtime, "attempts")] == ["ok"] * DOCUMENTS
