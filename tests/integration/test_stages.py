"""Staged jobs in processes of their own: killed at any moment, stopped by a cap, done by several workers."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from batcher.domain import JobState
from batcher.engine.submission import take_up
from batcher.runtime import Runtime
from batcher.settings import load_settings
from batcher.store.stages import steps_of
from batcher.store.tables import attempts, items
from tests.support.fast_models import TWO_TIERS
from tests.support.fleet import Fleet, new_fleet, wait_until
from tests.support.run_child import ended, start
from tests.support.runs import balances, item_statuses, job_of, make_runtime, rows
from tests.support.staged import TASK, documents, sources, staged_job, steps, write_table, write_task
from tests.support.vendor_server import VendorProcess, VendorServer

DOCUMENTS = 200
KILLS = 8
CONCURRENCY = 12


@pytest.fixture
def runtime(tmp_path: Path, vendor_server: VendorServer) -> Iterator[Runtime]:
    home = tmp_path / "home"
    make_runtime(home, vendor_server).store.close()
    (home / "batcher.toml").write_text(f"concurrency = {CONCURRENCY}\nchunk_items = 6\n{TWO_TIERS}")
    vendor_server.configure(latency_s=0.05)
    found = Runtime(load_settings(home / "batcher.toml", home=home, env_file=home / "keys.env"))
    yield found
    found.store.close()


def test_killed_at_random_moments_every_document_goes_through_every_step_once(
    runtime: Runtime, vendor_server: VendorServer, tmp_path: Path
) -> None:
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    job = staged_job(
        runtime, write_task(tmp_path / "staged"), write_table(tmp_path / "table.jsonl", DOCUMENTS)
    )
    killed_in_between = 0
    for kill in range(KILLS):
        child = start(tmp_path / "home", job.id)
        seen = len(vendor_server.bill)
        if kill == 0:
            wait_until(lambda: item_statuses(runtime, job.id).get("done", 0) > 0)
        else:
            vendor_server.wait_for_calls(seen + moments.randrange(1, 40))
            time.sleep(moments.uniform(0, 0.05))
        child.kill()
        child.join()
        counts = item_statuses(runtime, job.id)
        killed_in_between += 0 < counts.get("done", 0) < DOCUMENTS
        assert job_of(runtime, job.id).state is not JobState.DONE or counts == {"done": DOCUMENTS}
        if counts.get("done", 0) > DOCUMENTS - 50:
            break
    assert ended(tmp_path / "home", job.id) == "idle", f"seed {seed}"
    assert killed_in_between > 0, f"seed {seed}: no kill came while both steps were at work"
    extract, last = steps(runtime, job)
    assert (extract.state, last.state) == (JobState.DONE, JobState.DONE)
    assert documents(runtime, job) == {"done": DOCUMENTS}, f"seed {seed}"
    assert sources(runtime, extract.id) == sources(runtime, last.id)
    made = rows(runtime, "attempts")
    day = next(found for found in balances(runtime) if found.account.scope == "day")
    own = next(found for found in balances(runtime) if found.account.scope == f"job:{job.id}")
    assert day.spent_nusd == own.spent_nusd == sum(row.cost_nusd for row in made)
    assert day.reserved_nusd == 0
    answered = Counter(row.job_id for row in made if row.outcome == "ok")
    assert set(answered) == {extract.id, last.id}
    assert len(vendor_server.bill) - 2 * DOCUMENTS <= KILLS * 2 * CONCURRENCY


def test_stopped_by_its_cap_again_and_again_it_never_exceeds_it_and_asks_nothing_twice(
    runtime: Runtime, vendor_server: VendorServer, tmp_path: Path
) -> None:
    task, table = write_task(tmp_path / "staged"), write_table(tmp_path / "table.jsonl", 60)
    job = staged_job(runtime, task, table, max_cost_nusd=6_000_000)
    cap_nusd, stops = 6_000_000, 0
    while (ending := ended(tmp_path / "home", job.id)) == "budget":
        stops += 1
        stopped = job_of(runtime, job.id)
        assert stopped.state is JobState.PAUSED
        assert (stopped.reason or "").startswith("budget: cap of job")
        assert {step.state for step in steps(runtime, job)} <= {JobState.PAUSED, JobState.DONE}
        account = next(found for found in balances(runtime) if found.account.scope == f"job:{job.id}")
        assert account.spent_nusd <= cap_nusd
        assert account.reserved_nusd == 0
        assert stops < 60, stopped.reason
        cap_nusd += 12_000_000
        with runtime.store.write() as connection:
            runtime.ledger.set_job_cap(connection, job.id, cap_nusd)
        take_up(runtime.store, runtime.ledger, job.id, JobState.RUNNING)
    assert (ending, documents(runtime, job)) == ("idle", {"done": 60})
    assert stops >= 2
    assert len(vendor_server.bill) == 120


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, vendor: VendorProcess) -> Iterator[Fleet]:
    """A worker for each tier, four calls at a time; the schedule is one's."""
    with new_fleet(tmp_path_factory.mktemp("fleet"), vendor.openai_url, on_postgres=True) as made:
        write_task(made.folder / "staged", TASK)
        made.worker("--tier", "economy", "--beat")
        made.worker("--tier", "premium")
        yield made


def test_two_workers_of_one_tier_each_do_a_staged_job_side_by_side(
    fleet: Fleet, vendor: VendorProcess
) -> None:
    vendor.configure(latency_s=0.2)
    write_table(fleet.folder / "wide.jsonl", 120)
    words = ("submit", "wide.jsonl", "--task", "./staged", "--yes", "--json")
    told = fleet.batcher(*words).json
    assert (told["state"], told["done"], told["failed"], told["items"]) == ("done", 120, 0, 120)
    job_id = told["job_id"]
    assert [(stage["stage"], stage["items"]["done"]) for stage in told["stages"]] == [
        ("extract", 120),
        ("staged", 120),
    ]
    with fleet.store.read() as connection:
        extract, last = steps_of(connection, job_id)
        sent = {
            step.id: connection.execute(
                select(attempts.c.sent_at).where(attempts.c.job_id == step.id).order_by(attempts.c.sent_at)
            )
            .scalars()
            .all()
            for step in (extract, last)
        }
        own = select(items.c.source).where(items.c.job_id == last.id)
        assert len(set(connection.execute(own).scalars())) == 120
    assert [len(times) for times in sent.values()] == [120, 120], "nothing was asked twice"
    assert sent[last.id][0] < sent[extract.id][-1], "the steps overlapped"
    assert last.state is JobState.DONE
    wait_until(fleet.nothing_reserved_nor_unknown)


def test_pausing_and_resuming_reaches_the_workers_in_every_step(fleet: Fleet, vendor: VendorProcess) -> None:
    vendor.configure(latency_s=0.2)
    write_table(fleet.folder / "slow.jsonl", 80)
    words = ("submit", "slow.jsonl", "--task", "./staged", "--detach", "--json", "--param", "tone=terse")
    job_id = int(fleet.batcher(*words).json["job_id"])
    wait_until(lambda: fleet.done(job_id) > 2)
    fleet.batcher("pause", job_id)
    wait_until(fleet.nothing_reserved_nor_unknown)
    told = fleet.status(job_id)
    assert told["state"] == "paused"
    assert {stage["state"] for stage in told["stages"]} <= {"paused", "done"}
    assert told["total"] == 80
    assert told["items"]["done"] + told["items"]["pending"] == 80
    vendor.configure(latency_s=0.0)
    fleet.batcher("resume", job_id)
    assert fleet.status(job_id)["items"]["done"] == 80
    [row] = [row for row in fleet.batcher("jobs", "--json").json if row["job_id"] == job_id]
    assert (row["state"], row["items"]["done"], row["total"]) == ("done", 80, 80)
