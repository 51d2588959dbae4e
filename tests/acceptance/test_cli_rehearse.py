"""``batcher submit --rehearse``: nights in seconds, honest numbers, and a real store that nobody touched."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
from pathlib import Path

import pytest

from tests.support.vendor_server import VendorServer

from .conftest import Cli

SUBMIT = ("submit", "--task", "./cards", "--rehearse")


def corpus(cli: Cli, count: int, size: int = 1_000) -> str:
    filler = "The river runs under the old stone bridge. " * (size // 43)
    lines = (json.dumps({"text": f"Document {number}. {filler}"}) for number in range(count))
    (cli.folder / "corpus.jsonl").write_text("\n".join(lines))
    return "corpus.jsonl"


def limit(cli: Cli, **limits: int) -> None:
    rows = "\n".join(f"{name} = {value}" for name, value in {"tpm": 10**9, **limits}.items())
    (cli.home / "batcher.toml").write_text(
        f'[tiers]\neconomy = ["gpt-4o-mini"]\n[models.gpt-4o-mini]\n{rows}\n'
    )


def dump(path: Path) -> list[str]:
    with sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True) as connection:
        lines = list(connection.iterdump())
    connection.close()
    return lines


def test_sixty_requests_a_minute_are_ten_minutes_for_six_hundred_documents(
    cli: Cli, vendor_server: VendorServer
) -> None:
    limit(cli, rpm=60)
    found = cli(*SUBMIT, corpus(cli, 600), "--json").json
    assert found["seconds"] == pytest.approx(600, rel=0.05)
    assert found["real_seconds"] < 30
    assert (found["items"], found["done"], found["open"]) == (600, 600, 0)
    assert found["calls_by_outcome"] == {"ok": 600}
    assert found["rate_limited"] == 0
    assert found["binding_limit"] == "rate limit: 60 requests/min"
    assert found["documents_per_min"] == pytest.approx(60, rel=0.05)
    assert vendor_server.totals()["calls"] == 0


def test_a_night_takes_seconds(cli: Cli) -> None:
    limit(cli, rpm=2)
    outcome = cli(*SUBMIT, corpus(cli, 900))
    assert re.search(r"time +7 h (29|30|31) min; it would end at", outcome.out)
    assert "429s      0" in outcome.out
    assert "rate limit: 2 requests/min" in outcome.out


def test_no_key_is_needed_and_it_is_said(cli: Cli) -> None:
    cli.env.pop("OPENAI_API_KEY")
    outcome = cli(*SUBMIT, corpus(cli, 3))
    assert "Rehearsing without a key" in outcome.err
    assert "done      3" in outcome.out
    assert not (cli.home / "batcher.db").exists()


def test_more_than_the_cap_takes_more_than_a_day(cli: Cli) -> None:
    whole = cli(*SUBMIT, corpus(cli, 300), "--json").json
    assert len(whole["days"]) == 1
    cap = whole["cost_usd"] * 0.7
    cli("budget", "set", "--daily", f"{cap:.6f}")
    found = cli(*SUBMIT, "corpus.jsonl", "--json").json
    assert (found["state"], found["done"]) == ("done", 300)
    assert len(found["days"]) == 2
    assert all(0 < day["cost_usd"] <= day["cap_usd"] for day in found["days"])
    assert found["cost_usd"] == pytest.approx(whole["cost_usd"])
    assert found["binding_limit"] == "daily cap"
    assert found["ends_at"][:10] == found["days"][1]["day"] > found["starts_at"][:10]


def test_the_real_store_is_looked_at_and_left_alone(cli: Cli, vendor_server: VendorServer) -> None:
    cli.documents(5)
    spent = cli("submit", "docs", "--task", "./cards", "--json").json["cost_usd"]
    cli.documents(9)
    (cli.folder / "temp").mkdir()
    cli.env["TMPDIR"] = str(cli.folder / "temp")
    store = cli.home / "batcher.db"
    before, rows, calls = store.read_bytes(), dump(store), vendor_server.totals()["calls"]

    found = cli(*SUBMIT, "docs", "--json").json
    assert (found["items"], found["reused"], found["done"], found["calls"]) == (9, 5, 9, 4)
    assert found["days"][0]["taken_before_usd"] == pytest.approx(spent)
    assert cli(*SUBMIT, "docs", "--refresh", "--json").json["calls"] == 9

    assert store.read_bytes() == before
    assert dump(store) == rows
    assert vendor_server.totals()["calls"] == calls
    assert list((cli.folder / "temp").iterdir()) == []
    assert len(cli("jobs", "--json").json) == 1
    assert cli("submit", "docs", "--task", "./cards", "--json").json["reused"] == 5


def test_faults_show_in_the_report(cli: Cli) -> None:
    (cli.folder / "faults.toml").write_text(
        '[[faults]]\nkind = "rate_limited"\nevery = 10\ntimes = 4\n'
        '[[faults]]\nkind = "server_500"\nevery = 10\ntimes = 3\n'
        '[[faults]]\nkind = "hang"\ntimes = 2\n'
        '[[faults]]\nkind = "refusal"\ntimes = 1\n'
    )
    found = cli(*SUBMIT, corpus(cli, 100), "--faults", "faults.toml", "--json", code=1).json
    assert found["rate_limited"] == found["errors_by_status"]["429"] == 4
    assert found["errors_by_status"]["500"] == 3
    assert found["without_answer"] == 2
    assert found["unknown_usd"] > 0
    assert (found["done"], found["failed_by_class"]) == (99, {"refused": 1})
    assert found["calls_by_outcome"] == {
        "ok": 99, "rate_limited": 4, "transient": 3, "unknown_outcome": 2, "refused": 1,
    }  # fmt: skip
    assert found["seconds"] > 120

    lines = cli(*SUBMIT, "corpus.jsonl", "--faults", "faults.toml", code=1).out
    assert "429s      4" in lines
    assert "3 x HTTP 500, 2 without an answer" in lines


def test_what_cannot_be_rehearsed_is_refused(cli: Cli) -> None:
    corpus(cli, 1)
    faults = cli("submit", "corpus.jsonl", "--task", "./cards", "--faults", "x.toml", code=2)
    assert "--rehearse" in faults.err
    missing = cli(*SUBMIT, "corpus.jsonl", "--faults", "x.toml", code=2)
    assert "x.toml" in missing.err
    (cli.home / "batcher.toml").write_text("")
    local = cli(*SUBMIT, "corpus.jsonl", "--tier", "local", code=2)
    assert "runs on this machine" in local.err


def test_ctrl_c_ends_it_and_leaves_nothing(cli: Cli) -> None:
    limit(cli, rpm=2)
    (cli.folder / "temp").mkdir()
    cli.env["TMPDIR"] = str(cli.folder / "temp")
    process = cli.start(*SUBMIT, corpus(cli, 20_000, 50), "--json")
    assert process.stderr is not None
    assert process.stdout is not None
    while "done" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    found = json.loads(process.stdout.read())
    assert process.wait(30) == 130
    assert (found["state"], found["reason"]) == ("paused", "interrupted")
    assert found["open"] == 20_000 - found["done"] > 0
    assert list((cli.folder / "temp").iterdir()) == []
