"""What ``celery -A workers.app worker`` starts: the app, its entrypoints, and the process's one engine.

The signals of Celery tell when the process starts and stops; see ``workers.process`` for what runs in it.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any, Final

from celery.exceptions import SecurityWarning
from celery.signals import celeryd_after_setup, setup_logging, worker_shutdown, worker_shutting_down
from celery.worker.control import inspect_command

from batcher.catalog.models import load_catalog
from batcher.dispatch.celery_app import MAINTAIN, WORK, make_app, queue_of
from batcher.dispatch.exposition import check_metrics
from batcher.dispatch.json_log import log_as_json
from batcher.dispatch.waking import STATUS, Waker
from batcher.errors import BatcherError, ConfigurationError
from batcher.planning.naming import tiers_with_queue
from batcher.runtime import Runtime
from batcher.settings import load_settings
from batcher.store.database import check_url
from workers.maintenance import maintain_once
from workers.process import WorkerProcess

if TYPE_CHECKING:
    from celery import Celery

    from batcher.settings import Settings

_log = logging.getLogger("batcher.worker")

_EXIT_HARD: Final = 1


def _configure() -> tuple[Settings, tuple[str, ...], Celery]:
    """The settings, the tiers that have a queue, and the app; ends the process if they cannot be used."""
    try:
        settings = load_settings()
        if settings.broker_url is None:
            raise ConfigurationError(
                "A worker needs a broker. Set BATCHER_BROKER_URL, e.g. to redis://HOST:6379/0"
            )
        tiers = tuple(tiers_with_queue(load_catalog(settings)))
        return settings, tiers, make_app(settings, tiers)
    except BatcherError as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201 - nothing is set up to log yet
        sys.exit(error.exit_code)


# What Celery says to root is about pickle: no message here is any.
warnings.filterwarnings("ignore", category=SecurityWarning)

_settings, _tiers, app = _configure()
# Else Celery makes one where it asks for the current app, with a celeryconfig.py of the working folder.
app.set_default()
app.conf.worker_consumer = "workers.consumer:CarefulConsumer"
app.conf.beat_scheduler = "workers.schedule:SparingScheduler"

_runtime = Runtime(_settings)
_started_at = time.time()
_process: WorkerProcess | None = None
_stops = 0


@app.task(name=WORK)  # type: ignore[untyped-decorator]
def work(tier: str) -> None:
    """There is work on a tier: the process's engine looks for it at once."""
    if _process is not None and tier in _process.tiers:
        _process.ring()


@app.task(name=MAINTAIN)  # type: ignore[untyped-decorator]
def maintain() -> None:
    """What has to be done now and then by whichever worker hears of it first."""
    maintain_once(_runtime, app)


@setup_logging.connect  # type: ignore[untyped-decorator]
def _log_as_json(loglevel: int | None = None, **_: Any) -> None:
    log_as_json(loglevel or logging.INFO)


@celeryd_after_setup.connect  # type: ignore[untyped-decorator]
def _start(instance: Any, **_: Any) -> None:
    """Start the engine of the tiers whose queues this process consumes, whether the broker is up or not."""
    global _process  # noqa: PLW0603 - one per process, and Celery's signals bring no context
    consumed = set(instance.app.amqp.queues.consume_from)
    tiers = tuple(tier for tier in _tiers if queue_of(tier) in consumed)
    try:
        check_url(_settings.store_url(), home=_settings.home)
        if tiers:
            check_metrics(_settings)
    except ConfigurationError as error:
        _log.critical("%s", error)
        sys.exit(error.exit_code)
    if tiers:
        _process = WorkerProcess(_runtime, tiers)
        _process.start()
        if _settings.metrics_port is not None:
            from workers.metrics import serve_metrics

            serve_metrics(_process, Waker(app), _settings.metrics_port)


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _stop(**_: Any) -> None:
    """The first signal: send nothing more. The second: at once."""
    global _stops  # noqa: PLW0603
    _stops += 1
    if _stops > 1:
        os._exit(_EXIT_HARD)
    if _process is not None:
        _process.stop()


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def _finish(**_: Any) -> None:
    """Wait for the calls in flight, then give the leases back."""
    if _process is not None:
        _process.stop()
        _process.join(_settings.grace_s)


@inspect_command(name=STATUS)  # type: ignore[untyped-decorator]
def status(state: Any) -> dict[str, Any]:  # noqa: ARG001 - Celery's signature
    """What this process does and waits for; asked by ``batcher workers``."""
    if _process is not None:
        return _process.describe()
    here = {"host": socket.gethostname(), "pid": os.getpid()}
    return here | {"tiers": [], "started_at": _started_at, "state": "maintenance only"}
