"""Runs under caps: a runtime with two vendors, setting caps, and what a document reserves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sqlalchemy import update

from batcher.domain import JobState
from batcher.engine.lane import Lane, LaneFactory
from batcher.runtime import Runtime
from batcher.store.leases import smallest_items
from batcher.store.tables import items, jobs
from tests.support.runs import MODEL, make_job, make_runtime
from tests.support.vendor_server import VendorServer


def capped_runtime(home: Path, vendor: VendorServer) -> Runtime:
    """Tier economy at openai, tier premium at together, eight calls at once."""
    runtime = make_runtime(home, vendor, concurrency=8, chunk_items=8)
    known = runtime.catalog.models[MODEL]
    limits = replace(known.limits, rpm=None, tpm=None)
    for name, provider in (("at-openai", "openai"), ("at-together", "together")):
        model = replace(known, name=name, id=name, provider=provider, limits=limits)
        runtime.catalog.models[name] = model
    runtime.catalog.tiers.update({"economy": ("at-openai",), "premium": ("at-together",)})
    return runtime


def cap(runtime: Runtime, scope: str, cap_nusd: int | None) -> None:
    with runtime.store.write() as connection:
        runtime.ledger.lock(connection)
        runtime.ledger.set_cap(connection, scope, cap_nusd)


def put_on(runtime: Runtime, tier: str, *sources: str) -> None:
    with runtime.store.write() as connection:
        connection.execute(update(items).where(items.c.source.in_(sources)).values(tier=tier))


def lanes(runtime: Runtime) -> LaneFactory:
    return LaneFactory(
        runtime.catalog, runtime.provider, runtime.account, runtime.is_usable, runtime.find_task, timeout_s=5
    )


def cheapest_nusd(runtime: Runtime, lane: Lane) -> int:
    """The least that could be reserved for what is pending on a lane."""
    with runtime.store.write() as connection:
        found = smallest_items(connection, lane.job.id, lane.tier, 1e12)
    return min(lane.first.item_reservation_nusd(item) for item in found)


def reservation_nusd(runtime: Runtime, text: str) -> int:
    """What is reserved for one document of this text."""
    job = make_job(runtime, {"probe": text}, model=None, ladder=("economy", "premium"))
    lane = lanes(runtime).lane(job, "economy")
    needed_nusd = cheapest_nusd(runtime, lane)
    with runtime.store.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(state=JobState.CANCELLED.value))
    return needed_nusd
