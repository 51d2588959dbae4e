"""Getting results and figures out: formats, files, mid-run, spend, doctor."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.redis_server import RedisServer
from tests.support.vendor_server import VendorServer

from .conftest import KEY, Cli

SUBMIT = ("submit", "docs", "--task", "./cards")
ANSWER = {
    "title": "=1+1",
    "pages": -3,
    "author": {"name": 'O\'Neil, "Bo"\nJr.', "age": 40},
    "tags": ["a", "b"],
}


def test_all_formats_hold_the_same_results(cli: Cli, vendor_server: VendorServer) -> None:
    pytest.importorskip("pyarrow", reason="the extra parquet")
    from pyarrow import parquet

    folder = cli.documents(3)
    (folder / "empty.txt").write_text("")
    vendor_server.configure(answers=[["number", json.dumps(ANSWER)]])
    cli(*SUBMIT, code=1)

    lines = cli("results", 1).lines
    assert [line["source"] for line in lines] == [
        "docs/001.txt",
        "docs/002.txt",
        "docs/003.txt",
        "docs/empty.txt",
    ]
    expected = {
        "source": "docs/001.txt",
        "task": "cards",
        "model": "gpt-4o-mini",
        "tier": "economy",
        "status": "done",
        "output": ANSWER,
        "error": None,
        "attempts": 1,
        "reused": False,
    }
    assert expected.items() <= lines[0].items()
    assert 0 < lines[0]["cost_usd"] < 0.001
    assert lines[3]["output"] is None

    assert "Wrote 4 results of job 1 to out.csv" in cli("results", 1, "-o", "out.csv").err
    with (cli.folder / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows] == [line["source"] for line in lines]
    assert rows[0]["output.title"] == "'=1+1"
    assert rows[0]["output.pages"] == "-3"
    assert rows[0]["output.author.name"] == ANSWER["author"]["name"]  # type: ignore[index]
    assert rows[0]["output.tags"] == '["a","b"]'
    assert float(rows[0]["cost_usd"]) == pytest.approx(lines[0]["cost_usd"])
    assert (rows[3]["status"], rows[3]["error_class"], rows[3]["output.title"]) == ("rejected", "empty", "")

    cli("results", 1, "-o", "out.parquet")
    table = parquet.read_table(cli.folder / "out.parquet").to_pylist()
    assert [row["id"] for row in table] == [line["id"] for line in lines]
    assert table[0]["output.tags"] == ["a", "b"]
    assert table[0]["output.pages"] == -3
    assert table[0]["cost_usd"] == pytest.approx(lines[0]["cost_usd"])
    assert table[3]["output.author.age"] is None

    cli("results", 1, "--format", "csv", "-o", "out.txt")
    assert (cli.folder / "out.txt").read_bytes() == (cli.folder / "out.csv").read_bytes()
    assert "is a folder" in cli("results", 1, "-o", "docs", code=2).err
    assert "--format" in cli("results", 1, "-o", "out.xyz", code=2).err
    assert not (cli.folder / "out.xyz").exists()


def test_results_in_mid_run_are_those_that_ended(cli: Cli, vendor_server: VendorServer) -> None:
    cli.documents(20)
    vendor_server.configure(latency_s=0.3)
    cli.env |= {"BATCHER_CONCURRENCY": "2", "BATCHER_CHUNK_ITEMS": "2"}
    running = cli.start(*SUBMIT)
    vendor_server.wait_for_calls(4, finished=True)
    lines = cli("results", 1).lines
    assert 0 < len(lines) < 20
    assert {line["status"] for line in lines} == {"done"}
    vendor_server.configure(latency_s=0.0)
    running.communicate(timeout=20)
    assert len(cli("results", 1).lines) == 20


def test_a_reader_that_goes_away_is_no_error(cli: Cli) -> None:
    rows = "".join(json.dumps({"text": f"Row number {n}. " + "long " * 200}) + "\n" for n in range(400))
    cli("submit", "-", "--task", "./cards", stdin=rows)
    batcher = subprocess.Popen(
        [sys.executable, "-m", "batcher", "results", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cli.folder, env=cli.env,
    )  # fmt: skip
    assert batcher.stdout is not None
    assert batcher.stderr is not None
    assert json.loads(batcher.stdout.readline())["status"] == "done"
    batcher.stdout.close()
    assert batcher.stderr.read() == b""
    batcher.stderr.close()
    assert batcher.wait(timeout=20) == 1


def test_spend_by_every_view_adds_up(cli: Cli) -> None:
    cli.documents(3)
    total = cli(*SUBMIT, "--json").json
    cli(*SUBMIT, "--model", "gpt-4.1-mini")
    days, models, tasks, jobs = (
        cli("spend", "--by", view, "--json").json for view in ("day", "model", "task", "job")
    )
    assert [row["model"] for row in models] == ["gpt-4.1-mini", "gpt-4o-mini"]
    assert [(row["job"], row["calls"]) for row in jobs] == [(1, 3), (2, 3)]
    assert jobs[0]["cost_usd"] == total["cost_usd"]
    assert tasks[0]["task"] == "cards"
    spent = cli("budget", "show", "--json").json["spent_usd"]
    for rows in (days, models, tasks, jobs):
        assert sum(row["cost_usd"] for row in rows) == pytest.approx(spent)
    assert "gpt-4o-mini" in cli("spend", "--by", "model").out


def test_doctor_says_what_each_tier_would_use_and_shows_no_key(cli: Cli) -> None:
    healthy = cli("doctor", "--json").json
    assert healthy["ok"]
    found = {(entry["part"], entry["name"]): entry for entry in healthy["findings"]}
    assert found["provider", "openai"]["ok"]
    assert "OPENAI_API_KEY is set" in found["provider", "openai"]["message"]
    assert "uses gpt-4o-mini" in found["tier", "economy"]["message"]
    assert found["provider", "anthropic"]["ok"] is None
    assert "ANTHROPIC_API_KEY is not set" in found["provider", "anthropic"]["message"]
    assert "schema" in found["store", "database"]["message"]
    text = cli("doctor")
    assert KEY not in text.out + text.err

    cli.env["OPENAI_BASE_URL"] = "http://127.0.0.1:9/v1"
    down = cli("doctor", "--json", code=5).json
    assert not down["ok"]
    del cli.env["OPENAI_API_KEY"]
    assert "set OPENAI_API_KEY" in cli("doctor", code=3).out


def test_an_endpoint_without_a_list_of_models_is_not_called_wrong(cli: Cli) -> None:
    cli.env["OPENAI_BASE_URL"] += "/no/list"
    found = {(entry["part"], entry["name"]): entry for entry in cli("doctor", "--json").json["findings"]}
    assert found["provider", "openai"]["ok"] is None
    assert "see that its base URL is right" in found["provider", "openai"]["message"]
    assert found["tier", "economy"]["ok"]


def test_doctor_says_whether_rate_limits_are_shared(cli: Cli, tmp_path: Path) -> None:
    def broker(url: str) -> dict[str, Any]:
        cli.env["BATCHER_BROKER_URL"] = url
        findings = cli("doctor", "--json").json["findings"]
        found: dict[str, Any] = next(one for one in findings if one["part"] == "broker")
        assert "s3cr" not in str(found)
        return found

    with RedisServer(tmp_path) as redis:
        here = broker(redis.url)
    assert here["ok"]
    assert "share their rate limits" in here["message"]
    away = broker(redis.url.replace("127", ":s3cret@127"))
    assert away["ok"] is False
    assert "does not answer" in away["message"]
    for wrong in ("redis://127.0.0.1:99999/0", "redis://:s3cr#et@127.0.0.1:6379/0"):
        cli.env["BATCHER_BROKER_URL"] = wrong
        said = cli("doctor", "--json", code=3).err
        assert "broker_url: its host or port cannot be read" in said
        assert "s3cr" not in said
    assert broker("amqp://guest:s3cret@127.0.0.1:9//")["ok"] is None


def test_jobs_and_status_as_json(cli: Cli) -> None:
    cli.documents(2)
    cli(*SUBMIT)
    [job] = cli("jobs", "--json").json
    status = cli("status", "--json").json
    assert status["job_id"] == job["job_id"] == 1
    assert status["items"] == job["items"]
    assert set(status["items"]) == {"pending", "leased", "done", "failed", "cancelled", "rejected"}
    assert status["waiting_reason"] is None
    assert status["cost_usd"] == job["cost_usd"] > 0
    assert "cards" in cli("jobs").out


def test_a_broken_store_is_told_in_plain_words(cli: Cli) -> None:
    (cli.home / "batcher.db").write_bytes(b"this is no database, but a text file" * 100)
    for said in (cli("jobs", code=5).err, cli("doctor", code=5).out):
        assert "is damaged: file is not a database. Restore a copy of it, or move the file away" in said


def test_a_store_damaged_in_the_middle_is_told_by_every_command(cli: Cli) -> None:
    cli.documents(40)
    cli(*SUBMIT)
    with closing(sqlite3.connect(cli.home / "batcher.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (cli.home / "batcher.db").open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(8192)
        file.write(b"\xa5" * (size - 8192))
    for words in (("jobs",), ("results",), SUBMIT, ("spend",)):
        said = cli(*words, code=5).err
        assert "batcher.db is damaged: " in said
        assert "Restore a copy of it, or move the file away" in said
    assert "is damaged" in cli("doctor", code=5).out


def test_results_on_a_screen_do_not_steer_it_and_files_keep_the_truth(
    cli: Cli, vendor_server: VendorServer
) -> None:
    cli.documents(1)
    title = "bell\x07 red\x1b[31m c1\x9b31m end"
    answer = {"title": title, "pages": 3, "author": {"name": "A", "age": 1}, "tags": ["größe"]}
    vendor_server.configure(answers=[["number", json.dumps(answer)]])
    cli(*SUBMIT)
    for form in ("csv", "jsonl"):
        screen, code = cli.on_terminal(["results", "1", "--format", form], b"")
        assert code == 0
        assert "bell\\u0007 red\\u001b[31m c1\\u009b31m end" in screen
        assert "größe" in screen
        assert not set(screen) & {"\x07", "\x1b", "\x9b", "\r"}
    assert cli("results", 1).lines[0]["output"]["title"] == title
    cli("results", 1, "-o", "out.csv")
    assert title in (cli.folder / "out.csv").read_text()


def test_a_missing_folder_is_named(cli: Cli) -> None:
    cli.documents(1)
    cli(*SUBMIT)
    assert "There is no folder a/b. Make it first" in cli("results", 1, "-o", "a/b/c.csv", code=2).err


@pytest.mark.parametrize(
    "words", [("jobs",), ("results", 1), ("status", "--json"), ("results", "--format", "csv")]
)
def test_an_output_that_is_full_is_told_in_one_line(cli: Cli, words: tuple[str | int, ...]) -> None:
    cli.documents(1)
    cli(*SUBMIT)
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "batcher", *map(str, words)],
            stdout=full, stderr=subprocess.PIPE, text=True, cwd=cli.folder, env=cli.env, check=False,
        )  # fmt: skip
    assert process.returncode == 5
    assert process.stderr.startswith("Error: The output cannot be written: No space left on device.")
    assert len(process.stderr.splitlines()) == 1


def test_an_error_is_json_too_where_json_was_asked_for(cli: Cli) -> None:
    cli.documents(1)
    outcome = cli("status", 99, "--json", code=2)
    assert outcome.json == {"error": outcome.err.removeprefix("Error: ").strip(), "exit_code": 2}
    outcome = cli(*SUBMIT, "--tier", "gold", "--json", code=2)
    assert outcome.json["exit_code"] == 2
    assert "no tier 'gold'" in outcome.json["error"]
    assert cli("status", "x", "--json", code=2).json["exit_code"] == 2


def test_the_store_and_its_folder_are_the_users_own(cli: Cli) -> None:
    home = cli.folder / "fresh"
    cli("--home", home, "budget", "set", "--daily", "1")
    assert home.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in home.iterdir()} == {0o600}


def test_doctor_names_the_host_that_text_goes_to(cli: Cli, vendor_server: VendorServer) -> None:
    host = vendor_server.openai_url.split("/")[2]
    said = cli("doctor").out
    assert f"uses gpt-4o-mini (text goes to {host})" in said


def test_a_variable_that_nothing_reads_is_told(cli: Cli) -> None:
    cli.env["BATCHER_CONCURENCY"] = "3"
    said = cli("jobs").err
    assert (
        "Warning: The variable BATCHER_CONCURENCY is read by nothing; did you mean BATCHER_CONCURRENCY?"
        in said
    )
