"""Drawn answers and their judges, on both databases: whole runs against the loopback vendor."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import orjson
import pytest
from sqlalchemy import update

from batcher.alerts.book import Rule, list_alerts
from batcher.budget.ledger import job_account
from batcher.dispatch.maintenance import maintain
from batcher.domain import JobState, Purpose
from batcher.engine.children import cancel_children, pause_children, resume_children
from batcher.engine.judging import Judging
from batcher.planning.judges import Judges
from batcher.quality.sampling import Sampling, uniform
from batcher.runtime import Runtime
from batcher.store.jobs import Job
from batcher.store.judging import children_of
from batcher.store.tables import items, jobs
from batcher.store.turns import next_chance_at
from batcher.tasks import Task, scorers
from batcher.tasks.golden import Golden, GoldenRow
from tests.support.runs import (
    JUDGE,
    TASK,
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

SEED = 20261120
RIGHT = orjson.dumps({"reason": "It says what the document says.", "score": 1.0, "correct": True}).decode()
WRONG = orjson.dumps({"reason": "The label is another one.", "score": 0.25, "correct": False}).decode()
TEXTS = {f"d{number:02}": f"text number {number}" for number in range(40)}


@pytest.fixture(autouse=True)
def _judged_right(vendor_server: VendorServer) -> None:
    vendor_server.configure(answers=[("You check the work of another model", RIGHT)])


def sampling(share: float = 0.0, at_least: int = 0, judge: str | None = None) -> Sampling:
    return Sampling(share=share, at_least=at_least, seed=SEED, judge=judge)


def children(runtime: Runtime, job: Job) -> list[Job]:
    with runtime.store.read() as connection:
        return children_of(connection, job.id)


def test_an_answer_is_drawn_if_its_lot_is_below_the_probability(runtime: Runtime) -> None:
    job = make_job(runtime, TEXTS, sampling=sampling(share=0.3))
    run(runtime, job.id)
    lots = {row.id: uniform(SEED, job.id, row.result_key) for row in rows(runtime, "items")}
    drawn = rows(runtime, "sampled_items")
    assert {row.item_id for row in drawn} == {item for item, lot in lots.items() if lot < 0.3}
    assert {(row.job_id, row.tier, row.model, row.probability) for row in drawn} == {
        (job.id, "economy", "gpt-4o-mini", 0.3)
    }
    assert all(row.drawn_at > 0 for row in drawn)
    assert 0 < len(drawn) < 40


def test_the_first_answers_of_a_stratum_are_drawn_with_certainty_also_by_several_runs(
    runtime: Runtime,
) -> None:
    first = make_job(runtime, dict(list(TEXTS.items())[:6]), sampling=sampling(share=0.001, at_least=10))
    run(runtime, first.id)
    assert Counter(row.probability for row in rows(runtime, "sampled_items")) == {1.0: 6}
    from batcher.documents.corpus import Parsed, document_of_text
    from batcher.engine.ingestion import ingest
    from batcher.store.jobs import set_state

    with runtime.store.write() as connection:
        set_state(connection, first.id, JobState.RUNNING, runtime.store.now(connection))
    more = [Parsed(source, document_of_text(text)) for source, text in TEXTS.items()]
    ingest(runtime.store, job_of(runtime, first.id), more, image_tier=None)
    run(runtime, first.id)
    assert item_statuses(runtime, first.id) == {"done": 40}
    drawn = Counter(row.probability for row in rows(runtime, "sampled_items"))
    assert drawn[1.0] == 10, "another process went on counting where the first had stopped"


def test_nothing_is_drawn_from_answers_that_were_there_nor_where_the_share_is_zero(runtime: Runtime) -> None:
    run(runtime, make_job(runtime, TEXTS, sampling=sampling()).id)
    again = make_job(runtime, TEXTS, sampling=sampling(share=1.0))
    run(runtime, again.id)
    assert rows(runtime, "sampled_items") == []


def test_a_judge_says_of_every_drawn_answer_whether_it_is_right_and_the_parent_pays(
    runtime: Runtime,
) -> None:
    job = make_job(runtime, TEXTS, sampling=sampling(share=0.3, judge=JUDGE))
    run(runtime, job.id)
    drawn = {row.item_id for row in rows(runtime, "sampled_items")}
    verdicts = rows(runtime, "samples")
    assert {row.item_id for row in verdicts} == drawn
    assert {(row.judged_by, row.score, row.correct, row.expected, row.note) for row in verdicts} == {
        (f"judge:{JUDGE}", 1.0, True, "null", "It says what the document says.")
    }
    [child] = children(runtime, job)
    assert (child.state, child.purpose, child.pinned_model, child.task) == (
        JobState.DONE,
        Purpose.JUDGE,
        JUDGE,
        "verdict",
    )
    made = rows(runtime, "attempts")
    assert Counter(row.purpose for row in made) == {"answer": 40, "judge": len(drawn)}
    with runtime.store.read() as connection:
        [paid] = runtime.ledger.balances(connection, [job_account(job.id)])
    assert paid.spent_nusd == sum(row.cost_nusd for row in made) == spent(runtime)
    assert job_of(runtime, job.id).state is JobState.DONE
    assert reserved(runtime) == 0


def test_a_repair_of_a_verdict_is_judging(runtime: Runtime, vendor_server: VendorServer) -> None:
    vendor_server.add_fault(model="gpt-4o-2024-11-20", contains="text number 7", text="no JSON", times=1)
    job = make_job(runtime, TEXTS, sampling=sampling(share=1.0, judge=JUDGE))
    run(runtime, job.id)
    made = Counter(row.purpose for row in rows(runtime, "attempts"))
    assert made == {"answer": 40, "judge": 41}


def test_nobody_is_asked_twice_for_one_answer(runtime: Runtime) -> None:
    job = make_job(runtime, TEXTS, sampling=sampling(share=0.3, judge=JUDGE))
    run(runtime, job.id)
    asked = len(rows(runtime, "attempts"))
    assert not runtime.judging.keep_up([job.id], at_once=True)
    assert not runtime.judging.keep_up(None, at_once=True)
    run(runtime, job.id)
    assert len(rows(runtime, "attempts")) == asked


def test_a_model_does_not_judge_its_own_answers(runtime: Runtime) -> None:
    job = make_job(runtime, TEXTS, sampling=sampling(share=0.2, judge="gpt-4o-mini"))
    run(runtime, job.id)
    assert children(runtime, job) == []
    assert {(row.judged_by, row.score) for row in rows(runtime, "samples")} == {("judge:none", None)}


def test_unless_the_user_insists(runtime: Runtime) -> None:
    own = Sampling(share=0.2, at_least=0, seed=SEED, judge="gpt-4o-mini", judge_own=True)
    job = make_job(runtime, TEXTS, sampling=own)
    run(runtime, job.id)
    assert {row.correct for row in rows(runtime, "samples")} == {True}
    assert children(runtime, job)[0].tier == "economy"


def test_a_cap_stops_the_judge_and_leaves_the_answers_alone(runtime: Runtime) -> None:
    job = make_job(runtime, TEXTS, sampling=sampling(share=1.0, judge=JUDGE), max_cost_nusd=30_000_000)
    run(runtime, job.id)
    assert job_of(runtime, job.id).state is JobState.DONE
    assert item_statuses(runtime, job.id) == {"done": 40}
    [child] = children(runtime, job)
    assert child.state is JobState.PAUSED
    assert (child.reason or "").startswith("budget:")
    judged = [row for row in rows(runtime, "samples") if row.score is not None]
    waiting = item_statuses(runtime, child.id)["pending"]
    assert waiting
    assert len(judged) + waiting == 40
    with runtime.store.read() as connection:
        [paid] = runtime.ledger.balances(connection, [job_account(job.id)])
    assert paid.spent_nusd <= 30_000_000


def test_known_answers_are_not_judged_but_where_the_task_leaves_them_to_a_judge(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    known = {"d00": {"label": "rivers"}, "d01": {"label": "bridges"}}
    golden = Golden(Path("g"), [GoldenRow(1, "", name, answer) for name, answer in known.items()])
    plain = make_job(runtime, TEXTS, sampling=sampling(share=1.0, judge=JUDGE), golden=golden)
    run(runtime, plain.id)
    assert Counter(row.judged_by for row in rows(runtime, "samples")) == {f"judge:{JUDGE}": 38, "golden": 2}
    vendor_server.configure(answers=[("The right answer is given too", WRONG)])
    prose = Task(
        name="prose", version=1, prompt="Say it.", output=Verdict, scorer=scorers.judged(by=JUDGE),
        tier="economy", max_output_tokens=100, rubric="Names must be right.",
    )  # fmt: skip
    job = make_job(runtime, TEXTS, task=prose, sampling=sampling(judge=JUDGE), golden=golden)
    run(runtime, job.id)
    found = [row for row in rows(runtime, "samples") if row.job_id == job.id]
    assert {(row.judged_by, row.score, row.correct) for row in found} == {
        ("golden", 0.25, False),
        (f"judge:{JUDGE}", 0.25, False),
    }
    [child] = children(runtime, job)
    assert "Names must be right." in child.spec
    assert '\\"label\\": \\"rivers\\"' in _body(runtime, child)


def _body(runtime: Runtime, child: Job) -> str:
    from sqlalchemy import select

    from batcher.store.documents import text_of
    from batcher.store.tables import documents, items

    query = (
        select(documents.c.body)
        .join(items, items.c.document_hash == documents.c.hash)
        .where(items.c.job_id == child.id)
        .order_by(items.c.id)
    )
    with runtime.store.read() as connection:
        text = text_of(connection.execute(query).scalars().first() or b"")
    return orjson.dumps(text).decode()


def test_a_document_that_is_drawn_is_shown_to_the_judge_beside_its_answer(runtime: Runtime) -> None:
    job = make_job(runtime, {"d": "a </document> that tries to get out"}, sampling=sampling(1.0, judge=JUDGE))
    run(runtime, job.id)
    [child] = children(runtime, job)
    body = _body(runtime, child)
    answer = rows(runtime, "results")[0].output
    assert "a </document> that tries to get out" in body
    assert orjson.loads(answer)["label"] in body
    assert TASK.prompt in child.spec


def test_what_a_cap_stopped_goes_on_with_the_job(runtime: Runtime) -> None:
    job = make_job(runtime, TEXTS, sampling=sampling(share=1.0, judge=JUDGE), max_cost_nusd=30_000_000)
    run(runtime, job.id)
    with runtime.store.write() as connection:
        now = runtime.store.now(connection)
        runtime.ledger.set_job_cap(connection, job.id, None)
        [child] = children_of(connection, job.id)
        connection.execute(update(items).where(items.c.job_id == child.id).values(ready_at=now + 50_000))
        assert resume_children(connection, job.id, now, unless="paused by user") == [child.id]
        assert next_chance_at(connection, [child.id]) == 0, "what was put off is asked at once"
        connection.execute(update(items).where(items.c.job_id == child.id).values(ready_at=now + 50_000))
        assert resume_children(connection, job.id, now, unless="paused by user") == []
        assert next_chance_at(connection, [child.id]) == 0, "and so it is of a judge that runs"
    run(runtime, job.id)
    runtime.judging.keep_up([job.id], at_once=True)
    assert [row.score for row in rows(runtime, "samples")] == [1.0] * 40
    assert len(rows(runtime, "attempts")) == 80
    assert children(runtime, job)[0].state is JobState.DONE


def test_judges_pause_and_are_cancelled_with_the_job(runtime: Runtime) -> None:
    job = make_job(runtime, TEXTS, sampling=sampling(share=1.0, judge=JUDGE), max_cost_nusd=30_000_000)
    run(runtime, job.id)
    with runtime.store.write() as connection:
        now = runtime.store.now(connection)
        resume_children(connection, job.id, now, unless="paused by user")
        pause_children(connection, job.id, now, "paused by user")
        [child] = children_of(connection, job.id)
        assert child.reason == f"paused by user, with job {job.id}"
        assert resume_children(connection, job.id, now, unless="paused by user") == [child.id]
        cancel_children(connection, job.id, now)
        [child] = children_of(connection, job.id)
    assert child.state is JobState.CANCELLED
    assert item_statuses(runtime, child.id)["cancelled"] > 0
    assert not runtime.judging.keep_up([job.id], at_once=True)


def test_a_judge_without_a_key_is_told_once_a_day_and_says_why(runtime: Runtime) -> None:
    job = make_job(runtime, TEXTS, sampling=sampling(share=0.2))
    run(runtime, job.id)
    with runtime.store.write() as connection:
        asked = sampling(share=0.2, judge=JUDGE).to_json()
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(sampling=asked))
    drawn = len(rows(runtime, "sampled_items"))
    for _ in range(2):  # two processes
        judges = Judges(runtime.catalog, lambda model: model.name != JUDGE)
        judging = Judging(runtime.store, runtime.ledger, judges)
        assert not judging.keep_up(None, at_once=True)
    with runtime.store.read() as connection:
        state = judges.state_of(connection, job_of(runtime, job.id))
        [alert] = [stored.alert for stored in list_alerts(connection)]
    assert state is not None
    assert (state.judged, state.waiting, state.cannot_ask) == (0, drawn, True)
    assert "OPENAI_API_KEY" in (state.reason or "")
    assert (alert.rule, alert.scope) == (Rule.JOB_FAILED, f"job:{job.id}/judge")
    assert "OPENAI_API_KEY" in alert.body
    assert f"batcher resume {job.id}" in alert.body


def test_where_workers_do_the_work_the_schedule_asks_the_judge(runtime: Runtime) -> None:
    job = make_job(runtime, TEXTS, sampling=sampling(share=0.2))
    run(runtime, job.id)
    with runtime.store.write() as connection:
        asked = sampling(share=0.2, judge=JUDGE).to_json()
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(sampling=asked))
    assert runtime.judging.keep_up(None, at_once=True)
    assert maintain(runtime.store, runtime.ledger) == ["premium"]
    assert not runtime.judging.keep_up(None), "it was looked at a moment ago"
    [child] = children(runtime, job)
    run(runtime, child.id)
    runtime.judging.keep_up(None, at_once=True)
    assert {row.score for row in rows(runtime, "samples")} == {1.0}
