"""Alerts that really go out: over HTTP and SMTP on loopback, past channels that are dead, slow or hang."""

from __future__ import annotations

import email
import email.policy
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from batcher.alerts.alerts import ANSWER_WAIT_S, Alerts, Evidence
from batcher.alerts.book import Alert, AlertState, Rule, StoredAlert, list_alerts
from batcher.alerts.delivery import Delivery
from batcher.alerts.lookout import Lookout
from batcher.dispatch.inline import run_inline
from batcher.engine.control import Ending
from batcher.settings import load_settings
from batcher.store.database import Store
from batcher.store.schema import ensure_schema
from batcher.store.tables import alerts as alerts_table
from tests.support.alert_channels import MailServer, Webhook, dead_url
from tests.support.runs import item_statuses, make_job, make_runtime
from tests.support.vendor_server import VendorServer

DIGEST = Alert(Rule.DIGEST, "job:1", "The night's digest", "40,000 done")
CAP = Alert(Rule.CAP_80, "day", "The daily cap is 80 % spent", "$4.00 of $5.00")


class Desk:
    """A store, and the alerts of as many processes as a test asks for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ahead = 0.0
        self.store = Store(f"sqlite:///{folder / 'store.db'}", clock=lambda: time.time() + self._ahead)
        ensure_schema(self.store)

    def alerts(self, *urls: str, **settings: Any) -> Alerts:
        config = self._folder / "batcher.toml"
        config.touch()
        found = load_settings(config, alert_urls=list(urls), **settings)
        return Alerts(self.store, found, Evidence(lambda *_: (0.0, 1.0), dict))

    def stored(self) -> list[StoredAlert]:
        with self.store.read() as connection:
            return list_alerts(connection)[::-1]

    def later(self, seconds: float) -> None:
        """Let the store's clock go on."""
        self._ahead += seconds


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    found = Desk(tmp_path)
    yield found
    for thread in threading.enumerate():
        if thread.name.startswith("batcher-alerts"):
            thread.join(10)
    found.store.close()


def test_a_webhook_and_a_mail_server_get_the_message(desk: Desk) -> None:
    with Webhook() as hook, MailServer() as mail:
        alerts = desk.alerts(hook.url, mail.url)
        alerts.tell(Alert(Rule.JOB_FAILED, "job:1", "Job 1 <b>\r\nBcc: x@y.test", "first\n<script>\nthird"))
        assert hook.messages[0]["type"] == "warning"
        assert hook.titles == ["batcher: Job 1 ‹b› Bcc: x@y.test"]  # noqa: RUF001
        assert "‹script›\nthird" in hook.text  # noqa: RUF001
        assert "alert job_failed)" in hook.text
        message = email.message_from_bytes(mail.messages[0], policy=email.policy.default)
        assert message["Subject"] == "batcher: Job 1 ‹b› Bcc: x@y.test"  # noqa: RUF001
        assert message["Bcc"] is None
        assert "first" in str(message.get_content())
    assert desk.stored()[0].state is AlertState.SENT
    assert alerts.faults() == []


def test_alerts_that_are_due_together_are_one_message_the_digest_first(desk: Desk) -> None:
    with Webhook() as hook:
        silent = desk.alerts()
        alerts = desk.alerts(hook.url)
        desk_raise(desk, CAP, DIGEST)
        alerts.deliver()
        assert hook.titles == ["batcher: The night's digest (and 1 more)"]
        assert hook.text.index("40,000 done") < hook.text.index("$4.00 of $5.00")
        silent.deliver()
        assert hook.requests == 1


def test_a_long_night_is_told_in_several_messages(desk: Desk) -> None:
    with Webhook() as hook:
        desk_raise(desk, *(Alert(Rule.CAP_80, f"tier:{n}", f"Tier {n}", "line\n" * 39) for n in range(70)))
        desk.alerts(hook.url).deliver()
        assert len(hook.messages) > 1
        assert all(len(message["message"]) < 8_000 for message in hook.messages)
        hook.wait_for(lambda _: hook.text.count("alert cap_80") == 50)
        desk.alerts(hook.url).deliver()
        assert sorted({line for line in hook.text.splitlines() if line.startswith("Tier ")}) == sorted(
            f"Tier {n}" for n in range(70)
        )


def desk_raise(desk: Desk, *alerts: Alert) -> None:
    """Raise alerts as a run does that delivers nothing."""
    from batcher.alerts.book import raise_alert

    with desk.store.write() as connection:
        for alert in alerts:
            assert raise_alert(connection, alert, "2026-11-20", desk.store.now(connection))


def test_a_dead_channel_gets_it_later_and_the_others_once(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    with Webhook() as works, Webhook(500, 503) as broken:
        alerts = desk.alerts(works.url, broken.url)
        alerts.tell(CAP)
        assert works.titles == ["batcher: The daily cap is 80 % spent"]
        assert [(one.channel, "500" in (one.fault or "")) for one in alerts.faults()] == [
            ("channel 2 (JSON)", True)
        ]
        alerts.deliver()
        assert broken.requests == 1, "not before it is due"
        desk.later(61)
        alerts.deliver(0.0)
        broken.wait_for(lambda _: broken.requests == 2)
        assert desk.stored()[0].state is AlertState.PENDING
        desk.later(121)
        another_process = desk.alerts(works.url, broken.url)
        another_process.deliver()
        assert broken.titles == works.titles == ["batcher: The daily cap is 80 % spent"]
        assert works.requests == 1
    assert desk.stored()[0].state is AlertState.SENT
    assert "s3cr3t" not in caplog.text
    assert "channel 2 (JSON) did not take an alert" in caplog.text


@pytest.mark.parametrize("status", [301, 302, 303])
@pytest.mark.parametrize("asked", ["", "?redirect=yes", "?method=GET"])
def test_a_redirect_that_loses_the_message_is_no_delivery(desk: Desk, status: int, asked: str) -> None:
    with Webhook(status) as hook:
        alerts = desk.alerts(hook.url + asked)
        alerts.tell(CAP)
        assert hook.messages == []
        [stored] = desk.stored()
        assert (stored.state, stored.taken_by) == (AlertState.PENDING, frozenset())
        [tried] = alerts.faults()
        assert tried.fault is not None
        assert f"redirects ({status})" in tried.fault
        desk.later(61)
        alerts.deliver()
        assert len(hook.messages) == 1
        assert desk.stored()[0].state is AlertState.SENT


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_that_keeps_the_message_is_followed(desk: Desk, status: int) -> None:
    with Webhook(status) as hook:
        desk.alerts(hook.url).tell(CAP)
        assert hook.titles == [f"batcher: {CAP.title}"]
        assert desk.stored()[0].state is AlertState.SENT


def test_a_channel_that_hangs_is_told_from_one_that_is_not_there(desk: Desk) -> None:
    with Webhook(hangs=True) as hook:
        hangs, dead = desk.alerts(hook.url + "?rto=0.3", dead_url()).test("a", "b")
    assert hangs.fault == "no answer within 0.3 s"
    assert "A Connection error occurred" in str(dead.fault)


def test_others_who_use_the_same_library_are_redirected_as_ever(desk: Desk) -> None:
    import requests

    with Webhook(200, 302) as hook:
        desk.alerts(hook.url).tell(CAP)
        address = hook.url.replace("json://", "http://")
        assert requests.post(address, json={"a": 1}, timeout=10).status_code == 200
    assert hook.requests == 3


def test_what_is_given_up_is_said(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk_raise(desk, CAP)
    with desk.store.write() as connection:
        connection.execute(update(alerts_table).values(tries=30))
    desk.alerts(dead_url()).deliver()
    assert "alert given up after 30 tries: cap_80 day: The daily cap is 80 % spent" in caplog.text
    assert desk.stored()[0].state is AlertState.GIVEN_UP


def test_a_channel_that_hangs_is_waited_for_so_long_and_no_longer(desk: Desk) -> None:
    with Webhook(hangs=True) as hanging, Webhook() as works:
        alerts = desk.alerts(f"{hanging.url}?rto=30", works.url)
        started = time.monotonic()
        alerts.tell(CAP, wait_s=1.0)
        assert time.monotonic() - started < 2.0
        assert len(works.messages) == 1
        started = time.monotonic()
        alerts.tell(DIGEST, wait_s=1.0)
        assert time.monotonic() - started < 1.0, "it has been silent for long enough"
        works.wait_for(lambda messages: len(messages) == 2)
        [fault] = alerts.faults()
        assert fault.channel == "channel 1 (JSON)"
        assert "no answer for" in str(fault.fault)
        assert hanging.requests == 1, "nothing piles up in front of it"
    assert {stored.state for stored in desk.stored()} == {AlertState.PENDING}


def test_a_channel_that_timed_out_is_not_waited_for_again_at_the_end(desk: Desk) -> None:
    with Webhook(hangs=True) as hanging:
        alerts = desk.alerts(f"{hanging.url}?rto=1.5")
        alerts.tell(CAP)
        assert [one.fault for one in alerts.faults()] == ["no answer within 1.5 s"]
        started = time.monotonic()
        alerts.tell(DIGEST)
        assert time.monotonic() - started < 1.0


def test_a_channel_that_failed_at_once_gets_the_digest_all_the_same(desk: Desk) -> None:
    with Webhook(500) as hook:
        alerts = desk.alerts(hook.url)
        alerts.tell(CAP)
        alerts.tell(DIGEST)
        assert hook.titles == ["batcher: The night's digest"]


def test_what_a_killed_process_left_is_delivered_by_the_next(desk: Desk) -> None:
    desk_raise(desk, CAP)
    with Webhook() as hook:
        desk.alerts(hook.url).deliver()
        assert hook.titles == ["batcher: The daily cap is 80 % spent"]


def test_a_rule_that_is_off_goes_nowhere_whoever_raised_it(desk: Desk) -> None:
    desk_raise(desk, CAP, DIGEST)
    with Webhook() as hook:
        desk.alerts(hook.url, alert_rules={"cap_80": False}).deliver()
        assert hook.titles == ["batcher: The night's digest"]
    assert [stored.state for stored in desk.stored()] == [AlertState.MUTED, AlertState.SENT]


def test_a_test_tells_of_each_channel_without_its_secrets(desk: Desk) -> None:
    with Webhook() as works, Webhook(500) as broken, Webhook(hangs=True) as hanging:
        urls = [works.url, broken.url, dead_url(), f"{hanging.url}?rto=30", "nonsense://s3cr3t"]
        started = time.monotonic()
        tried = Delivery(desk.store, urls, ()).test("batcher: a test", "x", timeout_s=3.0)
        assert time.monotonic() - started < 6
        assert [one.fault is None for one in tried] == [True, False, False, False, False]
        said = " ".join(f"{one.channel} {one.fault}" for one in tried)
        assert "no answer within 3 s" in said
        assert "apprise cannot read its URL" in said
        assert "s3cr3t" not in said
        assert works.titles == ["batcher: a test"]


def test_urls_are_hidden_wherever_a_channel_shows(desk: Desk) -> None:
    from batcher.alerts.channels import Channel

    channel = Channel(1, "slack://T0123456A/B0123456B/s3cr3ts3cr3ts3cr3ts3cr3t")
    shown = f"{channel!r} {channel.name} {channel.fingerprint} {channel.send('t', 'b')}"
    assert "s3cr3t" not in shown
    assert "Slack" in shown


def test_a_lookout_outlives_a_store_that_is_gone(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    from batcher.alerts.rates import Rates

    alerts = desk.alerts()
    desk.store.close()
    Path(str(desk.store.engine.url.database)).unlink()
    with Lookout(alerts, None, Rates(), every_s=0.01), caplog.at_level(logging.WARNING):
        deadline = time.monotonic() + 10
        while "no look for alerts" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "no look for alerts" in caplog.text


def _run(
    home: Path, vendor: VendorServer, *urls: str, cap_nusd: int | None = None
) -> tuple[Ending, float, Any, int]:
    runtime = make_runtime(home, vendor, alert_urls=list(urls), alert_rules={"job_done": True})
    job = make_job(runtime, {f"d{n}": f"Document {n}" for n in range(12)}, max_cost_nusd=cap_nusd)
    started = time.monotonic()
    ending = run_inline(runtime.engine, runtime.aclose, [job.id], alerts=runtime.alerts)
    return ending, time.monotonic() - started, runtime, job.id


def test_a_run_tells_of_its_cap_and_its_end(tmp_path: Path, vendor_server: VendorServer) -> None:
    with Webhook() as hook:
        ending, _, runtime, job_id = _run(tmp_path, vendor_server, hook.url, cap_nusd=1)
        assert ending is Ending.BUDGET
        assert f"The cap of job {job_id} is reached: job {job_id} is paused" in hook.text
        with runtime.store.write() as connection:
            runtime.ledger.set_job_cap(connection, job_id, None)
        ending, _, _, job_id = _run(tmp_path, vendor_server, hook.url)
        assert ending is Ending.IDLE
        assert f"Job {job_id} is done: 12 done" in hook.text


def test_a_run_whose_channel_hangs_or_is_dead_ends_as_fast(
    tmp_path: Path, vendor_server: VendorServer
) -> None:
    _, plain_s, _, _ = _run(tmp_path / "plain", vendor_server)
    with Webhook(hangs=True) as hanging:
        ending, hung_s, runtime, job_id = _run(
            tmp_path / "hung", vendor_server, f"{hanging.url}?rto=60", dead_url()
        )
        assert hanging.requests == 1
    assert ending is Ending.IDLE
    assert item_statuses(runtime, job_id) == {"done": 12}
    assert hung_s < plain_s + ANSWER_WAIT_S + 3
    with runtime.store.read() as connection:
        assert [stored.state for stored in list_alerts(connection)] == [AlertState.PENDING]


@pytest.mark.parametrize(
    ("fault", "rule", "scope"),
    [
        ({"text": "no json", "times": None}, Rule.INVALID_RATE, "job:1/gpt-4o-mini"),
        ({"status": 500, "rate": 0.7}, Rule.ERROR_SPIKE, "model:gpt-4o-mini"),
        ({"status": 401}, Rule.JOB_FAILED, "job:1"),
    ],
)
def test_a_run_tells_of_a_model_that_does_badly(
    tmp_path: Path, vendor_server: VendorServer, fault: dict[str, Any], rule: Rule, scope: str
) -> None:
    vendor_server.add_fault(**fault)
    runtime = make_runtime(tmp_path, vendor_server, max_attempts=2, concurrency=8)
    job = make_job(runtime, {f"d{n}": f"Document {n}" for n in range(60)})
    run_inline(runtime.engine, runtime.aclose, [job.id], alerts=runtime.alerts)
    with runtime.store.read() as connection:
        found = {(stored.alert.rule, stored.alert.scope) for stored in list_alerts(connection)}
    assert (rule, scope) in found
