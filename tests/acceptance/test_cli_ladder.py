"""A learned ladder: calibrated on known answers, climbed by new documents, and never paid for twice."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from batcher.simulator.faults import Fault
from batcher.simulator.requests import Call
from tests.support.vendor_server import VendorServer

from .conftest import CONFIG, TASK, Cli

CHEAP, DEAR = "gpt-4o-mini", "gpt-4.1"
CHEAP_ID = "gpt-4o-mini-2024-07-18"
RIGHT = {"title": "River", "pages": 3, "author": {"name": "A", "age": 1}, "tags": []}
WRONG = {**RIGHT, "title": "Bridge", "pages": 9}
WORDS = [
    "ledger",
    "harvest",
    "window",
    "copper",
    "garden",
    "letter",
    "market",
    "signal",
    "winter",
    "bottle",
    "engine",
    "paper",
]


def make_documents(folder: Path, count: int, seed: int, filler: str = "") -> list[str]:
    """Half of them are tricky, which the cheap model gets wrong; returns the tricky ones' names."""
    draw = random.Random(seed)
    folder.mkdir()
    tricky = []
    for number in range(count):
        words = draw.choices(WORDS, k=30)
        if number % 2:
            words.insert(draw.randrange(30), "notwithstanding hereinafter provided")
            tricky.append(f"{number:03}.txt")
        (folder / f"{number:03}.txt").write_text(f"Paper {seed}-{number}. " + " ".join(words) + filler)
    return tricky


@pytest.fixture
def known(cli: Cli, vendor_server: VendorServer) -> Path:
    """160 known documents; the dear model is always right, the cheap one on those that are not tricky."""
    folder = cli.folder / "known"
    make_documents(folder, 160, seed=1)
    rows = [{"file": f"{n:03}.txt", "expected": {"title": "River", "pages": 3}} for n in range(160)]
    (folder / "golden.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def decide(call: Call) -> Fault | None:
        is_wrong = call.model == CHEAP_ID and "hereinafter" in call.text
        return Fault(text=json.dumps(WRONG if is_wrong else RIGHT), times=None)

    vendor_server.on_call(decide)
    limits = f'[models."{DEAR}"]\nrpm = 1000000\ntpm = 1000000000\n'
    (cli.folder / "batcher.toml").write_text(f"{CONFIG}\n{limits}")
    return folder


def learn(cli: Cli, *words: str | int | float, code: int | None = 0) -> Any:
    golden = ("--golden", "known/golden.jsonl", "--model", CHEAP, "--model", DEAR)
    return cli("ladder", "learn", "--task", "./cards", *golden, *words, "--json", code=code).json


def test_a_ladder_is_learned_shown_and_climbed(cli: Cli, vendor_server: VendorServer, known: Path) -> None:
    learned = learn(cli, "--accuracy", 0.95)
    assert [step["model"] for step in learned["steps"]] == [CHEAP, DEAR]
    assert learned["reached"]
    assert learned["evidence"]["accuracy"] > 0.95
    models = {one["model"]: one for one in learned["evidence"]["models"]}
    assert learned["evidence"]["cost_usd"] < 0.75 * models[DEAR]["cost_usd"]
    assert cli("ladder", "show", "--task", "./cards", "--json").json == learned
    vendor_server.clear_bill()
    assert learn(cli, "--accuracy", 0.95, "--judge", "none")["steps"] == learned["steps"]
    assert vendor_server.bill == [], "what is measured is not measured again"

    missed = learn(cli, "--spend", "0.0000001", code=1)
    task = cli.folder / "cards"
    again = f"batcher ladder learn --task {task} --golden FILE --accuracy 0.95 --model {CHEAP} --model {DEAR}"
    former = {"ladder": 2, "target": "accuracy 95.0%", "reached": True, "learn_again": again}
    assert (missed["reached"], missed["in_place_of"]) == (False, former)
    shown = cli("ladder", "show", "--task", "./cards").out
    assert (
        "It is in force, in place of ladder 2, for accuracy 95.0%. To learn that one again, from what"
        in shown
    )
    assert learn(cli, "--accuracy", 0.95)["in_place_of"]["reached"] is False

    tricky = make_documents(cli.folder / "fresh", 60, seed=2)
    learned_usd = 60 * learned["evidence"]["cost_usd"]
    words = ("fresh", "--task", "./cards", "--learned-ladder")
    planned = cli("plan", *words, "--json").json
    assert planned["chosen"]["steps"] == [CHEAP, DEAR]
    assert planned["chosen"]["likely_usd"] == pytest.approx(learned_usd, rel=1e-3)
    told = cli("plan", *words).out
    assert f"on learned ladder 4, {CHEAP} > {DEAR}: 60 documents read" in told
    assert "a document over all steps, measured on 160 known answers" in told
    submitted = ("submit", *words, "--yes")
    made = cli(*submitted, "--json")
    assert f"Learned ladder 4, {CHEAP} > {DEAR}: " in made.err
    assert made.json["estimate"]["likely_usd"] == pytest.approx(learned_usd, rel=1e-3)
    assert abs(made.json["estimate"]["difference"]) < 0.15
    calls = [line.model for line in vendor_server.bill]
    assert len([name for name in calls if name != CHEAP_ID]) in range(len(tricky) - 2, len(tricky) + 6)
    results = [json.loads(line) for line in cli("results", "--format", "jsonl").out.splitlines()]
    assert len(results) == 60
    right = [row for row in results if row["output"]["title"] == "River"]
    assert len(right) >= 58
    assert {row["model"] for row in results if Path(row["source"]).name in tricky} == {DEAR}
    vendor_server.clear_bill()
    cli(*submitted)
    assert vendor_server.bill == [], "a second submission asks nobody"


def test_an_answer_that_gives_itself_away_climbs_and_the_ledger_is_the_bill(
    cli: Cli, vendor_server: VendorServer, known: Path
) -> None:
    """No text says which documents the cheap model gets wrong: its answers do."""

    def decide(call: Call) -> Fault | None:
        number = int(call.text.partition("Paper ")[2].split(".")[0].partition("-")[2])
        is_wrong = call.model == CHEAP_ID and number % 7 in {2, 5}
        return Fault(text=json.dumps(WRONG if is_wrong else RIGHT), times=None)

    vendor_server.on_call(decide)
    learn(cli, "--accuracy", 0.95)
    make_documents(cli.folder / "fresh", 28, seed=3)
    cli("submit", "fresh", "--task", "./cards", "--learned-ladder", "--yes")
    assert "cards on learned ladder 1, 28 documents" in cli("status").out
    by_purpose = {row["purpose"]: row for row in cli("spend", "--by", "purpose", "--json").json}
    assert by_purpose["answer"]["calls"] == 28
    assert by_purpose["escalation"]["calls"] == 8
    booked = sum(row["booked_usd"] for row in by_purpose.values())
    assert booked == pytest.approx(sum(line.cost_nusd for line in vendor_server.bill) / 1e9, abs=1e-12)
    results = [json.loads(line) for line in cli("results", "--format", "jsonl").out.splitlines()]
    assert {row["output"]["title"] for row in results} == {"River"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("ladder", "learn", "--task", "./cards", "--golden", "known/golden.jsonl"), "either --accuracy"),
        (("ladder", "show", "--task", "./cards"), "No ladder was learned"),
        (("submit", "known", "--task", "./cards", "--learned-ladder"), "batcher ladder learn"),
        (
            ("submit", "known", "--task", "./cards", "--learned-ladder", "--model", CHEAP),
            "leave --model and --floor out",
        ),
        (
            ("submit", "known", "--task", "./cards", "--learned-ladder", "--tier", "premium"),
            "leave --tier out",
        ),
        (
            ("plan", "known", "--task", "./cards", "--learned-ladder", "--max-latency", "2"),
            "--max-latency is for routed jobs",
        ),
    ],
)
def test_what_cannot_be_done_is_said(cli: Cli, known: Path, words: tuple[str, ...], told: str) -> None:
    assert told in cli(*words, code=2).err


STAGED = (
    TASK.replace("import Task", "import Stage, Task", 1)
    + """
import dataclasses
task = dataclasses.replace(task, before=(Stage(name="read", prompt="Read.", output=Answer),))
"""
)


def test_what_no_ladder_can_come_of_is_refused_before_anything_is_paid(
    cli: Cli, vendor_server: VendorServer, known: Path
) -> None:
    said = learn(cli, "--accuracy", 0.9, "--limit", 39, code=2)
    assert said == {
        "error": "--limit 39: a ladder needs at least 40 known answers, better 300",
        "exit_code": 2,
    }
    assert (
        "There is no tier and no model 'nope'"
        in learn(cli, "--accuracy", 0.9, "--judge", "nope", code=2)["error"]
    )
    assert "A spend is more than zero" in learn(cli, "--spend", 0, code=2)["error"]
    golden, task = known / "golden.jsonl", cli.folder / "cards" / "task.py"
    task.write_text(STAGED)
    assert "for a task of one step, and cards has 2" in learn(cli, "--accuracy", 0.9, code=2)["error"]
    for wrong, why in (("1 / 0", "ZeroDivisionError"), ("float('nan')", "returned nan")):
        rows = [{"file": f"{n:03}.txt", "expected": RIGHT} for n in range(40)]
        golden.write_text("\n".join(map(json.dumps, rows)))
        task.write_text(TASK.replace("    tier=", f"    verifier=lambda text, answer: {wrong}, tier=", 1))
        said = learn(cli, "--accuracy", 0.9, code=3)["error"]
        assert "txt: The verifier of task 'cards'" in said
        assert why in said
    golden.write_text("\n".join(golden.read_text().splitlines()[:39]))
    said = learn(cli, "--accuracy", 0.9, code=2)["error"]
    assert said == "39 known documents of text can be learned from; a ladder needs at least 40, better 300"
    assert vendor_server.bill == []
    assert cli("jobs", "--json").json == []


VERIFYING = TASK.replace("    tier=", "    verifier=lambda text, answer: answer['title'] in text, tier=", 1)
JUDGE = "gpt-4.1-mini"
LONG = " copper signal" * 200
"""Reading it is dear, so that a judge that reads at a fifth of the price is worth its call."""


def subtle(call: Call) -> Fault | None:
    """The cheap model names another paper now and then, which neither its answer nor the text gives away."""
    paper = call.text.partition("Paper ")[2].split(".")[0]
    number = int(paper.partition("-")[2])
    if call.model.startswith(JUDGE):
        asked = json.loads(call.text.partition("<answer-")[2].partition(">")[2].partition("</answer-")[0])
        is_right = asked["title"] == f"Paper {paper}"
        verdict = {"reason": "the title", "score": float(is_right), "correct": is_right}
        return Fault(text=json.dumps(verdict), times=None)
    is_wrong = call.model == CHEAP_ID and number * 37 % 100 < 30
    title = f"Paper {paper[::-1]}" if is_wrong else f"Paper {paper}"
    return Fault(text=json.dumps({**RIGHT, "title": title}), times=None)


@pytest.fixture
def subtle_known(cli: Cli, known: Path, vendor_server: VendorServer) -> Path:
    """Known documents whose titles differ, and a judge beside the two models."""
    rows = [{"file": f"{n:03}.txt", "expected": {"title": f"Paper 1-{n}"}} for n in range(160)]
    for path in known.glob("*.txt"):
        path.write_text(path.read_text() + LONG)
    (known / "golden.jsonl").write_text("\n".join(map(json.dumps, rows)))
    limits = f'[models."{JUDGE}"]\nrpm = 1000000\ntpm = 1000000000\n'
    with (cli.folder / "batcher.toml").open("a") as config:
        config.write(limits)
    (cli.folder / "cards" / "task.py").write_text(TASK.replace("correct_at=0.5", "correct_at=1.0"))
    vendor_server.on_call(subtle)
    return known


def climbed(cli: Cli, count: int) -> tuple[int, dict[str, Any]]:
    """Submit fresh documents: how many answers are right, and the spend by purpose."""
    make_documents(cli.folder / "fresh", count, seed=4, filler=LONG)
    cli("submit", "fresh", "--task", "./cards", "--learned-ladder", "--yes")
    results = [json.loads(line) for line in cli("results", "--format", "jsonl").out.splitlines()]
    right = [row["output"]["title"] == f"Paper 4-{int(Path(row['source']).stem)}" for row in results]
    found = cli("spend", "--by", "purpose", "--json").json
    return sum(right), {row["purpose"]: row for row in found}


def test_what_the_task_s_verifier_doubts_climbs(cli: Cli, subtle_known: Path) -> None:
    task = cli.folder / "cards" / "task.py"
    task.write_text(VERIFYING.replace("correct_at=0.5", "correct_at=1.0"))
    learned = learn(cli, "--accuracy", 0.95)
    assert [step["model"] for step in learned["steps"]] == [CHEAP, DEAR]
    assert learned["verifier"]
    right, by_purpose = climbed(cli, 40)
    assert right == 40
    assert by_purpose["escalation"]["calls"] == sum(n * 37 % 100 < 30 for n in range(40))
    task.write_text(task.read_text().replace("answer['title'] in text", "answer['name'] in text"))
    make_documents(cli.folder / "more", 4, seed=5)
    told = cli("submit", "more", "--task", "./cards", "--learned-ladder", "--yes")
    assert "cannot be verified, and climb: The verifier of task 'cards' failed" in told.err
    assert len(cli("results", "--format", "jsonl").lines) == 4
    found = {row["purpose"]: row for row in cli("spend", "--by", "purpose", "--json").json}
    assert found["escalation"]["calls"] == by_purpose["escalation"]["calls"] + 4


def test_what_a_judge_doubts_climbs_and_its_calls_are_on_the_books(
    cli: Cli, vendor_server: VendorServer, subtle_known: Path
) -> None:
    cli("budget", "set", "--daily", "0.03")
    cli("budget", "set", "--daily", 0.03)
    stopped = learn(cli, "--accuracy", 0.95, "--judge", JUDGE, code=4)
    assert stopped["exit_code"] == 4
    assert "No ladder was learned: job" in stopped["error"]
    assert "is paused (budget: " in stopped["error"]
    assert "Raise the cap: batcher budget set --daily AMOUNT, or, where a day's cap has " in stopped["error"]
    cli("budget", "set", "--daily", "none", "--tier", "standard=0.01")
    stopped = learn(cli, "--accuracy", 0.95, "--judge", JUDGE, code=4)
    assert f"No ladder was learned: job 3 ({JUDGE}) is paused (budget: " in stopped["error"]
    assert "batcher budget set --tier standard=AMOUNT" in stopped["error"]
    cli("budget", "set", "--tier", "standard=none")
    learned = learn(cli, "--accuracy", 0.95, "--judge", JUDGE)
    assert [step["model"] for step in learned["steps"]] == [CHEAP, DEAR]
    assert learned["judge"] == JUDGE
    models = {one["model"]: one for one in learned["evidence"]["models"]}
    assert learned["evidence"]["cost_usd"] > models[CHEAP]["cost_usd"] + 0.25 * models[DEAR]["cost_usd"]
    vendor_server.clear_bill()
    assert learn(cli, "--accuracy", 0.95, "--judge", JUDGE)["steps"] == learned["steps"]
    assert vendor_server.bill == [], "what is judged is not judged again"
    before = {row["purpose"]: row for row in cli("spend", "--by", "purpose", "--json").json}
    right, by_purpose = climbed(cli, 40)
    assert right == 40
    assert by_purpose["judge"]["calls"] - before["judge"]["calls"] == 40
    assert by_purpose["escalation"]["calls"] == sum(n * 37 % 100 < 30 for n in range(40))
    booked = sum(row["booked_usd"] for row in by_purpose.values())
    known = sum(row["booked_usd"] for row in before.values())
    bill = sum(line.cost_nusd for line in vendor_server.bill) / 1e9
    assert booked - known == pytest.approx(bill, abs=1e-12)
    refused = cli(*("submit", "fresh", "--task", "./cards", "--learned-ladder", "--judge", JUDGE), code=2).err
    assert "which cannot check them too" in refused
