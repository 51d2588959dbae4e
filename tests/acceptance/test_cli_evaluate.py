"""Evaluating: what models got right, what that cost, which to take, and that nothing is paid for twice."""

from __future__ import annotations

import json
import signal
import sqlite3
import xml.etree.ElementTree as ET
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from batcher.simulator.faults import Fault
from batcher.simulator.requests import Call
from tests.support.vendor_server import VendorServer

from .conftest import CONFIG, Cli

CHEAP, DEAR = "gpt-4o-mini", "gpt-4.1-mini"
CHEAP_ID = "gpt-4o-mini-2024-07-18"
RIGHT = {"title": "River", "pages": 3, "author": {"name": "A", "age": 1}, "tags": []}
WRONG = {**RIGHT, "title": "Bridge", "pages": 9}
COUNT = 20


@pytest.fixture
def golden(cli: Cli, vendor_server: VendorServer) -> Path:
    """Twenty known documents beside their golden file; the dear model is right, the cheap one is not on 3."""
    folder = cli.documents(COUNT, folder="known")
    rows = [{"file": f"{n:03}.txt", "expected": {"title": "River", "pages": 3}} for n in range(1, COUNT + 1)]
    path = folder / "golden.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    vendor_server.configure(answers=[["number", json.dumps(RIGHT)]])
    for number in (4, 7, 11):
        vendor_server.add_fault(
            model=CHEAP_ID, contains=f"number {number} about", text=json.dumps(WRONG), times=None
        )
    return path


def evaluate(cli: Cli, *words: str | Path | int, code: int | None = 0) -> Any:
    found = cli(
        "evaluate", "--task", "./cards", "--golden", "known/golden.jsonl", *words, "--json", code=code
    )
    return found.json


def test_a_task_that_a_judge_scores_is_measured_and_judged_once(
    cli: Cli, vendor_server: VendorServer, golden: Path
) -> None:
    """What the judge found is not forgotten when the report is made."""
    leave_to_judge(cli, vendor_server)
    for _ in range(2):
        [cheap] = evaluate(cli, "--model", CHEAP)["models"]
        assert (cheap["scored"], cheap["correct"]) == (COUNT, COUNT - 3)
        assert cheap["judging_usd"] > 0
    judged = [line for line in vendor_server.bill if line.model.startswith(DEAR)]
    assert len(judged) == COUNT


def test_judging_that_a_cap_stops_is_unfinished_and_goes_on_with_the_same_command(
    cli: Cli, vendor_server: VendorServer, golden: Path
) -> None:
    leave_to_judge(cli, vendor_server)
    words = ("evaluate", "--task", "./cards", "--golden", "known/golden.jsonl", "--model", CHEAP)
    cli.env["BATCHER_CONCURRENCY"] = "1"
    picture = cli.folder / "cost.svg"
    capped = cli(*words, "--max-cost", "0.006", "--picture", picture, code=4)
    assert "No verdict yet: no model's answers are all judged" in capped.out
    state = cli("status", 1, "--json").json["judging"]
    assert 0 < state["judged"] < COUNT
    left = f"{state['waiting']} of {COUNT} answers are not judged yet (budget: "
    assert left in capped.out
    assert "See: batcher status 1; then start this again." in capped.out
    so_far = f"{state['judged']} of {COUNT} judged so far"
    assert capped.out.count(so_far) == 3, "in the verdict, among what belongs to it, and in the table"
    assert f"Not drawn: {CHEAP} ({so_far})" in picture.read_text()
    assert cli("status", 1, "--json").json["accuracy"] is None
    [cheap] = evaluate(cli, "--model", CHEAP)["models"]
    assert (cheap["scored"], cheap["judging"]["waiting"]) == (COUNT, 0)
    judged = [line for line in vendor_server.bill if line.model.startswith(DEAR)]
    assert len(judged) == COUNT, "nothing is judged twice"


def test_a_judge_that_does_not_exist_is_told_before_anything_is_paid(
    cli: Cli, vendor_server: VendorServer, golden: Path
) -> None:
    leave_to_judge(cli, vendor_server, "nosuch")
    told = "There is no tier and no model 'nosuch' that could judge"
    checked = cli("tasks", "check", "./cards", code=None)
    assert (checked.code != 0, told in checked.out) == (True, True)
    words = ("--task", "./cards", "--golden", "known/golden.jsonl", "--model", CHEAP)
    for command in (("evaluate",), ("submit", "known")):
        assert told in cli(*command, *words, code=3).err
    leave_to_judge(cli, vendor_server, "claude-haiku-4-5")
    assert "ANTHROPIC_API_KEY" in cli("evaluate", *words, code=3).err
    assert vendor_server.totals()["calls"] == 0
    assert cli("jobs", "--json").json == []


def test_a_corrected_judge_is_taken_by_resume(cli: Cli, vendor_server: VendorServer, golden: Path) -> None:
    """Its answers wait for a key; a name that is gone from the catalogue stands for one that never was."""
    leave_to_judge(cli, vendor_server, "claude-haiku-4-5")
    words = ("known", "--task", "./cards", "--golden", "known/golden.jsonl")
    assert cli("plan", *words, "--json").json["items"]["read"] == COUNT, "the golden file is no document"
    cli("submit", *words, code=None)
    with closing(sqlite3.connect(cli.home / "batcher.db")) as store:
        store.execute("update jobs set sampling = replace(sampling, 'claude-haiku-4-5', 'nosuch')")
        store.commit()
    leave_to_judge(cli, vendor_server)
    resumed = cli("resume", 1, "--json")
    assert f"Job 1: its answers are judged by {DEAR}, as its task now says." in resumed.err
    assert resumed.json["judging"]["judged"] == COUNT


def test_another_rubric_or_judge_leads_to_new_verdicts_and_the_former_ones_are_kept(
    cli: Cli, vendor_server: VendorServer, golden: Path
) -> None:
    leave_to_judge(cli, vendor_server)
    task = cli.folder / "cards" / "task.py"
    plain = task.read_text()

    def verdicts(code: str, judge: str) -> int:
        """The calls to a judge that an evaluation needs while the task reads so."""
        task.write_text(code)
        before = sum(line.model.startswith(judge) for line in vendor_server.bill)
        outcome = cli(
            *("evaluate", "--task", "./cards", "--golden", "known/golden.jsonl", "--model", CHEAP),
            *("--max-cost", "1", "--json"),
        )
        [cheap] = outcome.json["models"]
        assert (cheap["scored"], cheap["judging"]["judged"]) == (COUNT, COUNT)
        calls = sum(line.model.startswith(judge) for line in vendor_server.bill) - before
        anew = f"Job 1, {CHEAP}: {COUNT} verdicts are of another judge or rubric than the task's"
        assert (anew in outcome.err) == (code != last), outcome.err
        assert (f"judging about {COUNT} answers by {judge}" in outcome.err) == (code != last)
        return calls

    last = plain  # there is nothing to be judged anew
    cli("evaluate", "--task", "./cards", "--golden", "known/golden.jsonl", "--model", CHEAP)
    assert verdicts(plain, DEAR) == 0
    strict = plain.replace("version=1", 'version=1, rubric="A bridge is right."')
    assert verdicts(strict, DEAR) == COUNT
    last = strict
    assert verdicts(strict, DEAR) == 0
    assert verdicts(strict.replace(DEAR, "gpt-4o"), "gpt-4o") == COUNT
    assert verdicts(plain, DEAR) == 0, "what a judge said by the same rubric is stored"


def leave_to_judge(cli: Cli, vendor_server: VendorServer, judge: str = DEAR) -> None:
    """The task's answers are scored by a judge, the dear model, who finds the bridges wrong."""
    task = cli.folder / "cards" / "task.py"
    code = task.read_text()
    scorer = code[code.index("    scorer=") : code.index("correct_at=")]
    task.write_text(code.replace(scorer, f'    scorer=scorers.judged(by="{judge}"), '))

    def decide(call: Call) -> Fault | None:
        if not call.model.startswith(CHEAP):
            right = "Bridge" not in call.text
            return Fault(
                text=json.dumps({"correct": right, "score": float(right), "reason": "seen"}), times=None
            )
        return None

    vendor_server.on_call(decide)


@pytest.mark.parametrize("option", ["--floor", "--confidence"])
def test_nan_is_no_share(cli: Cli, golden: Path, option: str) -> None:
    words = ("evaluate", "--task", "./cards", "--golden", "known/golden.jsonl", option, "nan")
    assert "finite" in cli(*words, code=2).err
    assert "finite" in cli("submit", "known", "--task", "./cards", "--floor", "nan", code=2).err


def by_model(report: Any) -> dict[str, Any]:
    return {model["model"]: model for model in report["models"]}


def paid_usd(vendor: VendorServer, model: str) -> float:
    return sum(line.cost_nusd for line in vendor.bill if line.billed and line.model.startswith(model)) / 1e9


def test_both_models_are_measured_and_the_cheapest_that_clears_the_floor_is_named(
    cli: Cli, vendor_server: VendorServer, golden: Path
) -> None:
    report = evaluate(cli, "--model", CHEAP, "--model", DEAR, "--floor", 0.6, "--monthly", 1000)
    cheap, dear = (by_model(report)[name] for name in (CHEAP, DEAR))
    assert (cheap["correct"], cheap["scored"], dear["correct"], dear["scored"]) == (17, 20, 20, 20)
    assert (cheap["accuracy"]["share"], dear["accuracy"]["share"]) == (0.85, 1.0)
    assert cheap["accuracy"]["low"] == pytest.approx(0.6396, abs=1e-4)  # Wilson, by R's prop.test formula
    assert cheap["fields"] == {"pages": 0.85, "title": 0.85}
    assert cheap["valid_at_once"]["share"] == 1.0
    assert cheap["cost_usd"] == pytest.approx(paid_usd(vendor_server, CHEAP), abs=1e-8)
    assert cheap["cost_per_correct_usd"] == pytest.approx(cheap["cost_usd"] / 17)
    assert cheap["monthly_usd"] == pytest.approx(cheap["cost_usd"] / 20 * 1000)
    assert 0 < cheap["latency_p50_s"] <= cheap["latency_p95_s"]
    assert report["chosen"] == CHEAP
    assert report["best"] == DEAR
    [switch] = report["switches"]
    assert (switch["from"], switch["to"], switch["only_from"], switch["only_to"]) == (DEAR, CHEAP, 3, 0)
    assert switch["difference"] == pytest.approx(-0.15)
    assert switch["mcnemar_p"] == pytest.approx(0.25)
    assert switch["within_5_points"] == "open"
    assert [row["purpose"] for row in cli("spend", "--by", "purpose", "--json").json] == ["golden"]


def test_a_second_run_asks_nothing_and_says_the_same(
    cli: Cli, vendor_server: VendorServer, golden: Path
) -> None:
    vendor_server.add_fault(model=CHEAP_ID, contains="number 9 about", text="no JSON", times=1)
    first = evaluate(cli, "--model", CHEAP)
    calls = vendor_server.totals()["calls"]
    assert calls == COUNT + 1
    assert by_model(first)[CHEAP]["valid_at_once"]["share"] == pytest.approx(19 / 20)
    assert first["spent_usd"] == pytest.approx(paid_usd(vendor_server, CHEAP), abs=1e-8)
    second = evaluate(cli, "--model", CHEAP)
    assert vendor_server.totals()["calls"] == calls
    assert second["spent_usd"] == 0
    assert second["models"] == first["models"]
    assert second["verdict"] == first["verdict"]
    # Another golden file is another job, whose answers are those of the first: cost and all.
    row = {"id": "t", "text": "number", "expected": {"title": "River"}}
    golden.write_text(golden.read_text() + "\n" + json.dumps(row))
    third = evaluate(cli, "--model", CHEAP, code=None)
    assert vendor_server.totals()["calls"] == calls + 1
    assert by_model(third)[CHEAP]["cost_usd"] > first["models"][0]["cost_usd"]
    assert by_model(third)[CHEAP]["valid_at_once"]["share"] == pytest.approx(20 / 21)


def test_what_a_submission_paid_for_is_not_paid_again(
    cli: Cli, vendor_server: VendorServer, golden: Path
) -> None:
    cli("submit", "known/001.txt", "known/002.txt", "--task", "./cards")
    paid = paid_usd(vendor_server, CHEAP)
    report = evaluate(cli, "--model", CHEAP)
    assert vendor_server.totals()["calls"] == COUNT
    assert by_model(report)[CHEAP]["cost_usd"] == pytest.approx(paid_usd(vendor_server, CHEAP), abs=1e-8)
    assert report["spent_usd"] == pytest.approx(paid_usd(vendor_server, CHEAP) - paid, abs=1e-8)


def test_killed_in_the_middle_it_goes_on_and_pays_nothing_twice(
    cli: Cli, vendor_server: VendorServer, golden: Path
) -> None:
    vendor_server.configure(latency_s=0.3)
    cli.env["BATCHER_CONCURRENCY"] = "2"
    process = cli.start("evaluate", "--task", "./cards", "--golden", "known/golden.jsonl", "--model", CHEAP)
    vendor_server.wait_for_calls(8, finished=True)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    asked = vendor_server.totals()["calls"]
    vendor_server.configure(latency_s=0)
    report = evaluate(cli, "--model", CHEAP, code=None)
    assert by_model(report)[CHEAP]["scored"] == COUNT
    again = vendor_server.totals()["calls"] - COUNT
    # At most what was in flight, and one group of answers that was not on disk yet.
    assert 0 <= again <= 4
    assert asked < COUNT
    assert [job["items"]["done"] for job in cli("jobs", "--json").json] == [COUNT]


def test_the_cap_is_shared_and_holds(cli: Cli, vendor_server: VendorServer, golden: Path) -> None:
    report = evaluate(cli, "--model", CHEAP, "--model", DEAR, "--max-cost", "0.003", code=4)
    spent = sum(line.cost_nusd for line in vendor_server.bill if line.billed)
    assert 0 < spent <= 3_000_000
    measured = by_model(report)
    assert measured[CHEAP]["scored"] > 0
    assert measured[DEAR]["waiting"] > 0
    caps = [job["reason"] for job in cli("jobs", "--json").json if job["reason"]]
    assert caps
    assert all("cap of job" in reason for reason in caps)
    done = evaluate(cli, "--model", CHEAP, "--model", DEAR, "--max-cost", "1")
    assert {found["scored"] for found in done["models"]} == {COUNT}


def test_the_report_for_people_and_the_picture(cli: Cli, golden: Path) -> None:
    outcome = cli(
        *("evaluate", "--task", "./cards", "--golden", "known/golden.jsonl"),
        *("--model", CHEAP, "--model", DEAR, "--floor", "0.6", "--picture", "cost.svg"),
    )
    first = outcome.out.splitlines()[0]
    assert first.startswith(
        f"{CHEAP} is the cheapest model that clears the floor of 60 % with 95 % confidence"
    )
    assert "accuracy 85.0 % (64.0 to 94.8 %, 20 scored)" in first
    assert "per correct answer" in first
    assert f"Switching to {CHEAP} from {DEAR}, the most accurate, costs 15.0 points" in outcome.out
    assert f"{CHEAP}: 20 of 20 documents to ask" in outcome.err
    assert "Price of all: about $" in outcome.err
    picture = (cli.folder / "cost.svg").read_text()
    root = ET.fromstring(picture)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert CHEAP in picture
    assert "prefers-color-scheme: dark" in picture
    assert "cards (golden)" in cli("jobs").out


def test_golden_jobs_hide_no_submission_and_end_without_an_alert(cli: Cli, golden: Path) -> None:
    (cli.home / "batcher.toml").write_text(CONFIG + "\n[alert_rules]\njob_done = true\n")
    cli("submit", "known/001.txt", "--task", "./cards")
    before = cli("alerts", "list", "--json").json
    assert {alert["rule"] for alert in before} >= {"job_done"}
    evaluate(cli, "--model", DEAR)
    assert cli("alerts", "list", "--json").json == before
    assert cli("status", "--json").json["job_id"] == 1
    assert [job["purpose"] for job in cli("jobs", "--json").json] == ["golden", "answer"]


def test_documents_are_found_under_paths_and_rows_without_one_are_named(cli: Cli, golden: Path) -> None:
    elsewhere = cli.folder / "labels.jsonl"
    rows = [{"file": f"somewhere/{n:03}.txt", "expected": RIGHT} for n in (1, 2, 777)]
    elsewhere.write_text("\n".join(map(json.dumps, rows)))
    words = ("evaluate", "--task", "./cards", "--golden", "labels.jsonl", "--model", CHEAP, "--json")
    outcome = cli(*words, "known")
    assert (outcome.json["documents"], outcome.json["left_out"]) == (2, 1)
    assert "1 of 3 golden rows left out: somewhere/777.txt (line 3)" in outcome.err
    missing = cli(*words, code=2)
    assert "No row of labels.jsonl has a document that can be read" in missing.err


def test_the_models_of_the_ladder_are_the_default(cli: Cli, golden: Path) -> None:
    assert [model["model"] for model in evaluate(cli, "--limit", 3)["models"]] == [CHEAP]


def test_a_price_that_is_not_agreed_to_spends_nothing(
    cli: Cli, vendor_server: VendorServer, golden: Path
) -> None:
    cli.env["BATCHER_CONFIRM_ABOVE_USD"] = "0"
    words = ["evaluate", "--task", "./cards", "--golden", "known/golden.jsonl"]
    screen, code = cli.on_terminal([*words, "--model", CHEAP, "--model", DEAR], b"n\n")
    assert code == 1
    assert "Go on?" in screen
    assert "Jobs 1, 2 are paused" in screen
    assert vendor_server.totals()["calls"] == 0
    assert evaluate(cli, "--model", CHEAP)["models"][0]["scored"] == COUNT


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--model", "gpt-4o-minni"], 2, "Did you mean gpt-4o-mini"),
        (["--tier", "cheapest"], 2, "There is no tier 'cheapest'"),
        (["--tier", "premium", "--picture", "out.png"], 2, "ends in .svg"),
        (["--picture", "nowhere/out.svg"], 2, "there is no folder"),
        (["-"], 2, "Standard input cannot be read once for each model"),
        (["nowhere"], 2, "There is no file or folder 'nowhere'"),
        (["--floor", "85"], 2, "--floor"),
        (["--model", "claude-haiku-4-5"], 3, "ANTHROPIC_API_KEY"),
    ],
)
def test_mistakes_are_told_before_anything_is_stored(
    cli: Cli, vendor_server: VendorServer, golden: Path, words: list[str], code: int, told: str
) -> None:
    outcome = cli("evaluate", "--task", "./cards", "--golden", "known/golden.jsonl", *words, code=code)
    assert told in outcome.err
    assert vendor_server.totals()["calls"] == 0
    assert cli("jobs", "--json").json == []


def test_the_same_outcome_has_the_same_exit_code_and_names_the_retry_that_mends_it(
    cli: Cli, vendor_server: VendorServer, golden: Path
) -> None:
    vendor_server.add_fault(model=CHEAP_ID, contains="number 9 about", status=400, times=1)
    words = ("evaluate", "--task", "./cards", "--golden", "known/golden.jsonl", "--model", CHEAP)
    for _ in range(2):
        told = cli(*words, code=1).out
        assert "1 without an answer, which counts as wrong (bad_request 1)" in told
        assert "batcher retry 1 --class bad_request; then start this again" in told
    cli("retry", 1, "--class", "bad_request")
    assert "without an answer" not in cli(*words).out


def test_the_cap_is_of_the_evaluation_and_not_of_each_start(
    cli: Cli, vendor_server: VendorServer, golden: Path
) -> None:
    for _ in range(3):
        evaluate(cli, "--model", CHEAP, "--max-cost", "0.001", code=4)
    assert 0 < paid_usd(vendor_server, CHEAP) <= 0.001
    outcome = cli(
        *("evaluate", "--task", "./cards", "--golden", "known/golden.jsonl", "--model", CHEAP),
        *("--max-cost", "0.0000001"),
        code=4,
    )
    assert "already, which is all of --max-cost: go on with a larger one." in outcome.err
    assert evaluate(cli, "--model", CHEAP, "--max-cost", "1")["models"][0]["scored"] == COUNT


def test_a_scorer_that_fails_is_told_before_anything_is_paid(
    cli: Cli, vendor_server: VendorServer, golden: Path
) -> None:
    task = cli.folder / "cards" / "task.py"
    task.write_text(task.read_text().replace('"pages": scorers.exact', '"pages": lambda e, o: 1 / 0'))
    for command in (("evaluate", "--model", CHEAP), ("submit", "known/001.txt")):
        told = cli(*command, "--task", "./cards", "--golden", "known/golden.jsonl", code=None)
        assert told.code != 0
        assert "golden.jsonl, line 1: The scorer of task 'cards'" in told.err
    assert vendor_server.totals()["calls"] == 0
