"""Stopping and going on: budget, pause, cancel, Ctrl-C, kill, retry, resume."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.vendor_server import VendorServer

from .conftest import Cli

SUBMIT = ("submit", "docs", "--task", "./cards")


@pytest.fixture
def slow(cli: Cli, vendor_server: VendorServer) -> VendorServer:
    """A vendor that answers after 0.4 s, two calls at a time: a document takes 0.2 s."""
    vendor_server.configure(latency_s=0.4)
    cli.env |= {"BATCHER_CONCURRENCY": "2", "BATCHER_CHUNK_ITEMS": "2"}
    return vendor_server


def test_a_reached_cap_pauses_with_exit_code_4_and_a_raised_one_goes_on(
    cli: Cli, vendor_server: VendorServer
) -> None:
    cli.documents(6)
    cli("budget", "set", "--daily", "0.0006")
    paused = cli(*SUBMIT, "--json", code=4).json
    assert paused["state"] == "paused"
    assert 0 < paused["done"] < 6
    assert paused["by_status"]["pending"] == 6 - paused["done"]
    assert paused["waiting_reason"].startswith("budget: daily cap $0.0006")
    assert paused["resume_at"]
    shown = cli("budget", "show", "--json").json
    assert shown["cap_usd"] == 0.0006
    assert 0 < shown["spent_usd"] <= 0.0006
    assert shown["reserved_usd"] == 0
    assert shown["left_usd"] == pytest.approx(0.0006 - shown["spent_usd"])
    assert cli("resume", code=4).out.startswith("Job 1 paused")

    cli("budget", "set", "--daily", "5.00")
    resumed = cli("resume", "--json").json
    assert [(job["job_id"], job["state"], job["done"]) for job in resumed] == [(1, "done", 6)]
    assert vendor_server.totals()["calls"] == 6


def test_a_jobs_own_cap_holds_and_can_be_raised(cli: Cli) -> None:
    cli.documents(6)
    paused = cli(*SUBMIT, "--max-cost", "0.0006", "--json", code=4).json
    assert paused["max_cost_usd"] == 0.0006
    assert paused["cost_usd"] <= 0.0006
    assert "cap of job 1" in paused["waiting_reason"]
    assert "batcher budget set --job 1 --max-cost" in cli("status").out
    assert cli("budget", "show", "--json").json["jobs"][0]["job_id"] == 1
    cli("budget", "set", "--job", 1, "--max-cost", "none")
    assert cli("resume", 1, "--json").json["done"] == 6


def test_a_second_submission_takes_up_the_unfinished_job(cli: Cli, vendor_server: VendorServer) -> None:
    cli.documents(6)
    cli(*SUBMIT, "--max-cost", "0.0006", code=4)
    cli.documents(8)
    again = cli(*SUBMIT, "--max-cost", "1.00", "--json")
    assert "Taking up job 1, which was paused (budget:" in again.err
    outcome = again.json
    assert outcome["taken_up"]
    assert (outcome["job_id"], outcome["items"], outcome["done"]) == (1, 8, 8)
    assert vendor_server.totals()["calls"] == 8


def test_failed_items_exit_with_1_and_retry_brings_one_class_back(
    cli: Cli, vendor_server: VendorServer
) -> None:
    cli.documents(4)
    vendor_server.add_fault(text="no JSON at all", contains="number 2 ", times=None)
    vendor_server.add_fault(status=400, contains="number 3 ", times=None)
    outcome = cli(*SUBMIT, "--json", code=1).json
    assert outcome["failed_by_class"] == {"bad_request": 1, "invalid_output": 1}
    failed = {line["source"]: line for line in cli("results", 1).lines if line["status"] == "failed"}
    assert failed["docs/002.txt"]["error_class"] == "invalid_output"
    assert failed["docs/002.txt"]["attempts"] == 2
    assert failed["docs/002.txt"]["output"] is None
    assert failed["docs/003.txt"]["error"]
    assert "batcher retry 1 --class invalid_output" in cli("status").out

    vendor_server.clear_faults()
    outcome = cli("retry", 1, "--class", "invalid_output", "--json", code=1).json
    assert outcome["failed_by_class"] == {"bad_request": 1}
    assert cli("retry", 1, "--json").json["failed"] == 0
    nothing = cli("retry", 1)
    assert "no failed items" in nothing.err
    assert cli("retry", 1, "--class", "wrong", code=2).out == ""


def test_pause_and_resume_from_another_process(cli: Cli, slow: VendorServer) -> None:
    cli.documents(40)
    running = cli.start(*SUBMIT)
    slow.wait_for_calls(3)
    cli("pause", 1)
    out, err = running.communicate(timeout=20)
    assert running.returncode == 1, err
    assert "Job 1 paused" in out
    status = cli("status", 1, "--json").json
    assert status["waiting_reason"] == "paused by user"
    assert 0 < status["items"]["done"] < 40
    assert status["items"]["leased"] == 0
    assert "nothing to resume" in cli("resume").err
    slow.configure(latency_s=0.0)
    assert cli("resume", 1, "--json").json["done"] == 40
    assert slow.totals()["calls"] == 40


def test_cancel_from_another_process_leaves_no_item_open(cli: Cli, slow: VendorServer) -> None:
    cli.documents(40)
    running = cli.start(*SUBMIT, "--json")
    slow.wait_for_calls(3)
    told = re.search(r"cancelled, (\d+) items dropped; workers hold (\d+) more: those", cli("cancel", 1).err)
    assert told is not None
    running.communicate(timeout=20)
    assert running.returncode == 1
    items = cli("status", "--json").json["items"]
    assert items["pending"] == items["leased"] == 0
    assert items["done"] + items["cancelled"] == 40
    assert 0 < int(told[1]) <= items["cancelled"] <= int(told[1]) + int(told[2])
    assert int(told[2]) > 0
    assert cli("budget", "show", "--json").json["reserved_usd"] == 0
    assert "cancelled" in cli("resume", 1, code=2).err
    assert "cancelled already" in cli("cancel", 1).err


def test_a_job_that_is_being_run_is_not_run_twice(cli: Cli, slow: VendorServer) -> None:
    cli.documents(40)
    running = cli.start(*SUBMIT)
    slow.wait_for_calls(3)
    for words in (SUBMIT, ("resume", 1), ("retry", 1)):
        outcome = cli(*words, code=None)
        if words != ("retry", 1):  # it has no failed items: nothing to try, nothing to run
            assert outcome.code == 1
            assert f"is being run right now by process {running.pid}" in outcome.err
            assert "batcher status 1 --watch" in outcome.err
    assert "nothing to resume" in cli("resume").err
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=20)


def test_ctrl_c_stops_cleanly_and_resume_finishes(cli: Cli, slow: VendorServer) -> None:
    cli.documents(30)
    running = cli.start(*SUBMIT)
    slow.wait_for_calls(3)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=20)
    assert running.returncode == 130
    assert "Go on with: batcher resume 1" in err
    assert "Traceback" not in err
    status = cli("status", "--json").json
    assert (status["state"], status["waiting_reason"]) == ("paused", "interrupted")
    slow.configure(latency_s=0.0)
    assert cli("resume", "--json").json[0]["done"] == 30
    assert slow.totals()["calls"] == 30


def test_a_second_ctrl_c_stops_at_once_and_books_what_was_in_flight(cli: Cli, slow: VendorServer) -> None:
    cli.documents(10)
    slow.configure(latency_s=20)
    running = cli.start(*SUBMIT)
    slow.wait_for_calls(2)
    running.send_signal(signal.SIGINT)
    assert running.stderr is not None
    _read_until(running.stderr, "Stopping")
    running.send_signal(signal.SIGINT)
    started = time.monotonic()
    out, _ = running.communicate(timeout=15)
    assert time.monotonic() - started < 10
    assert running.returncode == 130
    assert "Job 1 interrupted" in out
    assert "batcher resume 1" in out
    slow.configure(latency_s=0.0)
    resumed = cli("resume", "--json").json[0]
    assert resumed["done"] == 10
    assert resumed["unknown_usd"] > 0
    assert slow.totals()["calls"] == 12
    [day] = cli("spend", "--json").json
    assert day["unknown_usd"] == resumed["unknown_usd"]
    assert day["cost_usd"] + day["unknown_usd"] == pytest.approx(resumed["cost_usd"])


def test_killed_and_resumed_nothing_done_is_done_again(cli: Cli, slow: VendorServer) -> None:
    cli.documents(30)
    running = cli.start(*SUBMIT)
    slow.wait_for_calls(6)
    assert "no process" not in cli("status").out
    running.kill()
    running.communicate()
    assert "batcher resume 1   (no process is running it)" in cli("status").out
    slow.configure(latency_s=0.0)
    assert cli("resume", "--json").json[0]["done"] == 30
    # The two calls in flight, and at most one group of two answers that was not committed yet.
    assert 30 <= slow.totals()["calls"] <= 34


def test_killed_while_reading_the_corpus_resume_reads_the_rest(cli: Cli) -> None:
    rows = "".join(f'{{"id": {n}, "text": "row {n} of many"}}\n' for n in range(20_000))
    (cli.folder / "many.jsonl").write_text(rows)
    cli.env["BATCHER_CONCURRENCY"] = "1"
    running = cli.start("submit", "many.jsonl", "--task", "./cards", "--max-cost", "0")
    _wait_for(lambda: _count_items(cli) >= 1_000)
    running.kill()
    running.communicate()
    before = _count_items(cli)
    if before < 20_000:
        noticed = cli("status", "--json").json
        assert noticed["state"] == "paused"
        assert "the process that read it is gone" in noticed["waiting_reason"]
    cli.folder.joinpath("elsewhere").mkdir()
    cli.folder = cli.folder / "elsewhere"
    outcome = cli("resume", 1, "--json", code=4).json
    assert outcome["items"] == 20_000
    assert outcome["by_status"]["pending"] == 20_000
    assert "cap of job 1" in outcome["waiting_reason"]


def test_ctrl_c_while_reading_the_corpus_names_the_job(cli: Cli) -> None:
    cli.documents(1)
    cli("submit", "docs", "--task", "./cards")
    running = cli.start("submit", "-", "--task", "./cards", "--max-cost", "0", stdin=subprocess.PIPE)
    assert running.stdin is not None
    running.stdin.write("".join(f'{{"text": "row {n} of many"}}\n' for n in range(5_000)))
    running.stdin.flush()
    _wait_for(lambda: _count_items(cli) >= 1_000)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=20)
    assert running.returncode == 130
    assert "What was read stays. Go on with: batcher resume 2\n" in err


def test_half_read_standard_input_is_told_and_what_was_stored_goes_on(cli: Cli) -> None:
    running = cli.start("submit", "-", "--task", "./cards", "--max-cost", "0", stdin=subprocess.PIPE)
    assert running.stdin is not None
    running.stdin.write("".join(f'{{"text": "row {n} of many"}}\n' for n in range(5_000)))
    running.stdin.flush()
    _wait_for(lambda: _count_items(cli) >= 1_000)
    cli("pause", 1)
    running.kill()
    running.communicate()
    stored = _count_items(cli)
    outcome = cli("resume", 1, "--json", code=4)
    assert "standard input, which cannot be read again" in outcome.err
    assert outcome.json["items"] == stored


def test_watching_a_job_from_another_process(cli: Cli, slow: VendorServer) -> None:
    cli.documents(20)
    running = cli.start(*SUBMIT)
    slow.wait_for_calls(3)
    lines = cli("status", 1, "--watch", "--json").lines
    assert lines[0]["state"] == "running"
    assert lines[-1]["state"] == "done"
    assert lines[-1]["items"]["done"] == 20
    running.communicate(timeout=20)
    assert running.returncode == 0


def test_a_wrong_key_stops_the_job_and_says_so(cli: Cli, vendor_server: VendorServer) -> None:
    cli.documents(3)
    vendor_server.configure(key="another-key")
    outcome = cli(*SUBMIT, "--json", code=5).json
    assert outcome["state"] == "paused"
    assert "Incorrect API key" in outcome["waiting_reason"]
    vendor_server.configure(key="")
    assert cli("resume", "--json").json[0]["done"] == 3


def _count_items(cli: Cli) -> int:
    try:
        with sqlite3.connect(f"file:{cli.home}/batcher.db?mode=ro", uri=True, timeout=10) as connection:
            return int(connection.execute("SELECT count(*) FROM items").fetchone()[0])
    except sqlite3.OperationalError:  # not there yet
        return 0
    finally:
        if "connection" in locals():
            connection.close()


def _wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _read_until(stream: Any, text: str) -> None:
    for line in stream:
        if text in line:
            return
    raise AssertionError(text)
