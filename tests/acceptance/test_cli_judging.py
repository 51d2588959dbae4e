"""Judging that stops: the job says how far it is and why it waits, and its commands act on its judges too."""

from __future__ import annotations

import json

import pytest

from tests.support.vendor_server import VendorServer

from .conftest import Cli

JUDGE, JUDGE_ID = "gpt-4o", "gpt-4o-2024-11-20"
COUNT = 6
SUBMIT = ("submit", "docs", "--task", "./cards", "--sample", "1", "--judge", JUDGE, "--yes")


@pytest.fixture
def judged(cli: Cli, vendor_server: VendorServer) -> Cli:
    """Six documents, and a judge who finds all answers right."""
    cli.documents(COUNT)
    verdict = {"reason": "It is.", "score": 1.0, "correct": True}
    vendor_server.configure(answers=[["You check the work of another model", json.dumps(verdict)]])
    return cli


def test_a_cap_that_stops_the_judge_is_told_and_resume_goes_on_with_it(judged: Cli) -> None:
    judged(*SUBMIT, "--max-cost", "0.007")
    found = judged("status", 1, "--json").json
    state = found["judging"]
    assert found["state"] == "done"
    assert state["waiting"] == COUNT - state["judged"] > 0
    assert state["reason"].startswith("budget: ")
    told = judged("status", 1).out
    assert f"judging   {state['judged']} judged, {state['waiting']} wait (budget: " in told
    assert "batcher resume 1   (its answers are judged then)" in told
    stopped = judged("resume", 1)
    assert f"Job 1: judging goes on with {state['waiting']} answers, by job 2 ({JUDGE})." in stopped.err
    alerts = [one for one in judged("alerts", "list", "--json").json if one["scope"] == "job:1/judge"]
    assert [alert["rule"] for alert in alerts] == ["job_failed"], "once a day"
    judged("budget", "set", "--job", 1, "--max-cost", 1)
    assert judged("resume", 1, "--json").json["judging"] == {
        **state, "judged": COUNT, "waiting": 0, "reason": None
    }  # fmt: skip
    assert "Job 1 is done." in judged("resume", 1).err


def test_a_judge_s_own_job_says_whose_it_is_what_it_cost_and_who_pays(
    judged: Cli, vendor_server: VendorServer
) -> None:
    judged(*SUBMIT)
    cost = sum(line.cost_nusd for line in vendor_server.bill if line.model == JUDGE_ID) / 1e9
    assert cost > 0
    assert judged("status", 2, "--json").json["cost_usd"] == pytest.approx(cost)
    told = judged("status", 2).out
    assert f"Job 2 done: cards as judge of job 1 on tier premium, {JUDGE}, {COUNT} documents" in told
    assert ", paid by job 1 under its caps\n" in told
    listed = {row["job_id"]: row["cost_usd"] for row in judged("jobs", "--json").json}
    assert listed[2] == pytest.approx(cost)
    refused = judged("budget", "set", "--job", 2, "--max-cost", 1, code=2).err
    assert "Job 2 judges for job 1, which pays for it" in refused
    assert judged("budget", "show", "--json").json["jobs"] == []


def test_questions_that_failed_are_counted_and_retried_with_the_job(
    judged: Cli, vendor_server: VendorServer
) -> None:
    vendor_server.add_fault(model=JUDGE_ID, contains="number 3", text="no JSON", times=2)
    state = judged(*SUBMIT, "--json").json["judging"]
    assert (state["judged"], state["waiting"]) == (COUNT - 1, 0)
    assert state["failed_by_class"] == {"invalid_output": 1}
    told = judged("status", 1).out
    assert f"{COUNT - 1} judged, 1 failed (invalid_output 1)" in told
    assert f"{COUNT} drawn, 1 without a verdict" in told, "no judge comes to it by itself"
    assert "no failed items of class refused" in judged("retry", 1, "--class", "refused").err
    calls = vendor_server.totals()["calls"]
    again = judged("retry", 1, "--class", "invalid_output", "--json")
    assert "Job 1: asking its judge again about 1 answer." in again.err
    assert (again.json["judging"]["judged"], again.json["judging"]["failed"]) == (COUNT, 0)
    assert vendor_server.totals()["calls"] == calls + 1


def test_a_judge_of_its_own_answers_is_told_when_they_are_submitted(judged: Cli) -> None:
    told = "Answers of gpt-4o-mini are not judged: it is the only judge, and a model does not judge its own."
    words = ("submit", "docs", "--task", "./cards", "--sample", "1", "--limit", "1", "--yes")
    own = judged(*words, "--judge", "gpt-4o-mini", code=None)
    assert told in own.err
    assert "judge_own = true in [quality]" in own.err
    assert "are not judged" not in judged(*words, "--judge", JUDGE, "--refresh").err
