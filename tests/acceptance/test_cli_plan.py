"""``batcher plan``: what it says before a run, that it leaves no trace, and how it compares with the run."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.vendor_server import VendorServer

from .conftest import Cli

ROOT = Path(__file__).resolve().parents[2]


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


def choice_of(plan: dict[str, Any], model: str) -> dict[str, Any]:
    return next(choice for choice in plan["choices"] if choice["model"] == model)


def test_a_plan_before_the_first_run_writes_and_sends_nothing(cli: Cli, vendor_server: VendorServer) -> None:
    folder = cli.documents(5)
    (folder / "copy.txt").write_text((folder / "001.txt").read_text())
    (folder / "empty.txt").write_text("")
    before = contents(cli.home)
    plan = cli("plan", "docs", "--task", "./cards", "--json").json
    assert contents(cli.home) == before
    assert vendor_server.totals()["calls"] == 0
    assert plan["items"] == {
        "read": 7,
        "new": 5,
        "reused": 0,
        "duplicates": 1,
        "ended_before": 0,
        "rejected": 1,
        "rejected_by_reason": {"empty": 1},
        "started_by_rule": {},
    }
    chosen = plan["chosen"]
    assert (chosen["tier"], chosen["model"], chosen["usable"]) == ("economy", "gpt-4o-mini", True)
    assert 0 < chosen["low_usd"] <= chosen["likely_usd"] <= chosen["high_usd"] < chosen["worst_usd"]
    assert chosen["prices_as_of"]
    assert chosen["calls"] == 5
    assert [cap["scope"] for cap in chosen["caps"]] == ["day"]
    assert chosen["caps"][0]["fits_worst"]
    assert sum(bar["documents"] for bar in plan["tokens"]["histogram"]) == 6
    assert not choice_of(plan, "claude-haiku-4-5")["usable"]
    assert choice_of(plan, "smollm2-135m")["likely_usd"] == 0


def test_what_submit_reserves_and_reuses_is_what_the_plan_says(cli: Cli) -> None:
    cli.documents(8)
    plan = cli("plan", "docs", "--task", "./cards", "--json").json
    done = cli("submit", "docs", "--task", "./cards", "--json").json
    estimate = done["estimate"]
    assert estimate["likely_usd"] == pytest.approx(plan["chosen"]["likely_usd"], rel=0.01)
    assert estimate["high_usd"] == pytest.approx(plan["chosen"]["high_usd"], rel=0.001)
    assert estimate["low_usd"] <= estimate["likely_usd"] <= estimate["high_usd"]
    assert estimate["items"] == 8
    assert estimate["actual_usd"] == done["cost_usd"] <= estimate["high_usd"]
    assert estimate["difference"] == pytest.approx(done["cost_usd"] / estimate["likely_usd"] - 1)

    again = cli("plan", "docs", "--task", "./cards", "--json").json
    assert (again["items"]["reused"], again["items"]["new"]) == (8, 0)
    assert again["chosen"]["likely_usd"] == again["chosen"]["worst_usd"] == 0
    screen = cli("plan", "docs", "--task", "./cards").out
    assert "nothing is left to ask" in screen


def test_after_a_first_run_the_plan_goes_by_what_was_measured(cli: Cli) -> None:
    cli.documents(30)
    first = cli("submit", "docs", "--task", "./cards", "--limit", 10, "--json").json
    plan = cli("plan", "docs", "--task", "./cards", "--json").json
    chosen = plan["chosen"]
    assert (plan["items"]["reused"], plan["items"]["new"]) == (10, 20)
    assert chosen["evidence"]["output_from"] == "measured"
    assert chosen["evidence"]["answers"] == chosen["evidence"]["input_calls"] == 10
    assert chosen["call_seconds_measured"]
    assert choice_of(plan, "claude-haiku-4-5")["evidence"]["output_from"] == "other models"
    rest = cli("submit", "docs", "--task", "./cards", "--json").json
    assert chosen["likely_usd"] == pytest.approx(rest["cost_usd"], rel=0.1)
    assert rest["cost_usd"] == pytest.approx(2 * first["cost_usd"], rel=0.1)
    anew = cli("plan", "docs", "--task", "./cards", "--refresh", "--json").json
    assert (anew["items"]["reused"], anew["items"]["new"]) == (0, 30)


def test_a_time_that_is_none_is_refused_as_submit_does(cli: Cli) -> None:
    cli.documents(1)
    said = cli("plan", "docs", "--task", "./cards", "--finish-by", "", code=2).err
    assert "--finish-by takes a time" in said


def test_the_screen_shows_a_table_a_histogram_and_advice(cli: Cli) -> None:
    folder = cli.documents(6)
    for number in range(3):
        (folder / f"long{number}.txt").write_text(f"Chapter {number}. " + "A longer text on rivers. " * 60)
    screen = cli("plan", "docs", "--task", "./cards", "--finish-by", "06:00").out
    assert "9 documents read. Nothing was written, sent or spent." in screen
    assert "tokens or fewer" in screen
    assert "even the worst case fits" in screen
    assert "it would be done in time" in screen
    row = next(line for line in screen.splitlines() if line.startswith("*") and "gpt-4o-mini" in line)
    assert row.split()[1] == "economy"
    assert "no key" in next(line for line in screen.splitlines() if "claude-haiku-4-5 " in line)
    cheaper, dearer = (
        next(line for line in screen.splitlines() if line.startswith(word)) for word in ("Cheaper", "Dearer")
    )
    assert "smollm2-135m" in cheaper
    assert "times as much" in dearer


def test_caps_that_do_not_suffice_are_told_in_days(cli: Cli) -> None:
    cli.documents(10)
    cli("budget", "set", "--daily", "0.0005")
    plan = cli("plan", "docs", "--task", "./cards", "--finish-by", "23:59", "--json").json
    chosen = plan["chosen"]
    [cap] = chosen["caps"]
    assert not cap["fits_likely"]
    assert not cap["fits_worst"]
    assert cap["days"] == 1 + -(-(chosen["likely_usd"] - cap["left_usd"]) // cap["cap_usd"])
    ends = datetime.fromisoformat(chosen["ends_at"])
    assert (ends.date() - datetime.fromisoformat(plan["day"]).date()).days == cap["days"] - 1
    assert chosen["in_time"] is False
    assert "days at this cap" in cli("plan", "docs", "--task", "./cards").out

    own = cli("plan", "docs", "--task", "./cards", "--max-cost", "0.00001", "--json").json["chosen"]
    assert [found["scope"] for found in own["caps"]] == ["day", "job:new"]
    assert own["caps"][1]["days"] is None
    assert own["ends_at"] is None


def test_a_job_that_is_not_finished_would_be_taken_up(cli: Cli, vendor_server: VendorServer) -> None:
    cli.documents(6)
    vendor_server.add_fault(kind="refused", times=1)
    cli("submit", "docs", "--task", "./cards", "--max-cost", "0.0006", "--json", code=4)
    stopped = cli("status", "--json").json
    plan = cli("plan", "docs", "--task", "./cards", "--json").json
    items = stopped["items"]
    assert stopped["state"] == "paused"
    assert plan["taken_up"] == stopped["job_id"]
    assert plan["items"]["new"] == items["pending"] > 0
    assert plan["items"]["reused"] == items["done"]
    assert plan["items"]["ended_before"] == items["failed"]
    assert plan["chosen"]["caps"][1]["scope"] == f"job:{stopped['job_id']}"
    assert plan["chosen"]["caps"][1]["spent_usd"] == stopped["cost_usd"]

    spent = stopped["cost_usd"]
    ended = cli("submit", "docs", "--task", "./cards", "--max-cost", "1", "--json", code=None).json
    assert ended["job_id"] == stopped["job_id"]
    assert ended["estimate"]["spent_before_usd"] == spent
    assert ended["estimate"]["likely_usd"] == pytest.approx(spent + plan["chosen"]["likely_usd"], rel=0.02)
    assert ended["estimate"]["actual_usd"] == ended["cost_usd"] > spent


def test_the_report_holds_the_estimate_against_the_actual_cost(cli: Cli) -> None:
    cli.documents(3)
    cli("submit", "docs", "--task", "./cards", "--json")
    report = cli("status").out
    line = next(line for line in report.splitlines() if line.strip().startswith("estimate"))
    assert ", actual $" in line
    assert line.endswith(" %)")


def test_without_a_key_it_is_planned_as_if_there_were_one(cli: Cli) -> None:
    cli.documents(2)
    del cli.env["OPENAI_API_KEY"]
    outcome = cli("plan", "docs", "--task", "./cards", "--json")
    assert "as if there were a key" in outcome.err
    assert outcome.json["chosen"]["model"] == "gpt-4o-mini"
    assert outcome.json["chosen"]["usable"] is False


def test_mistakes_are_those_of_submit(cli: Cli) -> None:
    cli.documents(1)
    (cli.folder / "nothing").mkdir()
    assert "no documents" in cli("plan", "nothing", "--task", "./cards", code=2).err
    assert "06:00" in cli("plan", "docs", "--task", "./cards", "--finish-by", "soon", code=2).err
    assert "no file or folder" in cli("plan", "elsewhere", "--task", "./cards", code=2).err
    assert "There is no task" in cli("plan", "docs", "--task", "carts", code=2).err


def test_rows_on_standard_input_are_planned(cli: Cli) -> None:
    rows = '{"id": "a", "text": "On rivers."}\n{"id": "b", "text": "On bridges."}\n'
    assert cli("plan", "-", "--task", "./cards", "--json", stdin=rows).json["items"]["new"] == 2


def test_the_accuracy_benchmark_holds_on_an_example_corpus() -> None:
    ended = subprocess.run(
        [
            sys.executable, "benchmarks/plan_accuracy.py",
            "--models", "gpt-4o-mini", "--cases", "loan_agreements extraction",
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "3 of 3 judged figures are within 15% of the actual cost." in ended.stdout
