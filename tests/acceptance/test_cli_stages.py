"""The example of a staged task, as a user runs it: planned, submitted, looked at, mended, exported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Cli
from tests.support.fast_models import TWO_TIERS
from tests.support.vendor_server import VendorServer

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "compliance"
FACTS = {
    "agent_name": "Dana Reyes",
    "call_id": "C-1041",
    "said_recorded": True,
    "identity_checked": True,
    "promises": [],
    "pressure": [],
    "secrets_asked": [],
}
GOLDEN = [json.loads(line) for line in (EXAMPLE / "golden.jsonl").read_text().splitlines()]
TASK = ("--task", "./compliance")


@pytest.fixture
def user(cli: Cli, vendor_server: VendorServer) -> Cli:
    """A user with the example in the folder, whose vendor reads every call rightly."""
    shutil.copytree(EXAMPLE, cli.folder / "compliance")
    (cli.home / "batcher.toml").write_text(TWO_TIERS)
    answers = []
    for row in GOLDEN:
        facts = FACTS | {name: row["expected"][name] for name in ("agent_name", "call_id")}
        answers += [
            (f"Call {row['expected']['call_id']}", json.dumps(facts)),
            # As it stands in the body of a request, whose text is JSON within JSON.
            (f'call_id\\":\\"{row["expected"]["call_id"]}', json.dumps(row["expected"])),
        ]
    vendor_server.configure(answers=answers)
    return cli


def submit(user: Cli, *words: str, code: int = 0) -> Any:
    golden = ("--golden", "compliance/golden.jsonl")
    return user("submit", "compliance/calls", *TASK, *golden, "--json", *words, code=code).json


def test_the_calls_are_extracted_cheaply_and_scored_well(user: Cli) -> None:
    told = submit(user)
    assert (told["state"], told["items"], told["done"], told["failed"]) == ("done", 8, 8, 0)
    stages = {stage["stage"]: stage for stage in told["stages"]}
    assert {name: (stage["tier"], stage["models"]) for name, stage in stages.items()} == {
        "extract": ("economy", {"gpt-4o-mini": 8}),
        "compliance": ("premium", {"gpt-4o": 8}),
    }
    assert sum(stage["cost_usd"] for stage in stages.values()) == pytest.approx(told["cost_usd"])
    assert (told["accuracy"]["scored"], told["accuracy"]["correct"]) == (8, 8)
    assert [stage["stage"] for stage in told["digest"]["stages"]] == ["extract", "compliance"]
    report = user("status").out
    assert "stage     extract: 8 done; $" in report
    assert "stage     compliance: 8 done; $" in report


def test_results_are_the_last_steps_at_what_all_of_them_cost_or_those_of_one_stage(user: Cli) -> None:
    submit(user)
    lines = user("results").lines
    assert [line["output"] for line in lines] == [row["expected"] for row in GOLDEN]
    assert {line["attempts"] for line in lines} == {2}
    stage = user("results", 1, "--stage", "extract").lines
    assert {tuple(line["output"]) for line in stage} == {tuple(FACTS)}
    assert sum(line["cost_usd"] for line in lines) > sum(line["cost_usd"] for line in stage) > 0
    user("results", 1, "--stage", "extract", "-o", "facts.csv")
    assert "said_recorded" in (user.folder / "facts.csv").read_text().splitlines()[0]
    assert "Its stages before the last: extract" in user("results", 1, "--stage", "report", code=2).err


def test_the_money_by_stage_and_by_job(user: Cli) -> None:
    told = submit(user)
    rows = {row["stage"]: row for row in user("spend", "--by", "stage", "--json").json}
    assert {name: row["calls"] for name, row in rows.items()} == {"compliance": 8, "compliance.extract": 8}
    assert rows["compliance"]["cost_usd"] > 5 * rows["compliance.extract"]["cost_usd"]
    [job] = user("spend", "--by", "job", "--json").json
    assert (job["job"], job["calls"], job["booked_usd"]) == (told["job_id"], 16, told["cost_usd"])
    [task] = user("spend", "--by", "task", "--json").json
    assert (task["task"], task["booked_usd"]) == ("compliance", task["ledger_usd"])
    assert "the same, to the nano-dollar" in user("spend", "--job", told["job_id"]).err


def test_a_plan_prices_every_stage_and_one_model_for_all_of_them(user: Cli) -> None:
    plan = user("plan", "compliance/calls", *TASK, "--json").json
    assert [(stage["stage"], stage["tier"], stage["chosen"]["calls"]) for stage in plan["stages"]] == [
        ("extract", "economy", 8),
        ("compliance", "premium", 8),
    ]
    assert plan["calls"] == 16
    assert plan["likely_usd"] == pytest.approx(
        sum(stage["chosen"]["likely_usd"] for stage in plan["stages"]), rel=1e-6
    )
    everything = plan["everything_on"]
    assert everything["gpt-4o-mini"] < plan["likely_usd"] < everything["gpt-4o"]
    assert plan["low_usd"] <= plan["likely_usd"] <= plan["high_usd"] <= plan["worst_usd"]
    told = submit(user, "--model", "gpt-4o")
    assert told["cost_usd"] < 2 * everything["gpt-4o"]
    assert {stage["model"] for stage in told["stages"]} == {"gpt-4o"}
    words = user("plan", "compliance/calls", *TASK).out
    assert "in 2 stages: 8 documents read" in words
    assert "Everything on gpt-4o: about $" in words


def test_a_plan_knows_what_is_answered_in_which_step(user: Cli) -> None:
    submit(user, "--limit", "3")
    plan = user("plan", "compliance/calls", *TASK, "--json").json
    assert [stage["items"]["reused"] for stage in plan["stages"]] == [3, 3]
    assert [stage["chosen"]["calls"] for stage in plan["stages"]] == [5, 5]
    submit(user)
    assert user("plan", "compliance/calls", *TASK, "--json").json["likely_usd"] == 0
    prompt = user.folder / "compliance" / "score.md"
    prompt.write_text(prompt.read_text() + "\nBe strict.\n")
    changed = user("plan", "compliance/calls", *TASK, "--json").json
    assert [stage["chosen"]["calls"] for stage in changed["stages"]] == [0, 8]


def test_what_failed_in_a_stage_is_told_and_tried_again(user: Cli, vendor_server: VendorServer) -> None:
    vendor_server.add_fault(kind="refusal", contains="Call C-1043")
    told = submit(user, code=1)
    assert (told["done"], told["failed"], told["failed_by_class"]) == (7, 1, {"refused": 1})
    report = user("status").out
    assert "stage     extract: 7 done, 1 failed; $" in report
    assert "stage extract: " in report
    failed = [line for line in user("results").lines if line["status"] == "failed"]
    assert [(line["source"][-10:], line["error"][:15]) for line in failed] == [
        ("c-1043.txt", "stage extract: ")
    ]
    vendor_server.clear_faults()
    again = user("retry", told["job_id"], "--json").json
    assert (again["state"], again["done"], again["failed"]) == ("done", 8, 0)
    assert vendor_server.totals()["calls"] == 17


def test_a_stage_goes_where_its_job_goes_and_is_not_steered_alone(user: Cli) -> None:
    submit(user, "--max-cost", "0.002", code=4)
    for command in ("pause", "cancel", "retry", "resume"):
        assert "Job 2 is a stage of job 1" in user(command, 2, code=2).err
    jobs = {row["job_id"]: row for row in user("jobs", "--json").json}
    assert {number: (row["step"], row["part_of"]) for number, row in jobs.items()} == {
        1: ("compliance", None),
        2: ("compliance.extract", 1),
    }
    user("budget", "set", "--job", 1, "--max-cost", "5.00")
    assert user("resume", "--json").json[0]["done"] == 8
    assert "compliance.extract" in user("jobs").out
    ended = {row["job_id"]: (row["items"]["done"], row["total"]) for row in user("jobs", "--json").json}
    assert ended == {1: (8, 8), 2: (8, 8)}
    for number in ended:
        view = user("status", number, "--json").json
        assert (view["items"]["done"], view["total"]) == (8, 8)


def test_a_cancelled_job_takes_its_stages_with_it(user: Cli) -> None:
    submit(user, "--max-cost", "0.002", code=4)
    user("cancel", 1)
    told = user("status", 1, "--json").json
    assert told["state"] == "cancelled"
    assert told["items"]["cancelled"] + told["items"]["done"] == told["total"] == 8
    assert {stage["state"] for stage in told["stages"]} <= {"cancelled", "done"}


def test_a_rehearsal_goes_through_all_stages(user: Cli) -> None:
    told = user("submit", "compliance/calls", *TASK, "--rehearse", "--json").json
    assert (told["state"], told["done"]) == ("done", 8)
    assert (told["calls"], told["calls_by_model"]) == (16, {"gpt-4o": 8, "gpt-4o-mini": 8})


def test_tasks_show_and_check_know_the_stages(user: Cli) -> None:
    told = user("tasks", "show", "./compliance", "--json").json
    assert [(stage["name"], stage["tier"], stage["hands_over"]) for stage in told["stages"]] == [
        ("extract", "economy", "answer")
    ]
    assert "stage extract" in user("tasks", "show", "./compliance").out
    assert "ready to use" in user("tasks", "check", "./compliance").out


def test_models_are_measured_on_all_stages_together(user: Cli, vendor_server: VendorServer) -> None:
    vendor_server.add_fault(kind="refusal", contains="Call C-1048", model="gpt-4o-mini-2024-07-18")
    words = ("evaluate", *TASK, "--golden", "compliance/golden.jsonl", "--model", "gpt-4o", "--model")
    told = user(*words, "gpt-4o-mini", "--yes", "--json", code=None).json
    found = {model["model"]: model for model in told["models"]}
    assert {name: (one["scored"], one["correct"]) for name, one in found.items()} == {
        "gpt-4o": (8, 8),
        "gpt-4o-mini": (8, 7),
    }
    by_job = {row["job"]: row for row in user("spend", "--by", "job", "--json").json}
    for one in found.values():
        job = by_job[one["job_id"]]
        assert one["cost_per_document_usd"] == pytest.approx(job["booked_usd"] / 8)
        assert one["judging_usd"] == 0
