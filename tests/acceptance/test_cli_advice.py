"""``batcher advise``, ``costs`` and ``breakeven`` as a user runs them, before and after a measured run."""

from __future__ import annotations

import json

import pytest

from tests.support.vendor_server import VendorServer

from .conftest import Cli


def measure(cli: Cli, vendor_server: VendorServer, documents: int) -> None:
    """Run documents of which every answer but the first is right."""
    cli.documents(documents)
    answer = {"title": "River", "pages": 3, "author": {"name": "A", "age": 1}, "tags": []}
    vendor_server.configure(answers=[["number", json.dumps(answer)]])
    right, wrong = {"title": "River", "pages": 3}, {"title": "Sea", "pages": 9}
    rows = [
        {"file": f"docs/{number:03}.txt", "expected": right if number > 1 else wrong}
        for number in range(1, documents + 1)
    ]
    (cli.folder / "golden.jsonl").write_text("\n".join(map(json.dumps, rows)))
    cli("submit", "docs", "--task", "./cards", "--golden", "golden.jsonl", "--json")


def test_measured_answers_override_the_rules(cli: Cli, vendor_server: VendorServer) -> None:
    before = cli("advise", "code", "--task", "./cards", "--floor", "0.8", "--json").json
    assert before["ranked"][0]["model"] == "claude-sonnet-5-5"
    measure(cli, vendor_server, 40)

    after = cli("advise", "code", "--task", "./cards", "--floor", "0.8", "--json").json
    best = after["ranked"][0]
    assert (best["model"], best["standing"], best["scored"]) == ("gpt-4o-mini", "proven", 40)
    assert best["accuracy"] == 39 / 40
    assert best["reasons"][0].startswith("measured, which goes before any rule: accuracy 97.5 %")
    assert best["call_seconds_measured"]
    assert after["need"]["input_tokens"] != 1_500
    assert "per correct answer" in cli("advise", "--task", "./cards", "--floor", "0.8").out

    strict = cli(
        "advise", "code", "--task", "./cards", "--floor", "0.8", "--privacy", "strict", "--json"
    ).json
    assert {found["provider"] for found in strict["ranked"]} == {"local"}

    calls = vendor_server.totals()["calls"]
    table = cli("costs", "--task", "./cards", "--json").json
    mini = next(line for line in table["models"] if line["name"] == "gpt-4o-mini")
    assert (mini["accuracy"], mini["scored"]) == (39 / 40, 40)
    assert mini["accuracy_low"] < mini["accuracy"] < mini["accuracy_high"]
    answer_usd = mini["request_usd"] * (1 + mini["extra_share"])
    assert mini["correct_usd"] == pytest.approx(answer_usd / mini["accuracy"])
    assert "40 scored" in cli("costs", "--task", "./cards").out
    assert vendor_server.totals()["calls"] == calls


def test_costs_and_break_even_need_no_store_and_no_key(cli: Cli) -> None:
    del cli.env["OPENAI_API_KEY"]
    before = sorted(cli.home.iterdir())
    table = cli("costs", "--requests", "1000000", "--input-tokens", 1_500, "--output-tokens", 500).out
    row = next(line for line in table.splitlines() if line.startswith("gpt-4o "))
    assert "$8,750.00" in row
    example = cli(
        "breakeven", "--requests", "1000000", "--tokens", 2_000, "--api-price", "6.25",
        "--gpu-cost", 1_460, "--throughput", 500,
    ).out  # fmt: skip
    assert "$12,500.00" in example
    assert "2 GPUs at $1,460.00 a month" in example
    assert "$2,920.00" in example
    advice = cli("advise", "classification", "--volume", "10000/day").out
    assert "1. gemini-2.5-flash-lite: simple work, more than 5,000 a day" in advice
    assert sorted(cli.home.iterdir()) == before
