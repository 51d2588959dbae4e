"""Rings for workers, and asks them how they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from batcher.dispatch.broker import broker_connection
from batcher.dispatch.celery_app import WORK, queue_of
from batcher.errors import CatalogError

if TYPE_CHECKING:
    from celery import Celery

RINGS_PER_TIER: Final = 8
"""How many messages a tier's queue is brought up to when work comes: one for each of that many processes, and
whoever hears none looks by himself within seconds. It does not depend on how much work there is."""

STATUS: Final = "batcher_status"
"""The control command that every worker process answers."""

_ANSWER_WITHIN_S: Final = 2.0
_FOUND_ANYWAY: Final = "What was submitted is stored, and workers find it when they look"


def ask_workers(app: Celery) -> list[dict[str, Any]]:
    """What all worker processes that answer within two seconds say of themselves, by name.

    Raises:
        DependencyError: if the broker cannot be reached, or refuses it.
    """
    with broker_connection(app) as connection:
        answers = app.control.broadcast(STATUS, reply=True, timeout=_ANSWER_WITHIN_S, connection=connection)
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
            DependencyError: if the broker cannot be reached, or refuses it.
            CatalogError: if tiers have no queue; for the others it was rung.
        """
        asked = list(tiers)
        known = [tier for tier in asked if queue_of(tier) in self._app.amqp.queues]
        sent = 0
        if known:
            with broker_connection(self._app, retries=2, meanwhile=_FOUND_ANYWAY) as connection:
                sent = sum(self._ring(connection, tier, most) for tier in known)
        if unknown := sorted(set(asked) - set(known)):
            raise CatalogError(
                f"Documents wait on {', '.join(unknown)}, and there is no such tier any more. Add it under "
                "[tiers] in batcher.toml, here and where workers run, or cancel their job"
            )
        return sent

    def depth(self, queue: str) -> int:
        """How many messages wait in a queue.

        Raises:
            DependencyError: if the broker cannot be reached, or refuses it.
        """
        with broker_connection(self._app) as connection:
            return self._depth(connection, queue)

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
