"""Routing in the store, on both databases: what is known of models, what teaches, whole routed runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import insert, select, update

from batcher.budget.ledger import job_account
from batcher.domain import JobState, Purpose
from batcher.quality.golden import score_samples
from batcher.quality.sampling import Sampling
from batcher.routing.choice import Scored
from batcher.routing.evidence import MOST_JOBS, count_known, jobs_of_task, proven_before, read_scores
from batcher.routing.state import Candidate, Learning, Routing, Target
from batcher.runtime import Runtime
from batcher.simulator.faults import Fault
from batcher.simulator.requests import Call
from batcher.store.jobs import Job
from batcher.store.routing import (
    count_scored,
    lock_routing,
    next_known,
    next_unknown,
    routed_jobs,
    routing_of,
    set_routing,
)
from batcher.store.tables import alerts, items, jobs, samples
from batcher.tasks import Task, scorers
from batcher.tasks.golden import Golden, GoldenRow
from tests.support.runs import (
    JUDGE,
    MODEL,
    Verdict,
    item_statuses,
    job_of,
    make_job,
    reserved,
    rows,
    run,
    spent,
)
from tests.support.vendor_server import VendorServer

CHEAP, STATED = MODEL, JUDGE
CHEAP_ID, STATED_ID = "gpt-4o-mini-2024-07-18", "gpt-4o-2024-11-20"
TASK = Task(
    name="verdict",
    version=1,
    prompt="Say what the document is about.",
    output=Verdict,
    scorer={"label": scorers.exact},
    tier="premium",
    ladder=("economy", "premium"),
    floor=0.8,
    max_output_tokens=100,
)
TEXTS = {f"d{number:03}": f"text number {number:03}" for number in range(120)}
ROUTING = Routing(
    floor=0.8,
    queue="economy",
    base=Target(STATED, "premium"),
    model=STATED,
    tier="premium",
    reason="nothing is known",
    candidates=(Candidate(CHEAP, "economy", 1e5), Candidate(STATED, "premium", 1e6)),
)
LEARNING = replace(ROUTING, learning=Learning(CHEAP, "economy", known=True, share=0.0))


@pytest.fixture
def runtime_settings() -> dict[str, Any]:
    tiers = {"economy": [CHEAP], "premium": [STATED]}
    return {"tiers": tiers, "concurrency": 8, "chunk_items": 8}


@pytest.fixture(autouse=True)
def _task_is_known(runtime: Runtime) -> None:
    runtime.find_task = lambda _: TASK  # type: ignore[assignment]


def golden(count: int) -> Golden:
    """Known answers for the first documents: all are about rivers."""
    found = [
        GoldenRow(number, "", source, {"label": "river"})
        for number, source in enumerate(list(TEXTS)[:count], start=1)
    ]
    return Golden(Path("golden.jsonl"), tuple(found))


def answers(vendor: VendorServer, **right_every: int) -> None:
    """Let the models answer rightly, but for every so many-th document (by ``cheap`` and ``stated``)."""
    wrong = {CHEAP_ID: right_every.get("cheap", 0), STATED_ID: right_every.get("stated", 0)}

    def decide(call: Call) -> Fault:
        number, every = int(call.text.split("number ")[1][:3]), wrong[call.model]
        label = "bridge" if every and number % every == 0 else "river"
        return Fault(text=orjson.dumps({"label": label}).decode(), times=None)

    vendor.on_call(decide)


def make_routed(runtime: Runtime, routing: Routing, known: int, **job: Any) -> Job:
    made = make_job(
        runtime,
        TEXTS,
        task=TASK,
        model=None,
        tier="economy",
        ladder=("economy", "premium"),
        golden=golden(known),
        **job,
    )
    with runtime.store.write() as connection:
        set_routing(connection, made.id, routing.to_json())
    return job_of(runtime, made.id)


def routing_now(runtime: Runtime, job: Job) -> Routing:
    found = Routing.of(job_of(runtime, job.id))
    assert found is not None
    return found


def asked(runtime: Runtime, job: Job) -> Counter[str]:
    """How many calls of a job went to each model."""
    return Counter(row.model for row in rows(runtime, "attempts") if row.job_id == job.id)


def test_documents_with_a_known_answer_and_the_others(runtime: Runtime) -> None:
    job = make_routed(runtime, ROUTING, 30)
    with runtime.store.write() as connection:
        now = runtime.store.now(connection)
        known = next_known(connection, job.id, "economy", now, 100)
        unknown = next_unknown(connection, job.id, "economy", now, 200)
        assert [item.source for item in known] == list(TEXTS)[:30]
        assert [item.source for item in unknown] == list(TEXTS)[30:]
        assert next_known(connection, job.id, "premium", now, 100) == []
        assert len(next_unknown(connection, job.id, "economy", now, 7)) == 7


def test_routing_is_read_and_changed_by_job(runtime: Runtime) -> None:
    plain = make_job(runtime, {"x": "text number 999"})
    routed = make_routed(runtime, ROUTING, 0)
    with runtime.store.write() as connection:
        assert lock_routing(connection, plain.id) is None
        assert lock_routing(connection, routed.id) == ROUTING.to_json()
        assert routing_of(connection, [plain.id, routed.id]) == {routed.id: ROUTING.to_json()}
        assert routing_of(connection, []) == {}
        assert routed_jobs(connection, None) == [routed.id]
        assert routed_jobs(connection, [plain.id]) == []
        connection.execute(update(jobs).values(state="done"))
        assert routed_jobs(connection, None) == []
        assert routed_jobs(connection, [routed.id]) == [routed.id]


def test_each_document_counts_once_and_the_best_word_counts(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    answers(vendor_server, cheap=10)
    first = make_job(runtime, TEXTS, task=TASK, golden=golden(40))
    again = make_job(runtime, TEXTS, task=TASK, golden=golden(60))  # takes all answers over
    run(runtime, first.id, again.id)
    for job in (first, again):
        score_samples(runtime.store, job.id, TASK.score, 1.0)
    with runtime.store.write() as connection:
        of_task = jobs_of_task(connection, TASK.spec({}))
        assert of_task == [again.id, first.id]
        assert read_scores(connection, of_task) == {CHEAP: Scored(54, 60)}
        assert count_scored(connection, first.id) == 40
        ids = dict(
            connection.execute(select(items.c.source, items.c.id).where(items.c.job_id == first.id)).all()
        )
        said = [
            (ids["d001"], "judge:gpt-4o", False, 1.0),  # a known answer counts before a judge
            (ids["d002"], "person:ann", False, 2.0),  # and a person before that
            (ids["d100"], "judge:gpt-4o", False, 3.0),
            (ids["d101"], "judge:gpt-4o", True, 3.0),
        ]
        connection.execute(
            insert(samples),
            [
                {"item_id": item, "judged_by": by, "job_id": first.id, "expected": "null",
                 "score": 1.0 * right, "correct": right, "judged_at": at}
                for item, by, right, at in said
            ],
        )  # fmt: skip
        assert read_scores(connection, of_task) == {CHEAP: Scored(54, 62, by_judge=2)}


def test_the_jobs_of_judges_crowd_out_no_evidence_and_a_step_has_its_own(runtime: Runtime) -> None:
    job, step = (make_job(runtime, {}, task=TASK) for _ in range(2))
    for _ in range(MOST_JOBS):
        make_job(runtime, {}, task=TASK, purpose=Purpose.JUDGE, parent_id=job.id)
    of_step = replace(TASK.spec({}), name=f"{TASK.name}.extract", stage="extract")
    with runtime.store.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == step.id).values(spec=of_step.to_json()))
        assert jobs_of_task(connection, TASK.spec({})) == [job.id]
        assert jobs_of_task(connection, of_step) == [step.id]


def test_what_climbed_counts_for_the_model_that_it_started_on(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    def decide(call: Call) -> Fault:
        is_cheap = call.model == CHEAP_ID
        return Fault(text="no JSON" if is_cheap else '{"label": "river"}', times=None)

    vendor_server.on_call(decide)
    on_cheap = replace(ROUTING, model=CHEAP, tier="economy", proven=(CHEAP,))
    job = make_routed(runtime, on_cheap, 20)
    run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"done": 120}
    score_samples(runtime.store, job.id, TASK.score, 1.0)
    with runtime.store.read() as connection:
        assert read_scores(connection, [job.id]) == {CHEAP: Scored(20, 20)}
        assert count_known(connection, job.id) == {CHEAP: 20}
    purposes = {(row.model, row.purpose) for row in rows(runtime, "attempts")}
    assert purposes == {(CHEAP, "answer"), (CHEAP, "repair"), (STATED, "escalation")}


def test_a_failure_that_is_not_the_model_s_says_nothing_of_it(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    answers(vendor_server)
    job = make_job(runtime, TEXTS, task=TASK, golden=golden(20))
    run(runtime, job.id)
    score_samples(runtime.store, job.id, TASK.score, 1.0)
    with runtime.store.write() as connection:
        for source, why in (("d000", "overloaded"), ("d001", "refused")):
            lost = {"status": "failed", "error_class": why, "result_id": None}
            connection.execute(update(items).where(items.c.source == source).values(lost))
        assert read_scores(connection, [job.id]) == {CHEAP: Scored(19, 19)}


def test_what_was_proven_counts_for_a_lower_floor_until_it_is_refuted(runtime: Runtime) -> None:
    first = make_routed(runtime, replace(ROUTING, floor=0.85, proven=(CHEAP, STATED)), 0)
    second = make_routed(runtime, replace(ROUTING, floor=0.8, refuted=(CHEAP,)), 0)
    with runtime.store.read() as connection:
        assert proven_before(connection, [first.id], 0.8) == (CHEAP, STATED)
        assert proven_before(connection, [first.id], 0.9) == ()
        assert proven_before(connection, [first.id, second.id], 0.8) == (STATED,)
        assert proven_before(connection, [first.id, second.id], 0.7) == (CHEAP, STATED)


def test_known_documents_teach_and_the_lane_moves_down(runtime: Runtime, vendor_server: VendorServer) -> None:
    answers(vendor_server)
    vendor_server.configure(latency_s=0.2)
    job = make_routed(runtime, LEARNING, 60)
    run(runtime, job.id)
    runtime.floor_watch.keep_up([job.id], at_once=True)
    after = routing_now(runtime, job)
    assert (after.model, after.tier, after.proven, after.learning) == (CHEAP, "economy", (CHEAP,), None)
    assert after.reason.startswith(f"{CHEAP} does the work at about $")
    assert job_of(runtime, job.id).state is JobState.DONE
    assert item_statuses(runtime, job.id) == {"done": 120}
    known = {row.item_id for row in rows(runtime, "samples")}
    first = [row for row in rows(runtime, "attempts") if row.item_id in known][:20]
    assert {row.model for row in first} == {CHEAP}
    assert asked(runtime, job)[STATED] >= 1, "who states the work did it while nothing was known"
    assert spent(runtime) == spent(runtime, job_account(job.id).scope)
    assert reserved(runtime) == 0


def test_a_stated_model_below_the_floor_moves_up_and_tells(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    answers(vendor_server, cheap=2)
    stated = replace(ROUTING, base=Target(CHEAP, "economy"), model=CHEAP, tier="economy")
    job = make_routed(runtime, stated, 60)
    run(runtime, job.id)
    runtime.floor_watch.keep_up([job.id], at_once=True)
    after = routing_now(runtime, job)
    assert (after.model, after.refuted) == (STATED, (CHEAP,))
    assert f"because {CHEAP} misses 80 % (50 %" in after.reason
    with runtime.store.read() as connection:
        told = connection.execute(select(alerts.c.rule, alerts.c.scope, alerts.c.title)).all()
    assert [tuple(row)[:2] for row in told] == [("accuracy", f"job:{job.id}/{CHEAP}")]
    assert told[0].title == f"Job {job.id}: {CHEAP} is below the floor of 80 %, the lane moves to {STATED}"
    runtime.floor_watch.keep_up([job.id], at_once=True)
    assert routing_now(runtime, job) == after, "looked at again, nothing changes"


def test_a_second_look_at_an_old_routing_changes_nothing(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    """Two processes see the same reason; whoever comes second finds the row changed and lets it be."""
    answers(vendor_server)
    job = make_routed(runtime, ROUTING, 60)
    with runtime.store.write() as connection:
        moved = replace(ROUTING, reason="somebody else's")
        set_routing(connection, job.id, moved.to_json())
        # The row is read before, and changed after the look: as if another process came in between.
    watch = runtime.floor_watch
    watch._seen[job.id] = 0
    with runtime.store.write() as connection:
        watch._change(connection, job, ROUTING, replace(ROUTING, reason="mine"))
    assert routing_now(runtime, job).reason == "somebody else's"


def test_judged_documents_teach_no_more_than_the_share(runtime: Runtime, vendor_server: VendorServer) -> None:
    answers(vendor_server)
    sampling = Sampling(share=0.0, at_least=0, seed=1, judge=STATED, judge_own=True)
    learning = replace(LEARNING, learning=Learning(CHEAP, "economy", known=False, share=0.05))
    job = make_routed(runtime, learning, 0, sampling=sampling)

    def decide(call: Call) -> Fault:
        judges = "You check the work of another model" in call.raw.decode()
        verdict = {"reason": "x", "score": 1.0, "correct": True} if judges else {"label": "river"}
        return Fault(text=orjson.dumps(verdict).decode(), times=None)

    vendor_server.on_call(decide)
    run(runtime, job.id)
    assert 1 <= asked(runtime, job)[CHEAP] <= 6  # 5 % of 120
    drawn = {row.model: row.probability for row in rows(runtime, "sampled_items")}
    assert drawn == {CHEAP: 1.0}, "what the candidate answered is all looked at"
    with runtime.store.read() as connection:
        judged = read_scores(connection, [job.id])
    assert judged[CHEAP].by_judge == asked(runtime, job)[CHEAP]


def test_what_is_learned_on_known_documents_takes_nothing_of_the_share(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    answers(vendor_server)
    job = make_routed(runtime, LEARNING, 30)
    run(runtime, job.id)
    with runtime.store.read() as connection:
        now = runtime.store.now(connection)
        found = runtime.router.look(connection, job_of(runtime, job.id), LEARNING, now)
    assert found.is_sized
    assert found.learning is None, "nothing is left to learn on"
    candidates = {one.model: one.cost_nusd for one in found.candidates}
    assert candidates[CHEAP] < candidates[STATED]
