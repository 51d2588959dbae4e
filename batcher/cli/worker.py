"""``batcher worker``: processes that do the work of queues."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import click

from batcher.cli.arguments import MANY
from batcher.errors import ConfigurationError, UsageError
from batcher.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batcher.dispatch.supervisor import Child

_log = logging.getLogger("batcher.supervisor")


@click.command("worker")
@click.option(
    "--tier",
    "tiers",
    multiple=True,
    metavar="NAME",
    help="Serve this tier; repeatable. Default: all. custom: models on no tier.",
)
@click.option("--processes", type=MANY, default=1, show_default=True, help="How many, each one core's worth.")
@click.option(
    "--beat", is_flag=True, help="Run the schedule too: lost leases, paused jobs, alerts. One is enough."
)
@click.option("--maintenance", is_flag=True, help="Do what the schedule asks for, and no documents.")
@click.pass_obj
def worker(settings: Settings, tiers: tuple[str, ...], processes: int, beat: bool, maintenance: bool) -> int:
    """Do the work that submit hands over, until stopped.

    Starts Celery workers on the queues of the tiers, and restarts those that die. SIGTERM or Ctrl-C lets the
    calls in flight end and gives the rest back; a second one is hard. Needs BATCHER_BROKER_URL.
    """
    from batcher.dispatch.broker import try_broker
    from batcher.dispatch.exposition import check_metrics
    from batcher.dispatch.json_log import log_as_json
    from batcher.dispatch.supervisor import supervise
    from batcher.store.database import check_url

    if settings.broker_url is None:
        raise ConfigurationError(
            "A worker needs a broker: set BATCHER_BROKER_URL, e.g. redis://HOST:6379/0. Without one, submit "
            "does the work itself"
        )
    if maintenance and tiers:
        raise UsageError("--maintenance serves no tier: leave --tier out")
    try_broker(settings)
    check_url(settings.store_url(), home=settings.home)
    if not maintenance:
        check_metrics(settings)
    queues = _queues(settings, tiers, maintenance=maintenance)
    children = [_worker(settings, queues, number) for number in range(processes)]
    if beat:
        children.append(_beat(settings))
    log_as_json()
    _log.info("%s worker process%s on %s", processes, "" if processes == 1 else "es", ", ".join(queues))
    return supervise(children)


def _queues(settings: Settings, tiers: Sequence[str], *, maintenance: bool) -> list[str]:
    """The queues to consume; every worker also does what the schedule asks for."""
    from batcher.catalog.models import load_catalog
    from batcher.dispatch.celery_app import MAINTENANCE_QUEUE, queue_of
    from batcher.planning.naming import tiers_with_queue

    if maintenance:
        return [MAINTENANCE_QUEUE]
    catalog = load_catalog(settings)
    there = tiers_with_queue(catalog)
    for tier in tiers:
        if tier in catalog.tiers or tier not in there:
            catalog.tier(tier)
    return [queue_of(tier) for tier in (tiers or there)] + [MAINTENANCE_QUEUE]


def _worker(settings: Settings, queues: Sequence[str], number: int) -> Child:
    from batcher.dispatch.supervisor import Child
    from batcher.settings import child_environment

    arguments = ["-m", "workers", _own_pid(), "--quiet", "worker"]
    arguments += [
        "--queues",
        ",".join(queues),
        "--hostname",
        f"batcher-{_own_pid()}-{number}@%h",
        "--loglevel",
        "info",
        # Neighbours have nothing to tell each other: the store holds what they share.
        "--without-mingle",
        "--without-gossip",
    ]
    port = None if settings.metrics_port is None else settings.metrics_port + number
    return Child(arguments, child_environment(settings, metrics_port=port, **_named_config()))


def _beat(settings: Settings) -> Child:
    from batcher.dispatch.supervisor import Child
    from batcher.settings import child_environment

    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    arguments = ["-m", "workers", _own_pid(), "--quiet", "beat", "--loglevel", "info"]
    arguments += ["--schedule", str(settings.home / "beat"), "--pidfile", ""]
    return Child(arguments, child_environment(settings, **_named_config()))


def _named_config() -> dict[str, object]:
    """The file that ``--config`` named, if it did."""
    config = click.get_current_context().find_root().params.get("config")
    return {} if config is None else {"config": config.absolute()}


def _own_pid() -> str:
    """Whose children they are; and Celery asks that no two workers of a broker have one name."""
    import os

    return str(os.getpid())
