"""``batcher spend`` as a user runs it: views, savings, the chart, and reconciling with a vendor's bill."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.vendor_exports import AT_NOON, export_by_day, write_csv
from tests.support.vendor_server import VendorServer

from .conftest import Cli

SUBMIT = ("submit", "docs", "--task", "./cards")
VIEWS = ("day", "model", "provider", "task", "tier", "job", "purpose")
_ALERTS = "SELECT scope, day, title FROM alerts WHERE rule = 'vendor_higher'"
TODAY = datetime.now(UTC).date().isoformat()


@pytest.fixture
def spent(cli: Cli, vendor_server: VendorServer) -> float:
    """What three documents cost; one was asked for twice, because the first call was lost unanswered."""
    vendor_server.add_fault(connection="reset_before", billed=False, contains="number 2 ", times=1)
    cli.documents(3)
    cli(*SUBMIT)
    move_to_noon(cli)
    booked: float = cli("budget", "show", "--json").json["spent_usd"]
    return booked


def move_to_noon(cli: Cli) -> None:
    """Let what was called so far be called at noon."""
    with closing(sqlite3.connect(cli.home / "batcher.db")) as connection, connection:
        connection.execute(AT_NOON)


def test_every_view_adds_up_to_the_ledger(cli: Cli, spent: float) -> None:
    for view in VIEWS:
        rows = cli("spend", "--by", view, "--json").json
        assert sum(row["booked_usd"] for row in rows) == pytest.approx(spent)
        assert sum(row["unknown_usd"] for row in rows) > 0
        assert rows[0]["calls"] == 4
        has_account = view in {"day", "provider", "task", "tier"}
        assert [row["ledger_usd"] for row in rows] == [
            row["booked_usd"] if has_account else None for row in rows
        ]
    shown = cli("spend", "--by", "purpose")
    assert "PURPOSE" in shown.out
    assert "the same, to the nano-dollar" in shown.err


def test_days_and_jobs_can_be_chosen(cli: Cli, spent: float) -> None:
    cli(*SUBMIT, "--model", "gpt-4.1-mini")
    assert [row["job"] for row in cli("spend", "--by", "job", "--json").json] == [1, 2]
    [row] = cli("spend", "--by", "model", "--job", 2, "--json").json
    assert row["model"] == "gpt-4.1-mini"
    assert cli("spend", "--until", "2020-01-31", "--json").json == []
    assert "Nothing was spent from 2020-01-02 to 2020-01-31" in cli("spend", "--until", "2020-01-31").err
    assert len(cli("spend", "--since", "2020-01-01", "--by", "job", "--json").json) == 2
    assert "no account of one job's days" in cli("spend", "--job", 2, "--since", "2020-01-01").err


def test_mistakes_are_told(cli: Cli) -> None:
    assert "is no day. Write it like 2026-11-20" in cli("spend", "--since", "monday", code=2).err
    outcome = cli("spend", "--since", "2026-11-20", "--until", "2026-11-19", code=2)
    assert "--since 2026-11-20 is after --until 2026-11-19" in outcome.err
    assert "There is no job 7" in cli("spend", "--job", 7, code=2).err
    assert "one at a time" in cli("spend", "--chart", "--savings", code=2).err
    assert "all jobs" in cli("spend", "--chart", "--job", 1, code=2).err
    assert "Nothing was spent" in cli("spend").err


def test_savings_say_how_they_were_reckoned(cli: Cli, spent: float) -> None:
    cli("submit", "docs/001.txt", "--task", "./cards")
    found = cli("spend", "--savings", "--json").json
    assert found["booked_usd"] == pytest.approx(spent)
    reuse, caching, tiers = found["savings"]
    assert (reuse["kind"], reuse["count"]) == ("reuse", 1)
    assert 0 < reuse["saved_usd"] < spent
    assert (caching["kind"], caching["saved_usd"]) == ("caching", 0)
    assert (tiers["kind"], tiers["against"], tiers["count"]) == ("cheap_tiers", "claude-sonnet-4-6", 3)
    assert all(saving["how"] for saving in found["savings"])
    shown = cli("spend", "--savings").out
    assert "cheap tiers, against claude-sonnet-4-6" in shown
    assert "at the present prices of claude-sonnet-4-6" in shown


@pytest.mark.parametrize("view", ["--savings", "--chart"])
def test_a_view_of_its_own_cannot_be_summed_by_something(cli: Cli, view: str) -> None:
    assert f"{view} is a view of its own" in cli("spend", view, "--by", "model", code=2).err


def test_the_chart_is_plain_without_a_terminal_and_drawn_on_one(cli: Cli, spent: float) -> None:
    plain = cli("spend", "--chart").out
    assert plain.isascii()
    assert len([line for line in plain.splitlines() if line[:2] == "20"]) == 30
    assert f"{TODAY}  $0." in plain
    days = cli("spend", "--chart", "--json").json
    assert days[-1]["cost_usd"] + days[-1]["unknown_usd"] == pytest.approx(spent)
    assert days[0] == {
        "day": days[0]["day"],
        "cap_usd": None,
        "cost_usd": 0,
        "unknown_usd": 0,
        "in_flight_usd": 0,
    }

    screen, code = cli.on_terminal(["spend"], b"")
    assert code == 0
    assert "│" in screen
    assert "\x1b[" in screen
    cli.env["NO_COLOR"] = "1"
    screen, code = cli.on_terminal(["spend", "--by", "day"], b"")
    assert code == 0
    assert "|" in screen
    assert screen.isascii()
    screen, _ = cli.on_terminal(["spend", "--by", "model"], b"")
    assert "daily cap" not in screen


def test_reconciling_returns_what_the_bill_does_not_have_and_is_safe_to_run_twice(
    cli: Cli, vendor_server: VendorServer, spent: float
) -> None:
    [unknown] = cli("spend", "reconcile", "--json").json["unknown"]
    assert (unknown["day"], unknown["model"], unknown["calls"]) == (TODAY, "gpt-4o-mini", 1)
    assert "stays booked until a vendor's export proves it" in cli("spend", "reconcile").err

    file = export_by_day(vendor_server.bill, cli.folder / "export.csv")
    words = ("spend", "reconcile", "--csv", file)
    shown = cli(*words)
    assert "is not over in UTC" in shown.out
    assert "Held against the calls at openai." in shown.err
    found = cli(*words, "--final", "--json").json
    assert (found["provider"], found["proven_calls"], found["applied"]) == ("openai", 1, False)
    assert found["returnable_usd"] == pytest.approx(unknown["worst_case_usd"])
    assert found["rows"][0]["verdict"] == "vendor lower"
    assert cli("budget", "show", "--json").json["spent_usd"] == spent

    applied = cli(*words, "--final", "--apply")
    assert "1 unknown calls, booked at $" in applied.out
    assert "settled: 1 never billed" in applied.out
    assert "Gave back $" in applied.err
    bill = sum(line.cost_nusd or 0 for line in vendor_server.bill)
    assert cli("budget", "show", "--json").json["spent_usd"] == bill / 10**9
    again = cli(*words, "--final", "--apply", "--json").json
    assert (again["returned_usd"], again["rows"][0]["verdict"]) == (0, "equal")
    assert "Nothing is unknown" in cli("spend", "reconcile").err
    assert cli("budget", "show", "--json").json["spent_usd"] == bill / 10**9


def test_a_higher_bill_is_an_alert_and_exit_code_1(cli: Cli, spent: float) -> None:
    file = write_csv(
        cli.folder / "costs.csv",
        ("date", "model", "cost"),
        [(TODAY, "gpt-4o-mini-2024-07-18", "9.99"), (TODAY, "=HYPERLINK(evil)\x1b[31m", "1.00")],
    )
    for _ in range(2):
        outcome = cli("spend", "reconcile", "--csv", file, "--json", code=1)
        verdicts = {row["model"]: row["verdict"] for row in outcome.json["rows"]}
        assert verdicts == {
            "gpt-4o-mini-2024-07-18": "vendor higher",
            "=HYPERLINK(evil)\x1b[31m": "not batcher's",
        }
    shown = cli("spend", "reconcile", "--csv", file, code=1)
    assert "\x1b" not in shown.out
    assert "charges more than the ledger holds" in shown.err
    assert cli("budget", "show", "--json").json["spent_usd"] == spent
    with closing(sqlite3.connect(cli.home / "batcher.db")) as connection:
        alerts = connection.execute(_ALERTS).fetchall()
    assert alerts == [("provider:openai", TODAY, f"openai bills more than the ledger holds for {TODAY}")]


def test_what_a_killed_run_had_sent_is_no_higher_bill(cli: Cli, vendor_server: VendorServer) -> None:
    cli.documents(8)
    vendor_server.configure(latency_s=8.0)
    running = cli.start(*SUBMIT)
    vendor_server.wait_for_calls(8)
    running.kill()
    running.wait()
    file = write_csv(
        cli.folder / "costs.csv",
        ("date", "model", "requests", "cost_usd"),
        [(TODAY, "gpt-4o-mini-2024-07-18", 8, "0.0001")],
    )
    outcome = cli("spend", "reconcile", "--csv", file)
    assert "Took back 1 chunks of lost workers" in outcome.err
    assert "0 + 8" in outcome.out
    assert "vendor lower" in outcome.out
    with closing(sqlite3.connect(cli.home / "batcher.db")) as connection:
        assert connection.execute(_ALERTS).fetchall() == []


def test_an_export_of_two_vendors_is_compared_with_one_at_a_time(
    cli: Cli, vendor_server: VendorServer, spent: float
) -> None:
    cli.env |= {"ANTHROPIC_API_KEY": "sk-test", "ANTHROPIC_BASE_URL": vendor_server.anthropic_url}
    cli(*SUBMIT, "--model", "claude-haiku-4-5")
    move_to_noon(cli)
    words = ("spend", "reconcile", "--csv", export_by_day(vendor_server.bill, cli.folder / "both.csv"))
    refused = cli(*words, "--final", "--apply", code=2).err
    assert "--provider anthropic, then --provider openai" in refused
    shown = cli(*words, "--provider", "openai")
    assert "not batcher's" not in shown.out
    assert "called elsewhere" in shown.out
    assert "Held against the calls at openai." in shown.err
    assert "batcher called at anthropic (claude-haiku-4-5" in shown.err
    assert "To compare them: --provider anthropic" in shown.err
    for provider in ("openai", "anthropic"):
        applied = cli(*words, "--provider", provider, "--final", "--apply", "--json").json
        assert applied["provider"] == provider
        assert len(applied["called_elsewhere"]) == 1
    bill = sum(line.cost_nusd or 0 for line in vendor_server.bill)
    assert cli("budget", "show", "--json").json["spent_usd"] == bill / 10**9


def test_a_last_line_without_its_end_is_told(cli: Cli, spent: float) -> None:
    file = cli.folder / "cut.csv"
    file.write_text(f"date,model,requests\n{TODAY},gpt-4o-mini-2024-07-18,3")
    assert "The last line of" in cli("spend", "reconcile", "--csv", file).err


def test_an_export_that_cannot_be_read_changes_nothing(cli: Cli, spent: float) -> None:
    file = cli.folder / "bad.csv"
    file.write_text("day,model,requests\n2026-11-20,gpt-4o-mini,many\n")
    outcome = cli("spend", "reconcile", "--csv", file, "--apply", "--final", code=2)
    assert "bad.csv, line 2: requests 'many' is not a count" in outcome.err
    assert "Add --csv FILE" in cli("spend", "reconcile", "--apply", code=2).err
    assert "write NAME=HEADER" in cli("spend", "reconcile", "--csv", file, "--column", "speed=x", code=2).err
    file.write_text("Tag;Modell;Aufrufe\n" + f"{TODAY};gpt-4o-mini;3\n")
    columns = [
        part for name in ("day=Tag", "model=Modell", "requests=Aufrufe") for part in ("--column", name)
    ]
    found = cli("spend", "reconcile", "--csv", file, *columns, "--final", "--json").json
    assert found["proven_calls"] == 1
    assert cli("budget", "show", "--json").json["spent_usd"] == spent


def test_reading_a_path_that_is_no_file(cli: Cli, spent: float) -> None:
    missing = Path("nothing.csv")
    assert "Cannot read nothing.csv" in cli("spend", "reconcile", "--csv", missing, code=2).err
