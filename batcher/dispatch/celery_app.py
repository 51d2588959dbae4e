"""The Celery app, for whoever rings and for the workers that hear it.

A message says "there is work on tier T" and nothing else: what work, the store knows. So a message
that is lost costs seconds (idle workers look by themselves), and one that comes twice finds nothing to lease.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final

from celery import Celery
from celery.loaders.app import AppLoader
from kombu.entity import Queue

from batcher.dispatch.broker import check_broker
from batcher.dispatch.redis_channel import mend_channel
from batcher.planning.naming import tiers_with_queue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batcher.catalog.models import Catalog
    from batcher.settings import Settings

WORK: Final = "batcher.work"
"""The entrypoint that a tier's message calls; its one argument is the tier."""

MAINTAIN: Final = "batcher.maintain"
"""The entrypoint that the schedule calls."""

MAINTENANCE_QUEUE: Final = "batcher.maintenance"
MAINTENANCE_INTERVAL_S: Final = 10.0

_VISIBILITY_S: Final = 300
"""After so long an unacknowledged message is given to another worker. An entrypoint takes milliseconds."""

_SOCKET_TIMEOUT_S: Final = 10.0
_HEALTH_CHECK_S: Final = 15.0


def queue_of(tier: str) -> str:
    """The name of a tier's queue."""
    return f"batcher.tier.{tier}"


def make_app(settings: Settings, tiers: Iterable[str]) -> Celery:
    """The app on the broker that the settings name.

    Args:
        settings: ``broker_url`` must be set.
        tiers: all that have a queue.

    Raises:
        ConfigurationError: if the URL names what cannot be used.
    """
    assert settings.broker_url is not None
    check_broker(settings)
    url = settings.broker_url.get_secret_value()
    # Loaders that are named are looked for in the working folder first.
    app = Celery("batcher", broker=url, set_as_current=False, loader=AppLoader)
    app.conf.update(_CONFIGURATION)
    app.conf.task_queues = [Queue(queue_of(tier)) for tier in tiers] + [Queue(MAINTENANCE_QUEUE)]
    app.conf.worker_concurrency = len(app.conf.task_queues)
    if settings.limiter_url() is not None:
        app.conf.broker_transport_options = _REDIS_OPTIONS
        if url.startswith("rediss://"):
            # Kombu would take any certificate where the URL says nothing; what it says goes before this.
            app.conf.broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
        mend_channel()
    return app


def app_of(settings: Settings, catalog: Catalog) -> Celery:
    """``make_app`` with all queues that there are."""
    return make_app(settings, tiers_with_queue(catalog))


_CONFIGURATION: Final[dict[str, Any]] = {
    "accept_content": ["json"],
    "task_serializer": "json",
    "event_serializer": "json",
    "result_serializer": "json",
    "result_backend": None,
    "task_ignore_result": True,
    "task_acks_late": True,
    "worker_prefetch_multiplier": 1,
    "worker_pool": "threads",
    "task_default_queue": MAINTENANCE_QUEUE,
    "task_create_missing_queues": False,
    "task_publish_retry_policy": {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.3},
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    # What the broker refuses may be put right while the engine works on; else Celery ends the whole process.
    "broker_channel_error_retry": True,
    "broker_connection_timeout": _SOCKET_TIMEOUT_S,
    # No entrypoint runs for long, and each may be heard twice: nothing is lost when they are cancelled.
    "worker_cancel_long_running_tasks_on_connection_loss": True,
    "worker_hijack_root_logger": False,
    "worker_send_task_events": True,
    "task_send_sent_event": True,
    "worker_proc_alive_timeout": 30.0,
    "beat_schedule": {
        "maintain": {
            "task": MAINTAIN,
            "schedule": MAINTENANCE_INTERVAL_S,
            "options": {"queue": MAINTENANCE_QUEUE, "expires": MAINTENANCE_INTERVAL_S},
        }
    },
}

_REDIS_OPTIONS: Final[dict[str, Any]] = {
    "visibility_timeout": _VISIBILITY_S,
    "socket_timeout": _SOCKET_TIMEOUT_S,
    "socket_connect_timeout": _SOCKET_TIMEOUT_S,
    "socket_keepalive": True,
    "health_check_interval": _HEALTH_CHECK_S,
}
"""Nothing is retried below Celery: redis-py would connect anew within a read that waits without a time limit,
and the worker's event loop would stand still in it until somebody broadcasts (redis 8.1, kombu 5.7)."""
