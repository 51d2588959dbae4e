"""Steps of a staged job on both databases: whole runs against the loopback vendor, races for hand-overs."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from batcher.budget.ledger import job_account
from batcher.budget.spend import View, read_spend
from batcher.domain import ItemStatus, JobState
from batcher.engine.control import Ending
from batcher.engine.reclaiming import resume_due
from batcher.engine.stages import PAGE, HandOver
from batcher.engine.submission import PAUSED_BY_USER, take_up
from batcher.export.lines import open_results
from batcher.quality.golden import accuracy, score_samples
from batcher.quality.review import read_item
from batcher.runtime import Runtime
from batcher.settings import load_settings
from batcher.store.database import Store
from batcher.store.job_items import cancel_pending, retry_failed
from batcher.store.jobs import Job, due_jobs, finish_if_complete, newest_job_id, set_pause_reason, set_state
from batcher.store.steps import HANDED_OVER, reopen_stages
from batcher.tasks.golden import load_golden
from batcher.tasks.registry import load_task
from tests.support.fast_models import TWO_TIERS
from tests.support.runs import balances, item_statuses, job_of, make_runtime, reserved, rows, run, spent
from tests.support.staged import (
    TASK,
    documents,
    items_of,
    output_of,
    sources,
    staged_job,
    steps,
    text_of,
    with_hand_over,
    without_hand_over,
    write_table,
    write_task,
)
from tests.support.vendor_server import VendorServer

DOCUMENTS = 30


@pytest.fixture
def runtime(tmp_path: Path, vendor_server: VendorServer, store_url: str) -> Iterator[Runtime]:
    made = make_runtime(tmp_path / "home", vendor_server, database_url=store_url)
    (tmp_path / "home" / "batcher.toml").write_text(TWO_TIERS)
    home = tmp_path / "home"
    found = Runtime(
        load_settings(home / "batcher.toml", home=home, env_file=home / "keys.env", database_url=store_url)
    )
    made.store.close()
    yield found
    found.store.close()


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return write_task(tmp_path / "staged")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "table.jsonl", DOCUMENTS)


def stage_only(runtime: Runtime, job: Job) -> int:
    """Run the first step alone; returns its job."""
    run(without_hand_over(runtime), job.id)
    with_hand_over(runtime)
    return steps(runtime, job)[0].id


def test_every_document_goes_through_both_steps_each_on_its_own_tier(
    runtime: Runtime, task: Path, table: Path
) -> None:
    job = staged_job(runtime, task, table)
    assert run(runtime, job.id) is Ending.IDLE
    extract, last = steps(runtime, job)
    assert (extract.state, last.state, last.id) == (JobState.DONE, JobState.DONE, job.id)
    assert (extract.step, last.step) == ("staged.extract", "staged")
    assert (extract.tier, last.tier) == ("economy", "premium")
    for step in (extract, last):
        assert item_statuses(runtime, step.id) == {"done": DOCUMENTS}
    assert sources(runtime, extract.id) == sources(runtime, last.id)
    made = Counter((row.job_id, row.model) for row in rows(runtime, "attempts"))
    assert made == {(extract.id, "gpt-4o-mini"): DOCUMENTS, (last.id, "gpt-4o"): DOCUMENTS}
    assert documents(runtime, job) == {"done": DOCUMENTS}
    assert reserved(runtime) == 0


def test_the_next_step_reads_the_answer_and_nothing_else(runtime: Runtime, task: Path, table: Path) -> None:
    job = staged_job(runtime, task, table)
    run(runtime, job.id)
    extract, last = steps(runtime, job)
    answers = {row.source: output_of(runtime, row) for row in items_of(runtime, extract.id)}
    for row in items_of(runtime, last.id):
        assert text_of(runtime, row.document_hash) == answers[row.source]
        assert json.loads(answers[row.source]).keys() == {"fact", "number"}


def test_or_the_document_beside_it_also_two_steps_on(runtime: Runtime, tmp_path: Path, table: Path) -> None:
    third = TASK.replace(
        "    ),\n    prompt",
        '        Stage(name="weigh", prompt="WEIGH it.", output=Verdict, hands_over="answer_and_document"),\n'
        "    ),\n    prompt",
    )
    job = staged_job(runtime, write_task(tmp_path / "three", third), table)
    run(runtime, job.id)
    _, weigh, last = steps(runtime, job)
    assert documents(runtime, job) == {"done": DOCUMENTS}
    answers = {row.source: output_of(runtime, row) for row in items_of(runtime, weigh.id)}
    for row in items_of(runtime, last.id):
        text = text_of(runtime, row.document_hash)
        number = row.source.rpartition("#")[2]
        assert answers[row.source] in text
        assert f"text number {int(number):04} of them" in text
        assert text.index(answers[row.source]) < text.index("text number")


def test_an_answer_is_handed_over_once_however_often_and_by_however_many(
    runtime: Runtime, task: Path, tmp_path: Path
) -> None:
    count = 2 * PAGE + 10
    job = staged_job(runtime, task, write_table(tmp_path / "many.jsonl", count))
    extract = stage_only(runtime, job)
    assert item_statuses(runtime, extract) == {"done": count}
    assert sources(runtime, job.id) == []
    moved: list[int] = []

    def pull() -> None:
        store = Store(runtime.settings.store_url())
        hand_over = HandOver(store, runtime.catalog, runtime.is_usable)
        while found := hand_over.pull([job.id], wait=True):
            moved.append(found)
        store.close()

    threads = [threading.Thread(target=pull) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(moved) == count
    assert max(moved) <= PAGE
    assert sources(runtime, job.id) == sources(runtime, extract)
    assert {row.ready_at for row in items_of(runtime, extract)} == {HANDED_OVER}
    assert runtime.hand_over.pull([job.id], wait=True) == runtime.hand_over.pull(None) == 0


def test_a_job_is_not_done_before_its_steps_are_and_all_is_handed_over(
    runtime: Runtime, task: Path, table: Path
) -> None:
    job = staged_job(runtime, task, table)
    with runtime.store.write() as connection:
        assert not finish_if_complete(connection, job.id, 1.0), "nothing is extracted yet"
    extract = stage_only(runtime, job)
    assert documents(runtime, job) == {"pending": DOCUMENTS}
    with runtime.store.write() as connection:
        assert not finish_if_complete(connection, job.id, 2.0), "nothing is handed over yet"
        assert not finish_if_complete(connection, extract, 2.0), "a step is ended by its job"
    assert (job_of(runtime, job.id).state, job_of(runtime, extract).state) == (
        JobState.RUNNING,
        JobState.DONE,
    )
    run(runtime, job.id)
    assert job_of(runtime, job.id).state is JobState.DONE


def test_answers_that_were_there_are_handed_over_too_and_only_what_changed_is_asked_again(
    runtime: Runtime, task: Path, table: Path
) -> None:
    run(runtime, staged_job(runtime, task, table).id)
    asked = len(rows(runtime, "attempts"))
    again = staged_job(runtime, task, table)
    run(runtime, again.id)
    assert documents(runtime, again) == {"done": DOCUMENTS}
    assert len(rows(runtime, "attempts")) == asked, "both steps took the answers that were there"
    changed = staged_job(runtime, task, table, params={"tone": "terse"})
    run(runtime, changed.id)
    new = rows(runtime, "attempts")[asked:]
    assert {(row.job_id, row.model) for row in new} == {(changed.id, "gpt-4o")}
    assert len(new) == DOCUMENTS
    write_task(task, TASK.replace("EXTRACT what", "EXTRACT all that"))
    redone = staged_job(runtime, task, table)
    run(runtime, redone.id)
    new = rows(runtime, "attempts")[asked + DOCUMENTS :]
    assert Counter(row.model for row in new)["gpt-4o-mini"] == DOCUMENTS


def test_what_fails_in_a_step_stays_there_is_counted_and_can_be_brought_back(
    runtime: Runtime, vendor_server: VendorServer, task: Path, table: Path
) -> None:
    vendor_server.add_fault(kind="refusal", contains="number 0007")
    vendor_server.add_fault(kind="refusal", contains="number 0008")
    job = staged_job(runtime, task, table)
    assert run(runtime, job.id) is Ending.IDLE
    extract = steps(runtime, job)[0]
    assert job_of(runtime, job.id).state is JobState.DONE
    assert documents(runtime, job) == {"done": DOCUMENTS - 2, "failed": 2}
    with open_results(runtime.store, job) as lines:
        found = {line.item.source.rpartition("#")[2]: line for line in lines}
    assert list(found) == [str(number) for number in range(DOCUMENTS)], "in the order of submission"
    assert found["7"].item.status is ItemStatus.FAILED
    assert found["7"].output is None
    assert (found["7"].item.error or "").startswith("stage extract: ")
    assert found["9"].output.keys() == {"label"}
    assert found["9"].item.attempts == 2
    vendor_server.clear_faults()
    with runtime.store.write() as connection:
        assert retry_failed(connection, extract.id, None, extract.tier) == 2
        set_state(connection, job.id, JobState.RUNNING, 1.0)
        reopen_stages(connection, job.id, 1.0)
    run(runtime, job.id)
    assert documents(runtime, job) == {"done": DOCUMENTS}
    assert {step.state for step in steps(runtime, job)} == {JobState.DONE}


def test_a_jobs_cap_holds_for_all_steps_and_what_it_stopped_goes_on(
    runtime: Runtime, task: Path, table: Path
) -> None:
    job = staged_job(runtime, task, table, max_cost_nusd=8_000_000)
    assert run(runtime, job.id) is Ending.BUDGET
    stopped = job_of(runtime, job.id)
    assert stopped.state is JobState.PAUSED
    assert (stopped.reason or "").startswith("budget: cap of job")
    assert {step.state for step in steps(runtime, job)} <= {JobState.PAUSED, JobState.DONE}
    assert 0 < spent(runtime, f"job:{job.id}") <= 8_000_000
    with runtime.store.write() as connection:
        runtime.ledger.set_job_cap(connection, job.id, None)
    take_up(runtime.store, runtime.ledger, job.id, JobState.RUNNING)
    assert run(runtime, job.id) is Ending.IDLE
    assert documents(runtime, job) == {"done": DOCUMENTS}
    made = rows(runtime, "attempts")
    assert len(made) == 2 * DOCUMENTS, "nothing was asked twice"
    accounts = {found.account.scope: found.spent_nusd for found in balances(runtime)}
    total = sum(row.cost_nusd for row in made)
    assert accounts[f"job:{job.id}"] == accounts["task:staged"] == accounts["day"] == total
    assert accounts["tier:economy"] + accounts["tier:premium"] == total


@pytest.mark.parametrize("tier", ["economy", "premium"])
def test_a_cap_of_one_steps_tier_pauses_the_job_until_it_is_lifted_or_the_day_is_over(
    runtime: Runtime, task: Path, table: Path, tier: str
) -> None:
    with runtime.store.write() as connection:
        runtime.ledger.set_cap(connection, f"tier:{tier}", 0)
    job = staged_job(runtime, task, table)
    assert run(runtime, job.id) is Ending.BUDGET
    stopped = job_of(runtime, job.id)
    assert stopped.state is JobState.PAUSED
    assert f"cap of tier {tier}" in (stopped.reason or "")
    assert stopped.resume_at is not None
    assert documents(runtime, job) == {"pending": DOCUMENTS}
    with runtime.store.write() as connection:
        runtime.ledger.set_cap(connection, f"tier:{tier}", None)
        assert job.id in due_jobs(connection, stopped.resume_at)
        assert not set(due_jobs(connection, stopped.resume_at)) - {job.id}, "a step goes on with its job"
    assert resume_due(runtime.store, runtime.ledger) == [], "it is not tomorrow yet"
    take_up(runtime.store, runtime.ledger, job.id, JobState.RUNNING)
    run(runtime, job.id)
    assert documents(runtime, job) == {"done": DOCUMENTS}


def test_pause_another_reason_resume_and_cancel_reach_all_steps(
    runtime: Runtime, task: Path, table: Path
) -> None:
    job = staged_job(runtime, task, table)

    def states() -> set[tuple[JobState, str | None]]:
        return {(step.state, step.reason) for step in steps(runtime, job)}

    with runtime.store.write() as connection:
        set_state(connection, job.id, JobState.PAUSED, 1.0, reason="budget: daily cap", resume_at=5.0)
    assert states() == {(JobState.PAUSED, "budget: daily cap")}
    with runtime.store.write() as connection:
        set_pause_reason(connection, job.id, PAUSED_BY_USER)
        assert due_jobs(connection, 9.0) == []
    assert states() == {(JobState.PAUSED, PAUSED_BY_USER)}
    take_up(runtime.store, runtime.ledger, job.id, JobState.RUNNING)
    assert states() == {(JobState.RUNNING, None)}
    with runtime.store.write() as connection:
        set_state(connection, job.id, JobState.CANCELLED, 2.0)
        assert cancel_pending(connection, job.id) == DOCUMENTS
    assert states() == {(JobState.CANCELLED, None)}
    assert documents(runtime, job) == {"cancelled": DOCUMENTS}
    assert run(runtime, job.id) is not Ending.BUDGET
    assert rows(runtime, "attempts") == []


def test_a_step_that_was_done_takes_in_documents_that_come_later(
    runtime: Runtime, task: Path, table: Path
) -> None:
    job = staged_job(runtime, task, table, max_cost_nusd=1)
    with runtime.store.write() as connection:
        runtime.ledger.set_job_cap(connection, job.id, None)
    extract = stage_only(runtime, job)
    with runtime.store.write() as connection:
        finish_if_complete(connection, job.id, 1.0)
    assert job_of(runtime, extract).state is JobState.DONE
    write_table(table, DOCUMENTS + 5)
    again = staged_job(runtime, task, table)
    assert again.id == job.id, "the unfinished job of the request is taken up"
    run(runtime, job.id)
    assert documents(runtime, job) == {"done": DOCUMENTS + 5}


def test_known_answers_go_along_and_are_held_against_the_last_answer_only(
    runtime: Runtime, vendor_server: VendorServer, task: Path, tmp_path: Path, table: Path
) -> None:
    golden = tmp_path / "golden.jsonl"
    golden.write_text(
        "".join(json.dumps({"id": str(n), "expected": {"label": "right"}}) + "\n" for n in range(4))
    )
    right = json.dumps({"label": "right"})
    vendor_server.configure(answers=[("JUDGE", right)])
    vendor_server.add_fault(kind="refusal", contains="number 0003")
    job = staged_job(runtime, task, table, golden=golden)
    extract = stage_only(runtime, job)
    scorer = load_task(str(task)).score
    assert score_samples(runtime.store, job.id, scorer, 1.0) == 1, "what failed is wrong, the rest is open"
    assert {row.job_id for row in rows(runtime, "samples")} == {job.id}
    for _ in ("before they are handed over", "and after"):
        assert staged_job(runtime, task, table, golden=golden).id == job.id, "the corpus is read again"
        assert len(rows(runtime, "samples")) == 4
        runtime.hand_over.pull([job.id])
    run(runtime, job.id)
    assert score_samples(runtime.store, job.id, scorer, 1.0) == 3
    last = {row.id for row in items_of(runtime, job.id)}
    failed = {row.id for row in items_of(runtime, extract) if row.status == "failed"}
    assert {row.item_id for row in rows(runtime, "samples")} <= last | failed
    with runtime.store.read() as connection:
        found = accuracy(connection, job.id)
    assert found is not None
    assert (found.correct, found.scored) == (3, 4)
    assert len(load_golden(golden)) == 4


def test_spend_by_stage_and_the_newest_job(runtime: Runtime, task: Path, table: Path) -> None:
    job = staged_job(runtime, task, table)
    run(runtime, job.id)
    with runtime.store.read() as connection:
        by_stage = {row.key: row for row in read_spend(connection, View.STAGE)}
        by_job = read_spend(connection, View.JOB)
        [own] = runtime.ledger.balances(connection, [job_account(job.id)])
        assert newest_job_id(connection) == job.id
    assert {key: row.calls for key, row in by_stage.items()} == {
        "staged": DOCUMENTS,
        "staged.extract": DOCUMENTS,
    }
    assert [(row.key, row.booked_nusd) for row in by_job] == [(str(job.id), own.spent_nusd)]
    assert sum(row.booked_nusd for row in by_stage.values()) == own.spent_nusd == spent(runtime)


def test_one_model_for_all_steps_and_one_priority(runtime: Runtime, task: Path, table: Path) -> None:
    job = staged_job(runtime, task, table, model="gpt-4o", priority=7)
    assert {step.pinned_model for step in steps(runtime, job)} == {"gpt-4o"}
    run(runtime, job.id)
    assert {row.model for row in rows(runtime, "attempts")} == {"gpt-4o"}
    assert documents(runtime, job) == {"done": DOCUMENTS}


def test_judges_and_people_see_the_document_as_it_was_submitted(
    runtime: Runtime, vendor_server: VendorServer, task: Path, table: Path
) -> None:
    verdict = json.dumps({"reason": "It does.", "score": 1.0, "correct": True})
    vendor_server.configure(answers=[("You check the work of another model", verdict)])
    job = staged_job(runtime, task, table, sample=1.0, judge="economy")
    run(runtime, job.id)
    assert {row.judged_by for row in rows(runtime, "samples")} == {"judge:gpt-4o-mini"}
    assert {row.correct for row in rows(runtime, "samples")} == {True}
    assert {row.job_id for row in rows(runtime, "sampled_items")} == {job.id}, "the last answers are drawn"
    [judge] = [row for row in rows(runtime, "attempts") if row.purpose == "judge"][:1]
    [judged] = [row for row in rows(runtime, "items") if row.id == judge.item_id]
    assert "text number" in text_of(runtime, judged.document_hash)
    assert len(steps(runtime, job)) == 2, "a judge is no step"
    drawn = min(row.item_id for row in rows(runtime, "sampled_items"))
    with runtime.store.read() as connection:
        assert "text number" in read_item(connection, drawn).text
    assert documents(runtime, job) == {"done": DOCUMENTS}
