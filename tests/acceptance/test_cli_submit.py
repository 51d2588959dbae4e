"""Submitting: what is done, reused, rejected, refused and reported."""

from __future__ import annotations

import json

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
    screen, code = cli.on_terminal(["submit", "docs", "--task", "./cards"], b"n\n")
    assert "Use the local tier? [y/N]" in screen
    assert code == 3


def test_a_terminal_sees_the_bar_the_answers_and_the_question_of_price(cli: Cli) -> None:
    cli.documents(3)
    cli.env["BATCHER_CONFIRM_ABOVE_USD"] = "0.000001"
    screen, code = cli.on_terminal(["submit", "docs", "--task", "./cards"], b"n\n")
    assert code == 1
    assert "Go on? [y/N]" in screen
    assert "batcher resume 1" in screen
    assert cli("status", "--json").json["state"] == "paused"
    assert cli("resume").err.strip() == "There is nothing to resume."

    screen, code = cli.on_terminal(["submit", "docs", "--task", "./cards"], b"y\n")
    assert code == 0
    assert "Taking up job 1" in screen
    assert "documents/s" in screen
    assert "docs/001.txt" in screen
    assert "  author: name: " in screen


def test_golden_rows_that_can_measure_nothing_are_told_before_the_price(cli: Cli) -> None:
    cli.documents(2)
    rows = [
        {"file": "docs/001.txt", "expected": {"title": "River"}},
        {"file": "docs/002.txt", "expected": {"titel": "Bridge"}},
        {"id": "nowhere", "expected": {"title": "Bridge"}},
    ]
    (cli.folder / "golden.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = cli("submit", "docs", "--task", "./cards", "--golden", "golden.jsonl").err
    assert "1 of 3 golden rows can never be met by an answer: line 2: the answer has no field 'titel'" in said
    assert "did you mean 'title'?" in said
    assert "1 of 3 golden rows matched no document that could be read: nowhere (line 3)" in said
    assert said.index("golden rows matched") < said.index("Price of")


def test_names_of_files_do_not_steer_the_terminal(cli: Cli, vendor_server: VendorServer) -> None:
    folder = cli.documents(1)
    (folder / "esc\x1b[31mred\nline.txt").write_text("This is another text about rivers.")
    (folder / "zz\x1b[2J.txt").write_text("")
    vendor_server.add_fault(status=400, contains="another text", times=None)
    answer = {"title": "a\x1b[5mb", "pages": 3, "author": {"name": "A", "age": 1}, "tags": []}
    vendor_server.configure(answers=[["number", json.dumps(answer)]])
    screen, code = cli.on_terminal(["submit", "docs", "--task", "./cards"], b"")
    assert code == 1
    for name in ("docs/esc\\u001b[31mred\\nline.txt: bad_request: ", "docs/zz\\u001b[2J.txt: empty: "):
        assert name in screen
    vendor_server.clear_faults()
    vendor_server.configure(answers=[["text", json.dumps(answer)]])
    screen += cli.on_terminal(["retry", "1"], b"")[0]
    screen += cli.on_terminal(["submit", "docs", "--task", "./cards"], b"")[0]
    assert "\ndocs/esc\\u001b[31mred\\nline.txt\n" in screen
    assert not {"\x1b[31m", "\x1b[5m", "\x1b[2J"} & set(_sequences(screen))
    sources = [line["source"] for line in cli("results", 1).lines]
    assert "docs/esc\x1b[31mred\nline.txt" in sources


def _sequences(screen: str) -> list[str]:
    import re

    return re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]", screen)


def test_status_shows_what_failed_and_why_and_where_all_of_it_stands(
    cli: Cli, vendor_server: VendorServer
) -> None:
    folder = cli.documents(3)
    for name in "abc":
        (folder / f"{name}.txt").write_text("")
    body = {"error": {"message": "this vendor dislikes 2", "type": "invalid_request_error"}}
    vendor_server.add_fault(status=400, body=body, contains="number 2 ", times=None)
    cli("submit", "docs", "--task", "./cards", code=1)
    said = cli("status", 1).out
    assert "    docs/002.txt: bad_request: " in said
    assert "this vendor dislikes 2" in said
    assert said.count("txt: empty: ") == 2
    assert "Next: batcher results 1 -o results.jsonl   (with the reason of everything that failed" in said
    examples = cli("status", 1, "--json").json["examples"]
    assert [found["source"] for found in examples["bad_request"]] == ["docs/002.txt"]
    assert [found["source"] for found in examples["empty"]] == ["docs/a.txt", "docs/b.txt"]


def test_where_everything_was_rejected_the_results_come_next(cli: Cli) -> None:
    folder = cli.documents(0)
    (folder / "a.txt").write_text("")
    said = cli("submit", "docs", "--task", "./cards", code=1).out
    assert "Next: batcher results 1 -o results.jsonl" in said


def test_no_answer_to_a_question_is_an_interruption_that_resumes_only_what_there_is(cli: Cli) -> None:
    cli.documents(1)
    cli.env["BATCHER_CONFIRM_ABOVE_USD"] = "0.000001"
    screen, code = cli.on_terminal(["submit", "docs", "--task", "./cards"], b"\x04")
    assert code == 130
    assert "batcher resume 1" in screen
    assert cli("status", "--json").json["state"] == "paused"
    del cli.env["OPENAI_API_KEY"]
    screen, code = cli.on_terminal(["submit", "docs", "--task", "./cards", "--limit", "1"], b"\x04")
    assert code == 130
    assert "Interrupted." in screen
    assert "resume" not in screen


def test_an_interruption_within_a_task_has_nothing_to_resume(cli: Cli) -> None:
    cli.documents(1)
    (cli.folder / "stop.py").write_text("raise KeyboardInterrupt")
    outcome = cli("submit", "docs", "--task", "./stop.py", code=130)
    assert outcome.err.strip() == "Interrupted."


def test_a_home_that_cannot_be_written_is_told_plainly(cli: Cli) -> None:
    cli.documents(1)
    (cli.home / "models").write_text("a file where the folder should be")
    outcome = cli("submit", "docs", "--task", "./cards", "--tier", "local", "--yes", code=3)
    assert "Weights cannot be kept in" in outcome.err
    assert "inside batcher" not in outcome.err


def test_the_report_says_how_much_a_model_did_that_stood_in(cli: Cli, vendor_server: VendorServer) -> None:
    config = cli.home / "batcher.toml"
    config.write_text(config.read_text().replace('["gpt-4o-mini"]', '["gpt-4o-mini", "gpt-4o"]'))
    vendor_server.add_fault(status=401, skip=5, times=None, model="gpt-4o-mini-2024-07-18")
    cli.documents(20)
    report = cli("submit", "docs", "--task", "./cards").out
    found = cli("status", "--json").json
    assert found["models"] == {"gpt-4o": 15, "gpt-4o-mini": 5}
    assert found["stood_in"] == {"gpt-4o": 15}
    for shown in (report, cli("status").out):
        assert "  models    gpt-4o 15 (stood in), gpt-4o-mini 5\n" in shown

    again = cli("submit", "docs", "--task", "./cards")
    assert "  models " not in again.out
    found = cli("status", "--json").json
    assert (found["reused"], found["models"], found["stood_in"]) == (20, {}, {})


def test_a_model_that_was_asked_for_by_name_stands_in_for_nobody(cli: Cli) -> None:
    cli.documents(3)
    outcome = cli("submit", "docs", "--task", "./cards", "--model", "gpt-4o", "--json").json
    assert (outcome["models"], outcome["stood_in"]) == ({"gpt-4o": 3}, {})
