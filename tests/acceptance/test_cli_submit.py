"""Submitting: what is done, reused, rejected, refused and reported."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

from tests.support.vendor_server import VendorServer

from .conftest import KEY, Cli


def test_second_submission_reuses_everything_and_costs_nothing(cli: Cli, vendor_server: VendorServer) -> None:
    cli.documents(5)
    first = cli("submit", "docs", "--task", "./cards", "--json").json
    assert first["items"] == first["done"] == 5
    assert first["reused"] == first["rejected"] == first["failed"] == 0
    assert first["state"] == "done"
    assert (first["task"], first["tier"], first["model"]) == ("cards", "economy", "gpt-4o-mini")
    bill = vendor_server.totals()
    assert bill["billed"] == first["calls"] == 5
    expected = (bill["input_tokens"] * 0.15 + bill["output_tokens"] * 0.60) / 1e6
    assert first["cost_usd"] >= expected
    assert first["cost_usd"] - expected < 1e-8

    second = cli("submit", "docs", "--task", "./cards", "--json").json
    assert second["job_id"] == first["job_id"] + 1
    assert second["reused"] == second["done"] == 5
    assert second["cost_usd"] == 0
    assert vendor_server.totals()["calls"] == 5
    assert [line["output"] for line in cli("results", 1).lines] == [
        line["output"] for line in cli("results", 2).lines
    ]


def test_refresh_asks_anew_and_limit_stops_reading(cli: Cli, vendor_server: VendorServer) -> None:
    cli.documents(4)
    assert cli("submit", "docs", "--task", "./cards", "--limit", 2, "--json").json["items"] == 2
    outcome = cli("submit", "docs", "--task", "./cards", "--limit", 2, "--refresh", "--json").json
    assert outcome["reused"] == 0
    assert outcome["done"] == 2
    assert vendor_server.totals()["calls"] == 4


def test_same_content_twice_is_one_paid_call_and_two_results(cli: Cli, vendor_server: VendorServer) -> None:
    folder = cli.documents(1)
    (folder / "copy.txt").write_text((folder / "001.txt").read_text())
    outcome = cli("submit", "docs", "--task", "./cards", "--json").json
    assert outcome["done"] == 2
    assert vendor_server.totals()["calls"] == 1
    first, second = cli("results", 1).lines
    assert first["output"] == second["output"]
    assert sorted([first["attempts"], second["attempts"]]) == [0, 1]


def test_rejected_documents_have_their_reason_and_make_exit_code_1(cli: Cli) -> None:
    folder = cli.documents(2)
    (folder / "empty.txt").write_text("")
    outcome = cli("submit", "docs", "--task", "./cards", "--json", code=1).json
    assert outcome["items"] == 3
    assert outcome["rejected"] == 1
    assert outcome["rejected_by_reason"] == {"empty": 1}
    rejected = [line for line in cli("results", 1).lines if line["status"] == "rejected"]
    assert [(line["source"], line["error_class"]) for line in rejected] == [("docs/empty.txt", "empty")]
    assert rejected[0]["error"]


def test_report_for_people(cli: Cli) -> None:
    cli.documents(2)
    outcome = cli("submit", "docs", "--task", "./cards")
    assert "Job 1 done: cards on tier economy, 2 documents" in outcome.out
    assert "of $5.00 spent" in outcome.out
    assert "batcher results 1 -o results.jsonl" in outcome.out
    assert "Price of 2 calls" in outcome.err
    assert KEY not in outcome.out + outcome.err


def test_golden_file_gives_accuracy_with_its_interval(cli: Cli, vendor_server: VendorServer) -> None:
    cli.documents(4)
    answer = {"title": "River", "pages": 3, "author": {"name": "A", "age": 1}, "tags": []}
    vendor_server.configure(answers=[["number", json.dumps(answer)]])
    rows = [{"file": f"docs/{n:03}.txt", "expected": {"title": "River", "pages": 3}} for n in (1, 2)]
    rows.append({"file": "docs/003.txt", "expected": {"title": "Bridge", "pages": 9}})
    (cli.folder / "golden.jsonl").write_text("\n".join(map(json.dumps, rows)))
    outcome = cli("submit", "docs", "--task", "./cards", "--golden", "golden.jsonl", "--json").json
    measured = outcome["accuracy"]
    assert (measured["correct"], measured["scored"]) == (2, 3)
    assert measured["low"] < measured["accuracy"] < measured["high"]
    assert measured["fields"]["title"] == 2 / 3
    assert "66.7% (2 of 3 correct; 95 % interval" in cli("status", 1).out


def test_jsonl_on_standard_input(cli: Cli) -> None:
    rows = "".join(
        json.dumps({"id": f"r{n}", "text": f"Row number {n} about rivers."}) + "\n" for n in range(3)
    )
    outcome = cli("submit", "-", "--task", "./cards", "--json", stdin=rows).json
    assert outcome["done"] == 3
    assert [line["source"] for line in cli("results", 1).lines] == ["-#r0", "-#r1", "-#r2"]


def test_pinned_model_is_the_only_one_whose_answers_count(cli: Cli, vendor_server: VendorServer) -> None:
    cli.documents(2)
    cli("submit", "docs", "--task", "./cards")
    outcome = cli("submit", "docs", "--task", "./cards", "--model", "gpt-4.1-mini", "--json").json
    assert (outcome["reused"], outcome["model"], outcome["tier"]) == (0, "gpt-4.1-mini", "standard")
    assert {line.model for line in vendor_server.bill} == {
        "gpt-4o-mini-2024-07-18",
        "gpt-4.1-mini-2025-04-14",
    }
    again = cli("submit", "docs", "--task", "./cards", "--model", "gpt-4.1-mini", "--json").json
    assert again["reused"] == 2


def test_a_mistake_is_one_plain_line_and_nothing_is_stored_or_sent(
    cli: Cli, vendor_server: VendorServer
) -> None:
    cli.documents(1)
    outcome = cli("submit", "docs", "--task", "./cards", "--model", "gpt-4o-minni", code=2)
    assert outcome.err.startswith("Error: There is no model 'gpt-4o-minni'. Did you mean gpt-4o-mini")
    assert cli("jobs", "--json").json == []
    assert vendor_server.totals()["calls"] == 0


def test_without_any_key_and_terminal_it_names_the_variables(cli: Cli) -> None:
    cli.documents(1)
    del cli.env["OPENAI_API_KEY"]
    outcome = cli("submit", "docs", "--task", "./cards", code=3)
    assert "set OPENAI_API_KEY" in outcome.err
    assert "--tier local" in outcome.err


def test_without_any_key_a_terminal_is_offered_the_local_tier(cli: Cli) -> None:
    cli.documents(1)
    del cli.env["OPENAI_API_KEY"]
    screen, code = _on_terminal(cli, ["submit", "docs", "--task", "./cards"], b"n\n")
    assert "Use the local tier? [y/N]" in screen
    assert code == 3


def test_a_terminal_sees_the_bar_the_answers_and_the_question_of_price(cli: Cli) -> None:
    cli.documents(3)
    cli.env["BATCHER_CONFIRM_ABOVE_USD"] = "0.000001"
    screen, code = _on_terminal(cli, ["submit", "docs", "--task", "./cards"], b"n\n")
    assert code == 1
    assert "Go on? [y/N]" in screen
    assert "batcher resume 1" in screen
    assert cli("status", "--json").json["state"] == "paused"
    assert cli("resume").err.strip() == "There is nothing to resume."

    screen, code = _on_terminal(cli, ["submit", "docs", "--task", "./cards"], b"y\n")
    assert code == 0
    assert "Taking up job 1" in screen
    assert "documents/s" in screen
    assert "docs/001.txt" in screen
    assert "  author: name: " in screen


def _on_terminal(cli: Cli, words: list[str], typed: bytes) -> tuple[str, int]:
    """Run a command on a pseudo-terminal, with words typed ahead; returns the screen and the code."""
    ours, theirs = pty.openpty()
    env = cli.env | {"TERM": "xterm-256color", "COLUMNS": "120"}
    process = subprocess.Popen(
        [sys.executable, "-m", "batcher", *words],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=cli.folder, env=env, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, typed)
    screen = b""
    try:
        while part := os.read(ours, 65536):
            screen += part
    except OSError:  # the other end was closed
        pass
    finally:
        os.close(ours)
    return screen.decode().replace("\r\n", "\n"), process.wait(timeout=30)
