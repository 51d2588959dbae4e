"""``batcher alerts``: what was told, whether the channels work, and delivery of what is pending."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from batcher.cli.output import echo_json, echo_table, iso_time, local_time, note, visible_line
from batcher.settings import Settings

if TYPE_CHECKING:
    from batcher.alerts.book import StoredAlert
    from batcher.alerts.delivery import Tried
    from batcher.store.database import Store

EXIT_CONFIGURATION: Final = 3
EXIT_DEPENDENCY: Final = 5
LATEST: Final = 20
SEND_WAIT_S: Final = 30.0
NO_CHANNELS: Final = "No channel is set: alerts go to the log only. Set alert_urls, or BATCHER_ALERT_URLS"


@click.group("alerts")
def alerts() -> None:
    """List alerts, test their channels, deliver what is pending."""


@alerts.command("list")
@click.option("--all", "show_all", is_flag=True, help=f"Not only the latest {LATEST}.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_command(settings: Settings, show_all: bool, as_json: bool) -> None:
    """What was raised, newest first, and whether every channel has it."""
    from batcher.alerts.book import list_alerts
    from batcher.runtime import Runtime

    with Runtime(settings).store.read() as connection:
        found = list_alerts(connection, None if show_all else LATEST)
    if as_json:
        echo_json([_json(stored) for stored in found])
        return
    rows = [("RAISED", "RULE", "ABOUT", "STATE", "WHAT")]
    rows += [
        (
            local_time(stored.created_at),
            stored.alert.rule.value,
            visible_line(stored.alert.scope),
            stored.state.value,
            stored.alert.title,
        )
        for stored in found
    ]
    echo_table(rows)


@alerts.command("test")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def test_command(settings: Settings, as_json: bool) -> int:
    """Send a test message to every channel, and say which of them take it.

    Exit code 3 if no channel is set, 5 if one does not take the message.
    """
    import socket

    from batcher.runtime import Runtime

    desk = Runtime(settings).alerts
    title = "batcher: a test"
    tried = desk.test(title, f"Alerts of batcher on {socket.gethostname()} arrive here.")
    if as_json:
        echo_json([_tried_json(one) for one in tried])
    else:
        _show(tried)
    if not tried:
        note(NO_CHANNELS)
        return EXIT_CONFIGURATION
    return EXIT_DEPENDENCY if any(one.fault is not None for one in tried) else 0


@alerts.command("send")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def send_command(settings: Settings, as_json: bool) -> int:
    """Look at caps and running jobs, and deliver all that is pending.

    A run does this by itself. In a crontab it tells of a run that was killed. Exit code 3 if no channel is
    set, 5 if one does not take its message: it is tried again by the next run, or the next time.
    """
    from batcher.runtime import Runtime

    runtime = Runtime(settings)
    new = runtime.alerts.check()
    runtime.alerts.deliver(SEND_WAIT_S, at_once=True)
    pending, faults = _count_pending(runtime.store), runtime.alerts.faults()
    if as_json:
        echo_json({"new": new, "pending": pending, "faults": [_tried_json(one) for one in faults]})
    else:
        _show(faults)
        note(f"{new} new, {pending} pending.")
    if not runtime.alerts.has_channels:
        note(NO_CHANNELS)
        return EXIT_CONFIGURATION
    return EXIT_DEPENDENCY if faults else 0


def _count_pending(store: Store) -> int:
    from batcher.alerts.book import count_pending

    with store.read() as connection:
        return count_pending(connection)


def _show(tried: list[Tried]) -> None:
    if tried:
        echo_table([("ok" if one.fault is None else "WRONG", one.channel, one.fault or "") for one in tried])


def _tried_json(one: Tried) -> dict[str, Any]:
    return {"channel": one.channel, "ok": one.fault is None, "fault": one.fault}


def _json(stored: StoredAlert) -> dict[str, Any]:
    alert = stored.alert
    return {
        "id": stored.id,
        "rule": alert.rule.value,
        "scope": alert.scope,
        "day": stored.day,
        "state": stored.state.value,
        "tries": stored.tries,
        "raised_at": iso_time(stored.created_at),
        "sent_at": iso_time(stored.sent_at),
        "title": alert.title,
        "body": alert.body,
    }
