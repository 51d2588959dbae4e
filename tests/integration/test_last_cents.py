"""Near a cap: chunks shrink to what fits, the cheapest document goes last, and nothing spins."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from batcher.engine.control import Ending
from batcher.engine.leasing import Chunk, Leaser
from batcher.engine.reclaiming import reclaim_lost
from batcher.engine.shortages import Shortages
from batcher.runtime import Runtime
from batcher.store.jobs import get_job
from batcher.store.tables import items, leases
from tests.support.capped_runs import cap, capped_runtime, cheapest_nusd, lanes, reservation_nusd
from tests.support.runs import (
    TASK,
    balances,
    bill_nusd,
    item_statuses,
    job_of,
    make_job,
    reserved,
    rows,
    run,
)
from tests.support.vendor_server import VendorServer

DOLLAR = 1_000_000_000
TEXTS = {f"doc-{number}.txt": f"Document number {number} is about something." for number in range(12)}
MANY = {f"d{number}": f"text number {number}" for number in range(40)}


@pytest.fixture
def runtime(tmp_path: Path, vendor_server: VendorServer) -> Runtime:
    return capped_runtime(tmp_path / "home", vendor_server)


@pytest.mark.parametrize("seed", range(4))
def test_a_run_ends_when_what_is_left_is_below_the_smallest_pending_reservation(
    runtime: Runtime, vendor_server: VendorServer, seed: int
) -> None:
    """The cheap documents stand behind dozens of dear ones, and the last cents go to them."""
    draw = random.Random(seed)
    texts = {f"long{number}": "word " * draw.randrange(300, 900) for number in range(70)}
    texts |= {f"short{number}": "word " * draw.randrange(1, 60) for number in range(8)}
    job = make_job(runtime, texts, model=None)
    cap(runtime, "day", draw.randrange(1_000_000, 4_000_000))
    assert run(runtime, job.id) is Ending.BUDGET
    [day] = [found for found in balances(runtime) if found.account.scope == "day"]
    assert day.reserved_nusd == 0
    assert day.cap_nusd is not None
    assert day.spent_nusd == bill_nusd(vendor_server) <= day.cap_nusd
    least = cheapest_nusd(runtime, lanes(runtime).lane(job_of(runtime, job.id), "economy"))
    assert day.cap_nusd - day.spent_nusd < least
    done = Counter(row.source[:4] for row in rows(runtime, "items") if row.status == "done")
    assert done["shor"] > 0


def test_a_chunk_takes_what_fits_and_then_the_cheapest_item(runtime: Runtime) -> None:
    texts = {f"long{number}": f"{number} " + "word " * 400 for number in range(40)} | {"tiny": "x"}
    job = make_job(runtime, texts, model=None)
    lane = lanes(runtime).lane(job, "economy")
    leaser = Leaser(runtime.store, runtime.ledger, lanes(runtime), lease_s=60)
    least = cheapest_nusd(runtime, lane)
    cap(runtime, "day", least)
    chunk = leaser.lease(32, [job.id], None)
    assert isinstance(chunk, Chunk)
    assert [item.source for item in chunk.items] == ["tiny"]
    assert reserved(runtime) == 5 * least, "once on each of its accounts"
    short = leaser.lease(32, [job.id], None)
    assert short is not None
    assert not isinstance(short, Chunk)
    assert not short.may_pass
    assert leaser.lease(32, [job.id], None, thorough=False) == short


def test_looking_for_the_cheapest_again_finds_one_that_came_since(runtime: Runtime) -> None:
    job = make_job(runtime, {"long": "word " * 400}, model=None)
    leaser = Leaser(runtime.store, runtime.ledger, lanes(runtime), lease_s=60)
    cap(runtime, "day", reservation_nusd(runtime, "x") + 1)
    assert not isinstance(leaser.lease(8, [job.id], None), Chunk)
    with runtime.store.read() as connection:
        known = get_job(connection, job.id)
    other = make_job(runtime, {"tiny": "x"}, model=None)
    with runtime.store.write() as connection:
        connection.execute(update(items).where(items.c.job_id == other.id).values(job_id=known.id))
    assert not isinstance(leaser.lease(8, [job.id], None, thorough=False), Chunk), "it was just looked for"
    assert isinstance(leaser.lease(8, [job.id], None), Chunk)


def test_a_run_that_was_about_to_end_uses_what_another_gave_back_at_the_last_moment(
    runtime: Runtime, vendor_server: VendorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other worker's chunk held the cap when this run looked, and was gone when it asked who holds it."""
    job = make_job(runtime, {"first": "x", "second": "y"}, model=None)
    cap(runtime, "day", reservation_nusd(runtime, "x") + 1)
    other = Leaser(runtime.store, runtime.ledger, lanes(runtime), lease_s=60)
    held = other.lease(1, [job.id], None)
    assert isinstance(held, Chunk)
    may_pass = Shortages.may_pass

    def given_back_before_it_is_asked(shortages: Shortages) -> bool:
        with runtime.store.write() as connection:
            connection.execute(update(leases).where(leases.c.id == held.lease_id).values(expires_at=0.0))
        reclaim_lost(runtime.store, runtime.ledger)
        return may_pass(shortages)

    monkeypatch.setattr(Shortages, "may_pass", given_back_before_it_is_asked)
    run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"done": 1, "pending": 1}, "the second no longer fits"


def test_a_run_at_its_cap_does_not_spin(runtime: Runtime, vendor_server: VendorServer) -> None:
    """While one slow call is on its way and nothing else fits, the processor rests."""
    vendor_server.configure(latency_s=3.0)
    job = make_job(runtime, {f"d{number}": "word " * 300 for number in range(1)} | MANY, model=None)
    cap(runtime, "day", cheapest_nusd(runtime, lanes(runtime).lane(job, "economy")) + 10)
    asked: list[float] = []
    original = Leaser.lease

    def counted(self: Leaser, *arguments: Any, **options: Any) -> Any:
        asked.append(time.monotonic())
        return original(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Leaser, "lease", counted)
        assert run(runtime, job.id) is Ending.BUDGET
    assert len(asked) < 30
    assert TASK.name == job.task
