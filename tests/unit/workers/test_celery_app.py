"""The Celery app: what it sends, what it takes, and what it waits for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from celery import Celery

from batcher.dispatch.celery_app import MAINTENANCE_QUEUE, make_app, queue_of
from batcher.dispatch.waking import RINGS_PER_TIER, Waker, ask_workers
from batcher.errors import CatalogError, DependencyError
from batcher.settings import Settings

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


def test_a_tier_without_a_queue_is_told_and_keeps_no_other_from_being_rung(tmp_path: Path) -> None:
    waker = Waker(make_app(settings("memory://", tmp_path), TIERS))
    with pytest.raises(CatalogError, match="Documents wait on gone, and there is no such tier"):
        waker.ring(["economy", "gone", "premium"])
    assert [waker.depth(queue_of(tier)) for tier in TIERS] == [RINGS_PER_TIER] * 2
