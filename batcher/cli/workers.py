"""``batcher workers``: who is alive, on what, waiting for what."""

from __future__ import annotations

import socket
from typing import Any

import click

from batcher.cli.output import duration, echo_json, echo_table, note
from batcher.errors import ConfigurationError
from batcher.settings import Settings


@click.command("workers")
@click.option(
    "--here", is_flag=True, help="Only those of this host; exit 5 if none answers (a health check)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def workers(settings: Settings, here: bool, as_json: bool) -> int:
    """Who is alive, on what, waiting for what."""
    if settings.broker_url is None:
        raise ConfigurationError(
            "Without a broker there are no workers: submit does the work itself. To have some, set "
            "BATCHER_BROKER_URL"
        )
    from batcher.catalog.models import load_catalog
    from batcher.dispatch.celery_app import app_of
    from batcher.dispatch.waking import ask_workers

    found = ask_workers(app_of(settings, load_catalog(settings)))
    if here:
        found = [one for one in found if one.get("host") == socket.gethostname()]
    if as_json:
        echo_json(found)
    elif not found:
        note("No worker answers. Start one with: batcher worker")
    else:
        header = ("WORKER", "TIERS", "STATE", "UP", "ITEMS", "IN FLIGHT", "DONE", "FAILED", "WAITING FOR")
        echo_table([header, *map(_row, found)], right=(3, 4, 5, 6, 7))
    return 5 if here and not found else 0


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    import time

    up = duration(max(0.0, time.time() - one["started_at"])) if one.get("started_at") else ""
    counts = [f"{one.get(name, 0):,}" for name in ("items", "in_flight", "done", "failed")]
    why = one.get("trouble") or one.get("waiting") or "; ".join(one.get("unserved", {}).values())
    return (one["worker"], ", ".join(one.get("tiers", [])), one.get("state", ""), up, *counts, why)
