"""Golden jobs and what is read out of them, on SQLite and PostgreSQL, with a loopback vendor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from batcher.domain import JobState, Purpose
from batcher.engine.golden_jobs import open_golden_job
from batcher.engine.submission import create_requested, finish_ingestion, sources_of
from batcher.planning.candidates import candidate_orders
from batcher.planning.history import read_history
from batcher.planning.known import KnownDocuments, read_known
from batcher.planning.order import Order, SubmitRequest, corpus_key
from batcher.quality.evaluation import Measurement, forget_scores, read_measurement
from batcher.quality.golden import accuracy, score_samples
from batcher.routing.evidence import read_scores
from batcher.runtime import Runtime
from batcher.store.jobs import Job, list_jobs, newest_job_id
from batcher.store.tables import items, jobs, samples
from tests.support.runs import (
    MODEL,
    bill_nusd,
    item_statuses,
    job_of,
    make_job,
    rows,
    run,
    spent,
)
from tests.support.vendor_server import VendorServer

MODEL_ID = "gpt-4o-mini-2024-07-18"
COUNT = 12

TASK_CODE = """
from pydantic import BaseModel, Field
from batcher.tasks import Task, scorers

class Verdict(BaseModel):
    label: str = Field(max_length=200)

task = Task(
    name="verdict", version=1, prompt="Say what the document is about.", output=Verdict,
    scorer={"label": scorers.exact}, tier="economy", max_output_tokens=100, long_documents="merge",
)
"""


@pytest.fixture(autouse=True)
def _about_rivers(vendor_server: VendorServer) -> None:
    vendor_server.configure(answers=[["number", '{"label": "river"}']])


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """Twelve texts about rivers, of which the golden file says that one is about bridges; and their task."""
    folder = tmp_path / "verdict"
    folder.mkdir()
    (folder / "task.py").write_text(TASK_CODE)
    lines = [
        {"id": str(n), "text": f"Text number {n}.", "label": "bridge" if n == 5 else "river"}
        for n in range(COUNT)
    ]
    path = tmp_path / "golden.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def order_for(runtime: Runtime, golden: Path, model: str = MODEL) -> Order:
    request = SubmitRequest(
        paths=(str(golden),), task=str(golden.parent / "verdict"), golden=golden, purpose=Purpose.GOLDEN
    )
    [order] = candidate_orders(request, [model], [], runtime.catalog, runtime.is_usable)
    return order


def known_to(order: Order) -> KnownDocuments:
    assert order.golden is not None
    return read_known(order.golden, [], sources_of(order).options(1_000_000))


def opened(runtime: Runtime, order: Order) -> Job:
    return open_golden_job(runtime.store, runtime.ledger, order, known_to(order), key=corpus_key(order))


def measured(runtime: Runtime, order: Order) -> Measurement:
    """Run a candidate's golden job, and read it."""
    job = opened(runtime, order)
    run(runtime, job.id)
    return read(runtime, order, job)


def read(runtime: Runtime, order: Order, job: Job) -> Measurement:
    with runtime.store.write() as connection:
        forget_scores(connection, job.id)
    score_samples(runtime.store, job.id, order.task.score, order.spec.correct_at)
    with runtime.store.read() as connection:
        return read_measurement(connection, job.id, order.model.name, order.tier, confidence=0.95)


def test_what_it_cost_and_how_often_it_was_right(
    runtime: Runtime, vendor_server: VendorServer, golden: Path
) -> None:
    vendor_server.add_fault(model=MODEL_ID, contains="number 3", text="no JSON", times=1)
    vendor_server.add_fault(model=MODEL_ID, contains="number 7", text="no JSON", times=None)
    found = measured(runtime, order_for(runtime, golden))
    # Wrong on the bridge; no answer to number 7, neither at first nor when repaired.
    assert (found.scored, found.correct, found.failed, found.waiting) == (COUNT, COUNT - 2, 1, 0)
    assert found.fields == {"label": pytest.approx((COUNT - 2) / COUNT)}
    assert found.valid_at_once is not None
    assert found.valid_at_once.share == pytest.approx((COUNT - 2) / COUNT)
    assert found.cost_nusd == bill_nusd(vendor_server) == spent(runtime) > 0
    assert len([time for one in found.outcomes for time in one.latencies_s]) == COUNT + 2
    assert {row.purpose for row in rows(runtime, "attempts")} == {"golden"}


def test_calls_of_unknown_outcome_stand_beside_the_cost_of_answers(
    runtime: Runtime, vendor_server: VendorServer, golden: Path
) -> None:
    """What a killed process may have paid for is no property of the model."""
    vendor_server.add_fault(model=MODEL_ID, contains="number 3", kind="reset_after", times=1)
    found = measured(runtime, order_for(runtime, golden))
    assert (found.scored, found.failed) == (COUNT, 0)
    [lost] = [row for row in rows(runtime, "attempts") if row.state == "unknown"]
    assert found.unknown_nusd == lost.cost_nusd > 0
    assert found.cost_nusd + found.unknown_nusd == spent(runtime)


def test_answers_of_a_submission_are_taken_over_with_their_cost(
    runtime: Runtime, vendor_server: VendorServer, golden: Path
) -> None:
    order = order_for(runtime, golden)
    vendor_server.add_fault(model=MODEL_ID, contains="number 3", text="no JSON", times=1)
    texts = {f"doc-{n}": f"Text number {n}." for n in range(6)}
    run(runtime, make_job(runtime, texts, task=order.task).id)
    found = measured(runtime, order)
    assert vendor_server.totals()["calls"] == COUNT + 1
    assert found.cost_nusd == bill_nusd(vendor_server)
    assert found.valid_at_once is not None
    assert found.valid_at_once.share == pytest.approx((COUNT - 1) / COUNT)


def test_other_models_calls_for_the_same_document_are_not_counted(
    runtime: Runtime, vendor_server: VendorServer, golden: Path
) -> None:
    """An item that climbed: the dearer model's answer is its own, what the cheaper one cost is not."""
    order = order_for(runtime, golden, "gpt-4.1-mini")
    vendor_server.add_fault(vendor="together", text="no JSON", times=None)
    vendor_server.add_fault(model=MODEL_ID, text="no JSON", times=None)
    texts = {"doc": "Text number 0."}
    job = make_job(runtime, texts, task=order.task, model=None, ladder=("economy", "standard"))
    run(runtime, job.id)
    [answer] = rows(runtime, "results")
    calls = vendor_server.totals()["calls"]
    assert calls > 1
    found = measured(runtime, order_for(runtime, golden, answer.model))
    assert vendor_server.totals()["calls"] == calls + COUNT - 1
    of_model = [row for row in rows(runtime, "attempts") if row.model == answer.model]
    assert found.cost_nusd == sum(row.cost_nusd for row in of_model)
    assert found.valid_at_once is not None
    assert found.valid_at_once.share == 1


def test_an_equal_request_is_the_same_job_and_asks_only_for_what_was_not_the_models_fault(
    runtime: Runtime, vendor_server: VendorServer, golden: Path
) -> None:
    order = order_for(runtime, golden)
    vendor_server.add_fault(model=MODEL_ID, contains="number 7", text="no JSON", times=None)
    vendor_server.add_fault(model=MODEL_ID, contains="number 8", finish="refused", times=None)
    first = measured(runtime, order)
    calls = vendor_server.totals()["calls"]
    assert first.failed == 2
    again = opened(runtime, order)
    assert (again.id, again.state) == (first.job_id, JobState.DONE)
    second = measured(runtime, order)
    assert vendor_server.totals()["calls"] == calls
    assert second == first


def test_a_network_that_failed_is_tried_again(runtime: Runtime, golden: Path) -> None:
    order = order_for(runtime, golden)
    first = measured(runtime, order)
    with runtime.store.write() as connection:
        connection.execute(
            update(items)
            .where(items.c.source.endswith("#7"))
            .values(status="failed", result_id=None, error_class="transient", error="reset")
        )
    assert read(runtime, order, job_of(runtime, first.job_id)).failed == 1
    assert opened(runtime, order).state is JobState.RUNNING
    second = measured(runtime, order)
    assert (second.job_id, second.failed, second.correct) == (first.job_id, 0, first.correct)


def test_a_corrected_answer_is_scored_anew_without_a_call(
    runtime: Runtime, vendor_server: VendorServer, golden: Path
) -> None:
    first = measured(runtime, order_for(runtime, golden))
    assert first.correct == COUNT - 1
    golden.write_text(golden.read_text().replace("bridge", "river"))
    second = measured(runtime, order_for(runtime, golden))
    assert second.job_id != first.job_id
    assert second.correct == COUNT
    assert vendor_server.totals()["calls"] == COUNT
    assert second.cost_nusd == first.cost_nusd
    with runtime.store.read() as connection:
        known = read_history(connection, order_for(runtime, golden).spec, runtime.catalog).accuracies[MODEL]
    # Each document once, by its latest score.
    assert (known.correct, known.scored) == (COUNT, COUNT)


def test_plans_know_what_golden_jobs_measured(
    runtime: Runtime, vendor_server: VendorServer, golden: Path
) -> None:
    vendor_server.add_fault(model=MODEL_ID, contains="number 7", text="no JSON", times=None)
    order = order_for(runtime, golden)
    measured(runtime, order)
    with runtime.store.read() as connection:
        history = read_history(connection, order.spec, runtime.catalog)
    known, calls = history.accuracies[MODEL], history.same_task[MODEL]
    assert (known.correct, known.scored) == (COUNT - 2, COUNT), "a failed one is wrong"
    assert (calls.asks, calls.first_calls) == (COUNT, COUNT)
    assert (calls.items, calls.climb_share) == (0, 0.0), "no document started there to be answered"
    assert calls.all_nusd == spent(runtime)


def test_repairs_of_measured_answers_are_measuring_and_plans_tell_them_from_first_calls(
    runtime: Runtime, vendor_server: VendorServer, golden: Path
) -> None:
    vendor_server.add_fault(model=MODEL_ID, contains="number 3", text="no JSON", times=1)
    order = order_for(runtime, golden)
    measured(runtime, order)
    made = rows(runtime, "attempts")
    assert [row.purpose for row in made] == ["golden"] * (COUNT + 1)
    with runtime.store.read() as connection:
        calls = read_history(connection, order.spec, runtime.catalog).same_task[MODEL]
    [first, repair] = [row for row in made if row.item_id == _repaired(made)]
    assert (first.outcome, repair.outcome) == ("invalid_output", "ok")
    assert (calls.asks, calls.first_calls) == (COUNT, COUNT)
    assert calls.all_nusd - calls.first_nusd == repair.cost_nusd > 0


def _repaired(made: list[Any]) -> int:
    return int(next(row.item_id for row in made if row.outcome == "invalid_output"))


def test_a_golden_job_that_was_half_read_is_read_again(runtime: Runtime, golden: Path) -> None:
    order = order_for(runtime, golden)
    job = create_requested(runtime.store, runtime.ledger, order, corpus_key(order), sources_of(order))
    finish_ingestion(runtime.store, job, None, max_file_bytes=1_000_000)
    assert item_statuses(runtime, job.id) == {"pending": COUNT}
    assert opened(runtime, order).id == job.id
    assert item_statuses(runtime, job.id) == {"pending": COUNT}
    found = measured(runtime, order)
    assert (found.job_id, found.scored) == (job.id, COUNT)


def test_a_job_that_waits_is_not_scored_yet(runtime: Runtime, golden: Path) -> None:
    order = order_for(runtime, golden)
    job = opened(runtime, order)
    found = read(runtime, order, job)
    assert (found.scored, found.waiting, found.accuracy) == (0, COUNT, None)


def test_judging_stands_beside_the_cost_of_answers(runtime: Runtime, golden: Path) -> None:
    order = order_for(runtime, golden)
    first = measured(runtime, order)
    judging = make_job(runtime, {"j": "judge number 1"}, purpose=Purpose.JUDGE, parent_id=first.job_id)
    run(runtime, judging.id)
    paid = sum(row.cost_nusd for row in rows(runtime, "attempts") if row.job_id == judging.id)
    second = read(runtime, order, job_of(runtime, first.job_id))
    assert second.judging_nusd == paid > 0
    assert (second.cost_nusd, second.per_document_nusd) == (first.cost_nusd, first.per_document_nusd)


def test_a_verdict_that_two_models_share_counts_for_both(
    runtime: Runtime, vendor_server: VendorServer, golden: Path
) -> None:
    """Whichever job asked first has paid for it; neither model is charged with what the other one used."""
    found = [measured(runtime, order_for(runtime, golden, model)) for model in (MODEL, "gpt-4.1-mini")]
    for one in found:
        judging = make_job(runtime, {"j": "judge number 1"}, purpose=Purpose.JUDGE, parent_id=one.job_id)
        run(runtime, judging.id)
    [paid] = [row.cost_nusd for row in rows(runtime, "attempts") if row.purpose == "judge"]
    with runtime.store.read() as connection:
        again = [
            read_measurement(connection, one.job_id, one.model, one.tier, confidence=0.95) for one in found
        ]
    assert [one.judging_nusd for one in again] == [paid, paid]
    assert spent(runtime) == paid + sum(one.cost_nusd for one in again), "the bill has it once"


def test_the_newest_job_is_one_that_was_submitted(runtime: Runtime, golden: Path) -> None:
    golden_job = opened(runtime, order_for(runtime, golden))
    with runtime.store.read() as connection:
        assert newest_job_id(connection) == golden_job.id
    submitted = make_job(runtime, {"a": "text"})
    order = order_for(runtime, golden, "gpt-4.1-mini")
    opened(runtime, order)
    with runtime.store.read() as connection:
        assert newest_job_id(connection) == submitted.id
        assert [job.purpose for job in list_jobs(connection)] == [
            Purpose.GOLDEN,
            Purpose.ANSWER,
            Purpose.GOLDEN,
        ]


def test_a_golden_job_that_is_judged_in_part_fools_nobody(runtime: Runtime, golden: Path) -> None:
    """A verdict is shared by models that gave the same answer: what is judged first is mostly right."""
    found = measured(runtime, order_for(runtime, golden))
    job_id, spec = found.job_id, order_for(runtime, golden).spec
    with runtime.store.write() as connection:
        right = samples.c.correct.is_(True)
        lacking = select(samples.c.item_id).where(samples.c.job_id == job_id, right).limit(8)
        told = select(jobs.c.spec).where(jobs.c.id == job_id)
        as_judged = json.dumps(json.loads(connection.execute(told).scalar_one()) | {"judged": True})
        unscored = {"score": None, "correct": None}
        connection.execute(update(samples).where(samples.c.item_id.in_(lacking)).values(unscored))
        assert read_scores(connection, [job_id])[MODEL].scored == COUNT - 8, "scored soon, and a fair sample"
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(spec=as_judged))
        again = read_measurement(connection, job_id, found.model, found.tier, confidence=0.95)
        assert (again.scored, again.unjudged, again.accuracy) == (COUNT - 8, 8, None)
        assert read_scores(connection, [job_id]) == {}
        assert accuracy(connection, job_id) is None
        assert MODEL not in read_history(connection, spec, runtime.catalog).accuracies
