"""What kombu says of a channel that is closed: Celery ends a worker for all but a lost connection."""

from __future__ import annotations

from pathlib import Path

import pytest

from batcher.dispatch.celery_app import WORK, make_app, queue_of
from batcher.settings import load_settings
from tests.support.redis_server import RedisServer


def test_a_message_of_a_closed_channel_says_that_its_connection_is_lost(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        app = make_app(load_settings(home=tmp_path, broker_url=redis.url), ["economy"])
        connection = app.connection_for_read()
        app.send_task(WORK, args=["economy"], queue=queue_of("economy"), ignore_result=True)
        channel = connection.channel()
        message = app.amqp.queues[queue_of("economy")](channel).get()
        assert message is not None
        lost = connection.connection_errors
        connection.transport.client = None  # as closing a connection leaves it, while channels are in use
        with pytest.raises(lost):
            channel.close()
        with pytest.raises(lost):
            message.ack()
