"""A floor on real runs: the overnight case in short, and a move that two worker processes follow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from batcher.domain import JobState
from batcher.routing.state import Routing
from batcher.store.routing import set_routing
from batcher.store.tables import attempts, leases
from benchmarks.graded_models import GradedModels
from benchmarks.overnight_floor import CHEAP, CHEAP_ID, DEAR, DEAR_ID, Project, fooled
from tests.support.fleet import Fleet, new_fleet, wait_until
from tests.support.vendor_server import VendorProcess, VendorServer

SOON_S = 6.0
"""A move reaches a worker within two seconds; the rest is for a busy machine."""

TASK = """
from pydantic import BaseModel
from batcher.tasks import Task, scorers

class Answer(BaseModel):
    title: str
    tags: list[str]

task = Task(
    name="routed", version=1, prompt="Make a catalogue card.", output=Answer,
    scorer={"title": scorers.exact}, tier="premium", ladder=("economy", "premium"), max_output_tokens=200,
)
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, vendor: VendorProcess) -> Iterator[Fleet]:
    """Two worker processes on both tiers, four calls at a time each."""
    with new_fleet(tmp_path_factory.mktemp("fleet"), vendor.openai_url, on_postgres=True) as made:
        (made.folder / "routed").mkdir()
        (made.folder / "routed" / "task.py").write_text(TASK)
        made.worker("--tier", "economy", "--tier", "premium", "--beat")
        made.worker("--tier", "economy", "--tier", "premium")
        yield made


def test_two_workers_follow_a_move_within_seconds(fleet: Fleet, vendor: VendorProcess) -> None:
    vendor.configure(latency_s=0.4)
    fleet.table("moved", 300)
    words = ("submit", "moved.jsonl", "--task", "./routed", "--floor", "0.8", "--detach", "--json")
    job_id = int(fleet.batcher(*words).json["job_id"])
    wait_until(lambda: fleet.counts(job_id).get("done", 0) >= 30, 60)
    before = Routing.of(fleet.job(job_id))
    assert before is not None
    assert (before.model, before.queue) == ("gpt-4o", "economy")
    with fleet.store.write() as connection:
        moved_at = fleet.store.now(connection)
        # As proven, or a worker that looks at the job for the first time would take it back.
        moved = replace(before, model="gpt-4o-mini", tier="economy", proven=("gpt-4o-mini",))
        set_routing(connection, job_id, moved.to_json())
    wait_until(lambda: fleet.job(job_id).state is JobState.DONE, 150)
    query = select(attempts.c.model, attempts.c.tier, attempts.c.sent_at, attempts.c.purpose, leases.c.worker)
    query = query.join(leases, leases.c.id == attempts.c.lease_id).where(attempts.c.job_id == job_id)
    with fleet.store.read() as connection:
        calls = connection.execute(query).all()
    assert {(call.model, call.tier, call.purpose) for call in calls} == {
        ("gpt-4o", "premium", "answer"),
        ("gpt-4o-mini", "economy", "answer"),
    }
    late = [call for call in calls if call.sent_at > moved_at + SOON_S]
    assert {call.model for call in late} == {"gpt-4o-mini"}
    assert len({call.worker for call in calls if call.model == "gpt-4o-mini"}) == 2
    assert {call.model for call in calls if call.sent_at <= moved_at} == {"gpt-4o"}
    assert fleet.counts(job_id) == {"done": 300}


def test_the_overnight_case_in_short(tmp_path: Path, vendor_server: VendorServer) -> None:
    """With margins wide enough for a few hundred documents: 96 % against 90 %, floors of 80 and 95 %."""
    models = GradedModels({DEAR_ID: 0.98, CHEAP_ID: 0.9}, seed=7, answer_bytes=400)
    vendor_server.on_call(models.decide)
    project = Project(tmp_path, vendor_server, scale=10)
    first = project.evening(0.80, 0, 700, 500)
    assert first.model == CHEAP
    assert f"{CHEAP} does the work at about $" in first.routing["reason"]
    assert first.is_true, (first.routing["saved_usd"], first.due_usd)
    assert [move["model"] for move in first.routing["moves"]] == [DEAR, CHEAP]
    raised = project.evening(0.95, 10_000, 200, 100)
    assert raised.model == DEAR
    assert CHEAP not in raised.models
    assert f"{CHEAP} misses 95 %" in raised.routing["reason"] or DEAR in raised.routing["proven"]
    again = project.evening(0.80, 20_000, 100, 0)
    assert again.models == {CHEAP: 100}, "what was shown once counts for the next evening"


def test_a_model_that_grows_worse_is_left_and_told_of(tmp_path: Path, vendor_server: VendorServer) -> None:
    models = GradedModels({DEAR_ID: 0.98, CHEAP_ID: 0.95}, seed=3, drops={CHEAP_ID: (400, 0.2)})
    vendor_server.on_call(models.decide)
    project = Project(tmp_path, vendor_server, scale=10)
    assert project.evening(0.80, 0, 300, 250).model == CHEAP
    worse = project.evening(0.80, 10_000, 900, 900)
    assert worse.model == DEAR
    assert worse.routing["refuted"] == [CHEAP]
    listed = project.alerts()
    assert [(rule, scope) for rule, scope in listed if rule == "accuracy"] == [("accuracy", f"job:2/{CHEAP}")]


def test_the_benchmark_s_own_count_of_wrong_choices() -> None:
    assert fooled(0.8, 0.8, runs=60, answers=500, seed=1) <= 0.05
    assert fooled(0.8, 0.95, runs=5, answers=500, seed=1) == 1.0
    assert fooled(0.8, 0.6, runs=5, answers=300, seed=1) == 0.0
