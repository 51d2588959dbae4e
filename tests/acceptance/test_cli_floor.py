"""``--floor`` as a user gives it: what plan, submit and status say, what is refused, where text may go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.fast_models import TWO_TIERS
from tests.support.vendor_server import VendorServer

from .conftest import Cli

TASK = """
from pydantic import BaseModel
from batcher.tasks import Task, scorers

class Answer(BaseModel):
    title: str

task = Task(
    name="routed", version=1, prompt="Make a card.", output=Answer, scorer={"title": scorers.exact},
    tier="premium", ladder=("economy", "premium"), max_output_tokens=100, floor=0.7,
)
"""

CONFIG = (
    TWO_TIERS
    + """
[providers.ours]
base_url = "http://127.0.0.1:9/v1"
api_key_env = ""

[models.our-model]
provider = "ours"
id = "our-1"
input = 0
output = 0
context = 32000
"""
)


@pytest.fixture(autouse=True)
def _routed(cli: Cli, vendor_server: VendorServer) -> None:
    (cli.folder / "routed").mkdir()
    (cli.folder / "routed" / "task.py").write_text(TASK)
    (cli.folder / "batcher.toml").write_text(CONFIG)
    vendor_server.configure(answers=[["number", json.dumps({"title": "River"})]])


def golden(cli: Cli, count: int) -> Path:
    rows = [{"file": f"{n:03}.txt", "expected": {"title": "River"}} for n in range(1, count + 1)]
    path = cli.folder / "golden.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def submit(cli: Cli, *words: str | Path | float, code: int | None = 0) -> Any:
    return cli("submit", "docs", "--task", "./routed", *map(str, words), "--json", code=code)


def document_usd(told: str) -> float:
    """What a document costs, as the reason of a choice says."""
    return float(told.split("does the work at about $", 1)[1].split(" ", 1)[0])


def test_the_cheap_model_proves_itself_and_takes_over(cli: Cli) -> None:
    cli.documents(60)
    planned = cli("plan", "docs", "--task", "./routed", "--floor", "0.7")
    assert "Plan of routed with a floor of 70 %, gpt-4o" in planned.out
    assert "gpt-4o, which the task states, does the work until a cheaper model is known" in planned.out
    found = submit(cli, "--floor", 0.7, "--golden", golden(cli, 50))
    routing = found.json["routing"]
    assert (routing["model"], routing["stated_model"], routing["floor"]) == ("gpt-4o-mini", "gpt-4o", 0.7)
    assert [move["model"] for move in routing["moves"]] == ["gpt-4o", "gpt-4o-mini"]
    assert routing["saved_usd"] > 0
    assert found.json["models"]["gpt-4o-mini"] >= 45
    assert found.json["digest"]["routing"] == routing
    assert "gpt-4o, which the task states, does the work until" in found.err
    told = cli("status").out
    assert "Job 1 done: routed routed with a floor of 70 %, gpt-4o-mini, 60 documents" in told
    assert "  routing   gpt-4o-mini does the work at about $" in told
    assert "  saving    $" in told
    again = cli("plan", "docs", "--task", "./routed", "--floor", "0.7", "--refresh")
    assert "Plan of routed with a floor of 70 %, gpt-4o-mini" in again.out
    each = document_usd(again.out)
    chosen = cli("plan", "docs", "--task", "./routed", "--floor", "0.7", "--refresh", "--json").json["chosen"]
    assert chosen["likely_usd"] / 60 == pytest.approx(each, rel=0.02), "the documents are known: no guess"
    begun = submit(cli, "--floor", 0.7, "--refresh")
    assert document_usd(begun.err) == pytest.approx(each, rel=0.1), "those before tell what one costs"


def test_the_heading_names_who_did_the_work(cli: Cli) -> None:
    """Known answers go to the candidate: here all documents, with the stated model in force to the end."""
    cli.documents(12)
    submit(cli, "--floor", 0.98, "--golden", golden(cli, 12))
    told = cli("status").out
    assert "gpt-4o, which the task states, does the work until" in told
    assert "Job 1 done: routed routed with a floor of 98 %, gpt-4o-mini, 12 documents" in told


def test_an_unfinished_job_is_taken_up_with_another_floor(cli: Cli) -> None:
    cli.documents(4)
    paused = submit(cli, "--floor", 0.7, "--max-cost", 0.000001, code=4).json
    assert (paused["state"], paused["routing"]["floor"]) == ("paused", 0.7)
    taken = submit(cli, "--floor", 0.95, "--max-cost", 1).json
    assert (taken["job_id"], taken["taken_up"], taken["state"]) == (paused["job_id"], True, "done")
    assert taken["routing"]["floor"] == 0.95
    assert [move["model"] for move in taken["routing"]["moves"]] == ["gpt-4o"]


def test_a_floor_in_settings_or_task_alone_routes_only_where_it_is_asked_for(cli: Cli) -> None:
    cli.documents(3)
    assert submit(cli).json["routing"] is None
    cli.env["BATCHER_ROUTING"] = '{"route": true}'
    assert submit(cli).json["routing"]["floor"] == 0.7
    assert submit(cli, "--model", "gpt-4o").json["routing"] is None


def test_private_documents_go_to_no_vendor(cli: Cli, vendor_server: VendorServer) -> None:
    cli.documents(3)
    refused = submit(cli, "--floor", 0.7, "--privacy", "strict", code=3)
    assert (
        "gpt-4o of tier premium answers at a vendor. With --privacy strict only models on your own machines"
        " count: name their tier with --tier" in refused.err
    ), "it has its key"
    text = CONFIG.replace('premium = ["gpt-4o"]', 'premium = ["our-model", "gpt-4o"]')
    (cli.folder / "batcher.toml").write_text(text)
    found = cli("plan", "docs", "--task", "./routed", "--floor", "0.7", "--privacy", "strict")
    assert "our-model" in found.out
    judged = submit(cli, "--floor", 0.7, "--privacy", "strict", "--judge", "gpt-4o", code=3).err
    assert (
        "gpt-4o, which is to judge, answers at a vendor. With --privacy strict only models on your" in judged
    )
    assert "name one of them with --judge, or --judge none" in judged
    assert "OPENAI_API_KEY" not in judged
    assert vendor_server.totals()["calls"] == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--floor", "0.7", "--model", "gpt-4o"), "leave --model out"),
        (("--privacy", "standard"), "give --floor"),
        (("--max-latency", "2"), "give --floor"),
        (("--floor", "0.7", "--rehearse"), "leave --floor out"),
        (("--floor", "1.7"), "1.7"),
        (("--floor", "0.7", "--privacy", "secret"), "secret"),
    ],
)
def test_what_makes_no_sense_is_refused(cli: Cli, words: tuple[str, ...], why: str) -> None:
    cli.documents(1)
    assert why in submit(cli, *words, code=2).err


def test_a_tier_off_the_ladder_stands_alone_and_that_is_said(cli: Cli) -> None:
    cli.documents(1)
    (cli.folder / "batcher.toml").write_text(CONFIG.replace("[tiers]", '[tiers]\nextra = ["gpt-4.1-mini"]'))
    found = submit(cli, "--floor", 0.7, "--tier", "extra")
    assert (
        "Tier extra is not on the ladder of task routed (economy, premium): the floor chooses among the "
        "models of that tier alone. Leave --tier out" in found.err
    )
    assert found.json["routing"]["reason"] == (
        "gpt-4.1-mini, which --tier extra states, does the work until a cheaper model is known to reach 70 %;"
        " there is none"
    )
    slow = submit(cli, "--floor", 0.7, "--tier", "extra", "--max-latency", 0.001, code=3)
    assert "No model of tier extra may do the work: gpt-4.1-mini: a call takes about" in slow.err
    assert "name another tier with --tier" in slow.err


def test_a_plan_without_a_key_is_routed_as_if_there_were_one(cli: Cli) -> None:
    cli.documents(1)
    del cli.env["OPENAI_API_KEY"]
    found = cli("plan", "docs", "--task", "./routed", "--floor", "0.7")
    assert "Planned as if there were a key for every model" in found.err
    assert "gpt-4o, which the task states, does the work until a cheaper model is known" in found.out


def test_too_slow_for_the_limit(cli: Cli) -> None:
    cli.documents(1)
    found = submit(cli, "--floor", 0.7, "--max-latency", 0.001, code=3)
    assert "No model of the ladder economy, premium may do the work" in found.err
    assert "0.001 s are allowed" in found.err
