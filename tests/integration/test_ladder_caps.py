"""Learned ladders under caps: a document whose next step a cap refuses waits, and nothing else stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from batcher.budget.ledger import job_account
from batcher.cli.job_view import read_job_view
from batcher.domain import JobState, Purpose
from batcher.engine.control import Ending
from batcher.engine.marks import BudgetExhaustedError, Mark
from batcher.engine.shortages import Shortages
from batcher.engine.submission import take_up
from batcher.runtime import Runtime
from batcher.simulator.faults import Fault
from batcher.simulator.requests import Call
from batcher.store.jobs import Job
from batcher.store.ladders import answers_of_ladder
from tests.support.capped_runs import cap, lanes
from tests.support.ladders import checked_policy
from tests.support.runs import (
    TASK,
    balances,
    item_statuses,
    job_of,
    make_job,
    make_runtime,
    reserved,
    rows,
    run,
)
from tests.support.vendor_server import VendorServer

STEPS = ("gpt-4o-mini", "gpt-4.1-mini", "gpt-4o")
TEXTS = {f"d{n:02}": f"document {n}" for n in range(12)}
RIGHT = {name: STEPS[number % 3] for number, name in enumerate(TEXTS)}
"""Each third of the documents is for another step."""


def says(call: Call) -> Fault:
    """Any answer names its model."""
    return Fault(text=orjson.dumps({"label": call.model}).decode(), times=None)


def verifier(text: str, answer: dict[str, str]) -> bool:
    """Likes the answer of the step that a document is for; the others climb past it or have to."""
    return answer["label"].startswith(f"{STEPS[int(text.split()[1]) % 3]}-2")


@pytest.fixture
def runtime(
    tmp_path: Path, vendor_server: VendorServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Runtime]:
    tiers = {"economy": [STEPS[0]], "standard": [STEPS[1]], "premium": ["gpt-4.1", STEPS[2]]}
    made = make_runtime(tmp_path / "home", vendor_server, tiers=tiers, concurrency=8, chunk_items=4)
    task = replace(TASK, verifier=verifier)
    monkeypatch.setattr(made, "find_task", lambda _: task)
    vendor_server.on_call(says)
    yield made
    made.store.close()


def climbing(runtime: Runtime, cap_nusd: int | None = None) -> Job:
    policy = checked_policy(verifies=True, steps=STEPS)
    return make_job(runtime, TEXTS, policy=policy, model=None, max_cost_nusd=cap_nusd)


def given(runtime: Runtime) -> dict[str, str]:
    """Who answered what stands, by source."""
    by_id = {row.id: row.model for row in rows(runtime, "results")}
    return {row.source: by_id[row.result_id] for row in rows(runtime, "items") if row.status == "done"}


def calls(runtime: Runtime) -> Counter[tuple[int, str]]:
    return Counter((row.item_id, row.model) for row in rows(runtime, "attempts"))


def resume(runtime: Runtime, job: Job) -> Ending:
    take_up(runtime.store, runtime.ledger, job.id, JobState.RUNNING)
    return run(runtime, job.id)


def raise_cap(runtime: Runtime, job: Job, cap_nusd: int) -> None:
    with runtime.store.write() as connection:
        runtime.ledger.set_job_cap(connection, job.id, cap_nusd)


def test_a_capped_job_gives_what_the_uncapped_one_does_and_asks_nothing_twice(runtime: Runtime) -> None:
    cap_nusd = 700_000
    job = climbing(runtime, cap_nusd)
    ending, pauses = run(runtime, job.id), 0
    while ending is Ending.BUDGET:
        pauses += 1
        paused = job_of(runtime, job.id)
        assert paused.state is JobState.PAUSED
        assert given(runtime).items() <= RIGHT.items(), "what stands is what the ladder lets stand"
        assert item_statuses(runtime, job.id).keys() <= {"done", "pending"}
        [account] = [one for one in balances(runtime) if one.account.scope == f"job:{job.id}"]
        assert account.reserved_nusd == 0
        assert account.spent_nusd <= cap_nusd
        reason = paused.reason or ""
        assert reason.startswith(f"budget: cap of job {job.id} $")
        assert "Other jobs" not in reason
        needed_usd = float(reason.rpartition("$")[2])
        assert account.spent_nusd + needed_usd * 1e9 > cap_nusd, "a call that fits is made"
        cap_nusd += 800_000
        raise_cap(runtime, job, cap_nusd)
        ending = resume(runtime, job)
    assert pauses > 2
    assert ending is Ending.IDLE
    assert given(runtime) == RIGHT
    assert set(calls(runtime).values()) == {1}
    assert len(calls(runtime)) == 4 * (1 + 2 + 3)
    with runtime.store.read() as connection:
        assert answers_of_ladder(connection, 1) == dict.fromkeys(STEPS, 4)
    assert read_job_view(runtime, job.id).stood_in == {}, "a dearer step stands in for nobody"
    assert reserved(runtime) == 0


def test_a_jobs_other_documents_go_on_while_a_tier_s_cap_stops_a_dearer_step(runtime: Runtime) -> None:
    cap(runtime, "tier:standard", 0)
    job = climbing(runtime)
    assert run(runtime, job.id) is Ending.BUDGET
    assert set(given(runtime).values()) == {STEPS[0]}
    assert {model for _, model in calls(runtime)} == {STEPS[0]}, "no step is left out for want of money"
    assert item_statuses(runtime, job.id) == {"done": 4, "pending": 8}
    paused = job_of(runtime, job.id)
    assert (paused.reason or "").startswith("budget: cap of tier standard $0.00")
    assert paused.resume_at is not None
    cap(runtime, "tier:standard", None)
    assert resume(runtime, job) is Ending.IDLE
    assert given(runtime) == RIGHT
    assert set(calls(runtime).values()) == {1}


def test_room_that_comes_while_the_job_runs_is_used_at_once(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    """What is refused while other calls hold the rest goes on when they are in, in the same run."""
    vendor_server.configure(latency_s=0.2)
    job = climbing(runtime, 5_022_000 + 3_000_000)
    assert run(runtime, job.id) is Ending.IDLE
    assert given(runtime) == RIGHT
    assert set(calls(runtime).values()) == {1}


def test_a_judge_that_a_cap_refuses_is_asked_when_it_fits(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    def likes(call: Call) -> Fault:
        if "You check the work" in call.raw.decode():
            return Fault(text='{"reason": "so", "score": 1.0, "correct": true}', times=None)
        return says(call)

    vendor_server.on_call(likes)
    cap(runtime, "tier:premium", 0)
    policy = checked_policy(judge=STEPS[2], steps=STEPS[:2])
    job = make_job(runtime, TEXTS, policy=policy, model=None)
    for _ in range(2):
        assert run(runtime, job.id) is Ending.BUDGET
        assert item_statuses(runtime, job.id) == {"pending": 12}
        assert "cap of tier premium" in (job_of(runtime, job.id).reason or "")
        take_up(runtime.store, runtime.ledger, job.id, JobState.RUNNING)
    cap(runtime, "tier:premium", None)
    assert run(runtime, job.id) is Ending.IDLE
    assert set(given(runtime).values()) == {STEPS[0]}
    assert set(calls(runtime).values()) == {1}


def test_a_last_step_whose_account_is_refused_stops_the_job_and_lets_nothing_stand(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    def locked_out(call: Call) -> Fault:
        if call.model.startswith(f"{STEPS[2]}-2"):
            return Fault(status=401, body={"error": {"message": "no"}}, times=None)
        return says(call)

    vendor_server.on_call(locked_out)
    job = climbing(runtime)
    run(runtime, job.id)
    assert job_of(runtime, job.id).state is JobState.PAUSED
    assert (job_of(runtime, job.id).reason or "").startswith("openai: ")
    assert given(runtime).items() <= RIGHT.items()
    assert item_statuses(runtime, job.id).keys() <= {"done", "pending"}
    vendor_server.on_call(says)
    assert resume(runtime, job) is Ending.IDLE
    assert given(runtime) == RIGHT
    answered = Counter((row.item_id, row.model) for row in rows(runtime, "attempts") if row.cost_nusd)
    assert set(answered.values()) == {1}


def test_a_step_in_between_whose_account_is_refused_is_left_out(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    def locked_out(call: Call) -> Fault:
        if call.model.startswith(STEPS[1]):
            return Fault(status=401, body={"error": {"message": "no"}}, times=None)
        return says(call)

    vendor_server.on_call(locked_out)
    job = climbing(runtime)
    assert run(runtime, job.id) is Ending.IDLE
    assert item_statuses(runtime, job.id) == {"done": 12}
    assert {model for source, model in given(runtime).items() if RIGHT[source] == STEPS[2]} == {STEPS[2]}


def test_a_pause_says_what_is_so(runtime: Runtime) -> None:
    """A repair that was refused is put off; that there is room by now is no other job's doing."""
    job = make_job(runtime, TEXTS, model=STEPS[0], max_cost_nusd=1_000_000)
    with runtime.store.read() as connection:
        [balance] = runtime.ledger.balances(connection, [job_account(job.id)])
    shortages = Shortages(runtime.store, runtime.ledger)
    model = runtime.catalog.models[STEPS[0]]
    mark = Mark(
        *(1, 1, job.id, 1, Purpose.REPAIR, 0, "economy", model.name, model.provider),
        reserved_nusd=400_000,
        prices=model.prices,
    )
    shortages.refused(
        lanes(runtime).lane(job, "economy"),
        BudgetExhaustedError(mark, balance, 400_000, is_follow_up=True, may_pass=False),
    )
    told = "budget: cap of job 1 $0.001: $0.00 spent, {} reserved; the next call may cost $0.0004. {}"
    with runtime.store.write() as connection:
        reason, _ = shortages.pause(connection, job.id) or ("", None)
        assert reason == told.format("$0.00", "There is room for it by now: resume")
        runtime.ledger.reserve(connection, [job_account(job.id)], 700_000)
        reason, _ = shortages.pause(connection, job.id) or ("", None)
        assert reason == told.format(
            "$0.0007", "Other jobs hold what is reserved: resume when they have ended"
        )
