"""A learned ladder's judge and verifier in real runs: what goes wrong with them costs a climb, no answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from sqlalchemy import update

from batcher.alerts.book import list_alerts
from batcher.budget.savings import SavingKind, read_savings
from batcher.catalog.models import Limits
from batcher.cli.job_view import read_job_view
from batcher.cli.report import report_lines
from batcher.domain import JobState
from batcher.engine.control import Ending
from batcher.engine.submission import take_up
from batcher.planning.ladder_record import read_production
from batcher.quality.sampling import Sampling
from batcher.runtime import Runtime
from batcher.simulator.faults import Fault
from batcher.simulator.requests import Call
from batcher.store.tables import samples
from batcher.tasks.golden import Golden, GoldenRow
from tests.support.ladders import checked_policy
from tests.support.runs import (
    MODEL,
    TASK,
    item_statuses,
    job_of,
    make_job,
    make_runtime,
    reserved,
    rows,
    run,
    spent,
)
from tests.support.vendor_server import VendorServer

SAGE, DEAR = "gpt-4.1", "gpt-4o"
TEXTS = {f"d{n}": f"document {n}" for n in range(4)}


def says(call: Call) -> Fault:
    """Any answer names its model; the judge likes that of even documents."""
    if "You check the work" not in call.raw.decode():
        return Fault(text=orjson.dumps({"label": call.model}).decode(), times=None)
    is_even = int(call.text.partition("document ")[2][0]) % 2 == 0
    verdict = {"reason": "so", "score": float(is_even), "correct": is_even}
    return Fault(text=orjson.dumps(verdict).decode(), times=None)


@pytest.fixture
def runtime(tmp_path: Path, vendor_server: VendorServer) -> Iterator[Runtime]:
    tiers = {"economy": [MODEL], "premium": [DEAR]}
    made = make_runtime(tmp_path / "home", vendor_server, tiers=tiers)
    made.catalog.models[SAGE] = replace(made.catalog.models[SAGE], limits=Limits(None, None))  # type: ignore[index]
    vendor_server.on_call(says)
    yield made
    made.store.close()


def calls(runtime: Runtime) -> Counter[tuple[str, str]]:
    """How many calls there were for each purpose and model."""
    return Counter((row.purpose, row.model) for row in rows(runtime, "attempts"))


def given(runtime: Runtime) -> dict[str, str]:
    """Who answered what stands, by source."""
    by_id = {row.id: row.model for row in rows(runtime, "results")}
    return {row.source: by_id[row.result_id] for row in rows(runtime, "items")}


def test_what_the_judge_doubts_climbs(runtime: Runtime) -> None:
    job = make_job(runtime, TEXTS, policy=checked_policy(judge=SAGE), model=None)
    assert run(runtime, job.id) is Ending.IDLE
    assert item_statuses(runtime, job.id) == {"done": 4}
    assert calls(runtime) == {("answer", MODEL): 4, ("judge", SAGE): 4, ("escalation", DEAR): 2}
    assert given(runtime) == {"d0": MODEL, "d1": DEAR, "d2": MODEL, "d3": DEAR}
    assert reserved(runtime) == 0
    with runtime.store.read() as connection:
        saved = read_savings(connection, runtime.catalog, None, job.id, "UTC")
    [cheap] = [one for one in saved if one.kind is SavingKind.CHEAP_TIERS]
    assert cheap.count == 6
    assert cheap.paid_nusd == spent(runtime), "the judge is part of what these answers cost"


def test_an_answer_that_cannot_be_judged_climbs(runtime: Runtime, vendor_server: VendorServer) -> None:
    def confused(call: Call) -> Fault:
        if "You check the work" in call.raw.decode():
            return Fault(text="who knows", times=None)
        return says(call)

    vendor_server.on_call(confused)
    job = make_job(runtime, TEXTS, policy=checked_policy(judge=SAGE), model=None)
    assert run(runtime, job.id) is Ending.IDLE
    assert item_statuses(runtime, job.id) == {"done": 4}
    assert set(given(runtime).values()) == {DEAR}
    assert calls(runtime)["escalation", DEAR] == 4
    assert reserved(runtime) == 0


def test_a_judge_with_a_wrong_key_stops_no_job(runtime: Runtime, vendor_server: VendorServer) -> None:
    def locked_out(call: Call) -> Fault:
        if "You check the work" in call.raw.decode():
            return Fault(status=401, body={"error": {"message": "no"}}, times=None)
        return says(call)

    vendor_server.on_call(locked_out)
    job = make_job(runtime, TEXTS, policy=checked_policy(judge=SAGE), model=None)
    assert run(runtime, job.id) is Ending.IDLE
    assert job_of(runtime, job.id).state is JobState.DONE
    assert set(given(runtime).values()) == {DEAR}


def test_a_cap_that_has_no_room_for_the_judge_loses_no_answer(runtime: Runtime) -> None:
    texts = {"d0": TEXTS["d0"]}
    job = make_job(runtime, texts, policy=checked_policy(judge=SAGE), model=None, max_cost_nusd=3_000_000)
    assert run(runtime, job.id) is Ending.BUDGET
    assert item_statuses(runtime, job.id) == {"pending": 1}
    assert calls(runtime) == {("answer", MODEL): 1}
    with runtime.store.write() as connection:
        runtime.ledger.set_job_cap(connection, job.id, None)
    take_up(runtime.store, runtime.ledger, job.id, JobState.RUNNING)
    assert run(runtime, job.id) is Ending.IDLE
    assert item_statuses(runtime, job.id) == {"done": 1}
    assert calls(runtime) == {("answer", MODEL): 1, ("judge", SAGE): 1}
    assert reserved(runtime) == 0


def test_a_verifier_that_fails_is_told_of_once_and_its_answers_climb(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def verifier(text: str, answer: dict[str, str]) -> bool:
        if text == "document 1":
            return answer["label"].startswith(MODEL)
        raise ValueError("odd text")

    task = replace(TASK, verifier=verifier)
    monkeypatch.setattr(runtime, "find_task", lambda _: task)
    job = make_job(runtime, TEXTS, policy=checked_policy(verifies=True), model=None)
    assert run(runtime, job.id) is Ending.IDLE
    assert given(runtime) == {"d0": DEAR, "d1": MODEL, "d2": DEAR, "d3": DEAR}
    told = [record.message for record in caplog.records if "cannot be verified" in record.message]
    assert len(told) == 1
    assert "ValueError: odd text" in told[0]


def test_a_ladder_that_falls_short_is_told_of_once_a_day_and_in_its_jobs_status(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "find_task", lambda _: TASK)
    texts = {f"d{n:02}": f"document {n % 10} of {n}" for n in range(30)}
    golden = Golden(Path("g"), [GoldenRow(1, "", name, {"label": "another"}) for name in texts])
    sampling = Sampling(share=1.0, at_least=0, seed=1, judge=SAGE)
    policy = checked_policy(judge=SAGE)
    job = make_job(runtime, texts, policy=policy, model=None, golden=golden, sampling=sampling)
    run(runtime, job.id)
    runtime.judging.keep_up([job.id], at_once=True)
    for _ in range(2):
        runtime.ladder_watch.keep_up([job.id], at_once=True)
    assert {row.judged_by for row in rows(runtime, "samples")} == {"golden"}
    view = read_job_view(runtime, job.id)
    assert view.ladder is not None
    assert view.ladder.falls_short
    [line] = [line for line in report_lines(view) if line.startswith("  ladder ")]
    assert "0 % (0 % to 11.4 %, 30 scored) in production, where ladder 1 promises 90 %" in line
    assert line.endswith("batcher ladder learn --task verdict --golden FILE --accuracy 0.9 --judge gpt-4.1")
    with runtime.store.read() as connection:
        told = [(one.alert.rule, one.alert.scope) for one in list_alerts(connection)]
    assert told.count(("accuracy", "ladder:1")) == 1
    assert job_of(runtime, job.id).state is JobState.DONE


def test_what_its_own_judge_says_in_a_check_is_no_evidence(runtime: Runtime) -> None:
    sampling = Sampling(share=1.0, at_least=0, seed=1, judge=SAGE)
    job = make_job(runtime, TEXTS, policy=checked_policy(judge=SAGE), model=None, sampling=sampling)
    run(runtime, job.id)
    assert {row.judged_by for row in rows(runtime, "samples")} == {"judge:none"}
    with runtime.store.write() as connection:
        connection.execute(update(samples).values(judged_by=f"judge:{SAGE}", score=1.0, correct=True))
    with runtime.store.read() as connection:
        assert read_production(connection, 1, TASK.spec({})).estimate is None
    with runtime.store.write() as connection:
        connection.execute(update(samples).values(judged_by="person:me"))
    with runtime.store.read() as connection:
        found = read_production(connection, 1, TASK.spec({}))
    assert found.estimate is not None
    assert (found.estimate.scored, found.jobs, found.falls_short) == (4, 1, False)
