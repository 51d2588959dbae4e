"""Connections that Redis closes under kombu: a worker must neither end nor stand still for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from batcher.catalog.models import load_catalog
from batcher.dispatch.celery_app import WORK, make_app, queue_of
from batcher.dispatch.waking import Waker
from batcher.settings import load_settings
from tests.support.fleet import Fleet, wait_until
from tests.support.redis_server import RedisServer

QUEUE = queue_of("economy")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


def test_a_message_of_a_closed_channel_says_that_its_connection_is_lost(
    tmp_path: Path, redis: RedisServer
) -> None:
    """Celery ends a worker for everything else that is said then."""
    app = make_app(load_settings(home=tmp_path, broker_url=redis.url), ["economy"])
    connection = app.connection_for_read()
    app.send_task(WORK, args=["economy"], queue=QUEUE, ignore_result=True)
    channel = connection.channel()
    message = app.amqp.queues[QUEUE](channel).get()
    assert message is not None
    lost = connection.connection_errors
    connection.transport.client = None  # as closing a connection leaves it, while channels are in use
    with pytest.raises(lost):
        channel.close()
    with pytest.raises(lost):
        message.ack()


def test_a_worker_whose_subscription_is_closed_goes_on_hearing_and_stops_when_told(
    tmp_path: Path, redis: RedisServer
) -> None:
    """Redis-py used to subscribe anew within a read without a time limit, which held up everything else."""
    fleet = Fleet.make(
        tmp_path,
        broker_url=redis.url,
        store_url=f"sqlite:///{tmp_path / 'store.db'}",
        openai_url="http://127.0.0.1:1/v1",
    )
    waker = Waker(
        make_app(settings := load_settings(home=tmp_path, broker_url=redis.url), load_catalog(settings).tiers)
    )
    try:
        worker = fleet.worker("--tier", "economy")
        for _ in range(3):
            with redis.client() as client:
                wait_until(lambda: client.client_list(_type="pubsub"))
                client.client_kill_filter(_type="pubsub")
            waker.ring(["economy"])
            wait_until(lambda: waker.depth(QUEUE) == 0, 20, lambda: worker.log)
        assert worker.stop() == 0
    finally:
        fleet.end()
