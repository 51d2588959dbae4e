"""``batcher budget`` as a user runs it: caps of tiers, providers and tasks, and what they hold back."""

from __future__ import annotations

from tests.support.vendor_server import VendorServer

from .conftest import Cli

SUBMIT = ("submit", "docs", "--task", "./cards")


def test_a_cap_of_a_tier_is_set_shown_reached_and_lifted(cli: Cli, vendor_server: VendorServer) -> None:
    cli.documents(6)
    told = cli(
        "budget", "set", "--tier", "economy=0.0006", "--provider", "together=2", "--task", "./cards=3"
    ).err
    assert "The cap of tier economy is $0.0006, from today on." in told
    assert "The cap of task cards is $3.00" in told
    paused = cli(*SUBMIT, "--json", code=4).json
    assert paused["waiting_reason"].startswith("budget: cap of tier economy $0.0006")
    assert paused["resume_at"]
    shown = cli("budget", "show", "--json").json
    assert shown["holds_back"] == []
    caps = {cap["scope"]: cap for cap in shown["caps"]}
    assert set(caps) == {"tier:economy", "provider:together", "task:cards"}
    assert caps["tier:economy"]["holds_back"] == [1]
    assert caps["tier:economy"]["spent_usd"] == caps["task:cards"]["spent_usd"] == shown["spent_usd"] > 0
    assert caps["provider:together"]["spent_usd"] == 0
    assert caps["tier:economy"]["left_usd"] < 0.0006
    assert "batcher budget set --tier economy=AMOUNT" in cli("status", 1).out
    lines = cli("budget", "show").out.splitlines()
    assert lines[0].split() == ["WHAT", "CAP", "SPENT", "RESERVED", "LEFT", "HOLDS", "BACK"]
    assert next(line for line in lines if line.startswith("tier economy")).endswith("job 1")

    assert "The cap of tier economy is lifted" in cli("budget", "set", "--tier", "economy=none").err
    assert cli("resume", "--json").json[0]["done"] == 6
    assert vendor_server.totals()["calls"] == 6
    left = cli("budget", "show", "--json").json["caps"]
    assert [cap["scope"] for cap in left] == ["provider:together", "task:cards"]


def test_the_daily_cap_can_be_lifted_and_a_wrong_name_sets_nothing(cli: Cli) -> None:
    cli("budget", "set", "--daily", "none")
    shown = cli("budget", "show", "--json").json
    assert (shown["cap_usd"], shown["left_usd"]) == (None, None)
    assert cli("budget", "show").out.splitlines()[1].split()[2:] == ["none", "$0.00", "$0.00", "none"]
    refused = cli("budget", "set", "--daily", "1", "--tier", "econmy=1", code=2)
    assert "Did you mean economy" in refused.err
    assert cli("budget", "show", "--json").json["cap_usd"] is None


def test_a_paused_job_is_taken_up_by_the_same_submission_when_its_cap_is_raised(
    cli: Cli, vendor_server: VendorServer
) -> None:
    cli.documents(4)
    cli("budget", "set", "--provider", "openai=0")
    held = cli(*SUBMIT, "--json", code=4).json
    assert "cap of provider openai" in held["waiting_reason"]
    cli("budget", "set", "--provider", "openai=1.00")
    again = cli(*SUBMIT, "--json").json
    assert (again["job_id"], again["done"], again["taken_up"]) == (held["job_id"], 4, True)
    assert vendor_server.totals()["calls"] == 4
