"""The Celery app: what it sends, what it takes, and what it waits for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from celery import Celery

from batcher.dispatch.broker import check_broker, ping
from batcher.dispatch.celery_app import MAINTENANCE_QUEUE, make_app, queue_of
from batcher.dispatch.waking import RINGS_PER_TIER, Waker, ask_workers
from batcher.errors import CatalogError, ConfigurationError, DependencyError
from batcher.settings import Settings
from tests.support.redis_server import RedisServer

TIERS = ("economy", "premium")
AWAY = "redis://someone:s3cret-word@127.0.0.1:1/0"


def settings(url: str, home: Path) -> Settings:
    return Settings(broker_url=url, home=home)


def test_messages_are_json_acknowledged_late_one_at_a_time_and_leave_no_results(tmp_path: Path) -> None:
    conf = make_app(settings(AWAY, tmp_path), TIERS).conf
    assert (conf.accept_content, conf.task_serializer, conf.event_serializer) == (["json"], "json", "json")
    assert (conf.task_acks_late, conf.worker_prefetch_multiplier) == (True, 1)
    assert (conf.result_backend, conf.task_ignore_result) == (None, True)
    assert conf.worker_pool == "threads"
    assert [queue.name for queue in conf.task_queues] == [*map(queue_of, TIERS), MAINTENANCE_QUEUE]
    assert conf.broker_transport_options["visibility_timeout"] < 3600


def test_other_brokers_by_url_are_taken_without_the_options_of_redis(tmp_path: Path) -> None:
    conf = make_app(settings("amqp://guest:guest@127.0.0.1//", tmp_path), TIERS).conf
    assert conf.broker_transport_options == {}


@pytest.mark.parametrize(
    "act",
    [
        lambda app: Waker(app).ring(["economy"]),
        lambda app: Waker(app).depth(queue_of("economy")),
        ask_workers,
    ],
)
def test_a_broker_that_is_away_is_said_plainly_and_without_its_password(
    act: Callable[[Celery], object], tmp_path: Path
) -> None:
    app = make_app(settings(AWAY, tmp_path), TIERS)
    with pytest.raises(DependencyError) as caught:
        act(app)
    assert "broker cannot be reached" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("url", ["memory://", "sqla+sqlite://", "sqla+sqlite:///:memory:"])
def test_a_broker_that_no_other_process_can_hear_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="which no other process can hear"):
        check_broker(settings(url, tmp_path))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sentinel://127.0.0.1:1", "Redis Sentinel is not supported"),
        ("amqp://127.0.0.1:s3cret//", "Port could not be cast"),
        ("redis://:s3cret-word@127.0.0.1:1/0?nonsense=1", "unexpected keyword argument 'nonsense'"),
        ("qpid://127.0.0.1:1", "needs a package that is not installed"),
    ],
)
def test_a_url_that_the_transport_does_not_take_is_the_users_mistake(
    url: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        check_broker(settings(url, tmp_path))
    assert "s3cret-word" not in str(caught.value)


@pytest.mark.parametrize("url", ["sqla+nonsense://127.0.0.1", "etcd://127.0.0.1:1"])
def test_a_url_that_is_found_wrong_when_it_is_used_first_is_the_users_mistake_too(
    url: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="BATCHER_BROKER_URL cannot be used: "):
        ping(settings(url, tmp_path))


def test_a_tier_without_a_queue_is_told_and_keeps_no_other_from_being_rung(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        waker = Waker(make_app(settings(redis.url, tmp_path), TIERS))
        with pytest.raises(CatalogError, match="Documents wait on gone, and there is no such tier"):
            waker.ring(["economy", "gone", "premium"])
        assert [waker.depth(queue_of(tier)) for tier in TIERS] == [RINGS_PER_TIER] * 2
