"""``batcher alerts`` and a run's alerts, as a user has them."""

from __future__ import annotations

import json

from tests.acceptance.conftest import Cli
from tests.support.alert_channels import Webhook, dead_url


def test_without_a_channel_test_says_what_to_set(cli: Cli) -> None:
    outcome = cli("alerts", "test", code=3)
    assert "BATCHER_ALERT_URLS" in outcome.err


def test_test_tells_of_each_channel_and_of_no_secret(cli: Cli) -> None:
    with Webhook() as works:
        (cli.home / "keys.env").write_text(f'BATCHER_ALERT_URLS="{works.url}\n{dead_url()}"\n')
        cli.env["BATCHER_ENV_FILE"] = str(cli.home / "keys.env")
        outcome = cli("alerts", "test", code=5)
        first, second = outcome.out.splitlines()
        assert first.split(maxsplit=1) == ["ok", "channel 1 (JSON)"]
        assert second.startswith("WRONG  channel 2 (JSON)  A Connection error occurred")
        assert "s3cr3t" not in outcome.out + outcome.err
        found = cli("alerts", "test", "--json", code=5).json
        assert [(one["channel"], one["ok"]) for one in found] == [
            ("channel 1 (JSON)", True),
            ("channel 2 (JSON)", False),
        ]
        cli.env["BATCHER_ALERT_URLS"] = works.url
        cli("alerts", "test")
        assert works.titles == ["batcher: a test"] * 3


def test_a_run_tells_its_channel_what_the_list_then_shows(cli: Cli) -> None:
    cli.documents(6)
    with Webhook() as hook:
        cli.env["BATCHER_ALERT_URLS"] = hook.url
        cli("submit", "docs", "--task", "./cards", "--yes", "--max-cost", "0.0000001", code=4)
        assert "batcher: The cap of job 1 is reached: job 1 is paused" in hook.text
        assert "s3cr3t" not in cli("doctor", code=None).out
    listed = cli("alerts", "list").out
    assert "cap_100" in listed
    rows = cli("alerts", "list", "--json", "--all").json
    assert ("cap_100", "job:1", "sent") in [(row["rule"], row["scope"], row["state"]) for row in rows]
    assert "s3cr3t" not in json.dumps(rows)


def test_what_a_dead_channel_did_not_take_is_sent_later(cli: Cli) -> None:
    cli.documents(2)
    cli.env["BATCHER_ALERT_URLS"] = dead_url()
    run = cli("submit", "docs", "--task", "./cards", "--yes", "--max-cost", "0.0000001", code=4)
    assert "s3cr3t" not in run.out + run.err
    assert {row["state"] for row in cli("alerts", "list", "--json").json} == {"pending"}
    sent = cli("alerts", "send", "--json").json
    assert sent["pending"] >= 1, "a round began less than a minute ago"


def test_a_wrong_url_is_named_by_its_number(cli: Cli) -> None:
    (cli.home / "batcher.toml").write_text(
        'alert_urls = ["gopher://s3cr3t"]\n[alert_rules]\ncap_50 = false\n'
    )
    outcome = cli("alerts", "test", code=5)
    assert "channel 1 (unknown)" in outcome.out
    assert "s3cr3t" not in outcome.out + outcome.err


def test_a_rule_that_is_not_there_is_named(cli: Cli) -> None:
    (cli.home / "batcher.toml").write_text("[alert_rules]\ncap_5 = false\n")
    assert "alert_rules.cap_5" in cli("alerts", "list", code=3).err
