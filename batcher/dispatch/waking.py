"""Rings for workers, and asks them how they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from kombu.exceptions import OperationalError

from batcher.dispatch.celery_app import WORK, queue_of
from batcher.errors import DependencyError

if TYPE_CHECKING:
    from celery import Celery

RINGS_PER_TIER: Final = 8
"""How many messages a tier's queue is brought up to when work comes: one for each of that many processes, and
whoever hears none looks by himself within seconds. It does not depend on how much work there is."""

STATUS: Final = "batcher_status"
"""The control command that every worker process answers."""

_ANSWER_WITHIN_S: Final = 2.0
_UNREACHABLE: Final = (OperationalError, OSError)


def ask_workers(app: Celery) -> list[dict[str, Any]]:
    """What all worker processes that answer within two seconds say of themselves, by name.

    Raises:
        DependencyError: if the broker cannot be reached.
    """
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.1)
            answers = app.control.broadcast(
                STATUS, reply=True, timeout=_ANSWER_WITHIN_S, connection=connection
            )
    except _UNREACHABLE as error:
        raise DependencyError(
            f"The broker cannot be reached: {type(error).__name__}. See that it is up and that "
            "BATCHER_BROKER_URL is right"
        ) from None
    found = [{"worker": name} | said for answer in answers or () for name, said in answer.items()]
    return sorted(found, key=lambda one: str(one["worker"]))


class Waker:
    """Rings on one broker.

    Args:
        app: the Celery app.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app

    def ring(self, tiers: Iterable[str], most: int = RINGS_PER_TIER) -> int:
        """Bring the queues of these tiers up to so many messages; returns how many were sent.

        Raises:
            DependencyError: if the broker cannot be reached.
        """
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=2, interval_start=0.1, interval_step=0.3)
                return sum(self._ring(connection, tier, most) for tier in tiers)
        except _UNREACHABLE as error:
            raise DependencyError(
                f"The broker cannot be reached: {type(error).__name__}. What was submitted is stored, and "
                "workers find it when they look. See that it is up and that BATCHER_BROKER_URL is right"
            ) from None

    def depth(self, queue: str) -> int:
        """How many messages wait in a queue.

        Raises:
            DependencyError: if the broker cannot be reached.
        """
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0.1)
                return self._depth(connection, queue)
        except _UNREACHABLE as error:
            raise DependencyError(f"The broker cannot be reached: {type(error).__name__}") from None

    def _ring(self, connection: object, tier: str, most: int) -> int:
        missing = max(0, most - self._depth(connection, queue_of(tier)))
        for _ in range(missing):
            self._app.send_task(
                WORK, args=[tier], queue=queue_of(tier), connection=connection, ignore_result=True
            )
        return missing

    def _depth(self, connection: object, queue: str) -> int:
        declared = self._app.amqp.queues[queue](connection.default_channel)  # type: ignore[attr-defined]
        return int(declared.queue_declare(passive=False).message_count)
