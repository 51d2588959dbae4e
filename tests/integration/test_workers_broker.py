"""Redis as the broker: away, restarted, behind a password and TLS; what its queues hold and refuse."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Connection

from batcher.catalog.models import load_catalog
from batcher.dispatch.celery_app import WORK, make_app, queue_of
from batcher.dispatch.waking import RINGS_PER_TIER, Waker
from batcher.domain import JobState
from batcher.settings import load_settings
from tests.support.fleet import Fleet, wait_until
from tests.support.redis_server import RedisServer
from tests.support.tls_proxy import TlsProxy, make_certificate
from tests.support.vendor_server import VendorServer

QUEUE = queue_of("economy")
PASSWORD = "s3cret-broker-word"


@pytest.fixture
def fleet(tmp_path: Path, vendor_server: VendorServer) -> Iterator[Fleet]:
    """A fleet without a broker: tests say which."""
    made = Fleet.make(
        tmp_path,
        broker_url=None,
        store_url=f"sqlite:///{tmp_path / 'store.db'}",
        openai_url=vendor_server.openai_url,
    )
    yield made
    made.end()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that is not up yet."""
    server = RedisServer(tmp_path)
    yield server
    server.stop()


def ring(fleet: Fleet) -> int:
    """What ``submit`` does when work has come."""
    settings = load_settings(home=Path(fleet.env["BATCHER_HOME"]), broker_url=fleet.env["BATCHER_BROKER_URL"])
    return Waker(make_app(settings, load_catalog(settings).tiers)).ring(["economy"])


def depth(redis: RedisServer) -> int:
    with redis.client() as client:
        return int(client.llen(QUEUE))


def test_a_broker_that_comes_late_and_restarts_keeps_nobody_from_working(
    fleet: Fleet, redis: RedisServer, vendor_server: VendorServer
) -> None:
    fleet.env["BATCHER_BROKER_URL"] = redis.url
    worker = fleet.start("worker", "--tier", "economy", name="worker")
    worker.wait_for("Cannot connect to")
    fleet.table("early", 4)
    # The broker is away: the job is stored, a note says so, and the worker finds it by itself.
    early = fleet.batcher("submit", "early.jsonl", "--task", "./cards")
    assert "The broker cannot be reached" in early.err
    assert fleet.counts(1) == {"done": 4}
    redis.start()
    worker.wait_for("ready.")
    [child] = worker.children()
    assert ring(fleet) == RINGS_PER_TIER
    # Idle engines look by themselves, but only Celery's consumer takes messages off a queue.
    wait_until(lambda: depth(redis) == 0, 10)

    vendor_server.configure(latency_s=0.2)
    fleet.table("late", 300)
    fleet.batcher("submit", "late.jsonl", "--task", "./cards", "--detach")
    wait_until(lambda: fleet.done(2) > 0)
    for restart in range(2):
        redis.restart()
        wait_until(lambda n=restart: worker.log.count("Connected to") >= 2 + n)
        # Consumers that reconnect and hear nothing any more are Celery's well-known stall (8030, 8091).
        wait_until(lambda: ring(fleet) > 0)
        wait_until(lambda: depth(redis) == 0, 10, lambda: worker.log)
    with redis.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    wait_until(lambda: worker.log.count("Connected to") >= 4)
    ring(fleet)
    wait_until(lambda: depth(redis) == 0, 10, lambda: worker.log)
    vendor_server.configure(latency_s=0)
    fleet.wait_for_state(2, JobState.DONE)
    assert vendor_server.totals()["calls"] == 304
    assert worker.children() == [child], "it went on, it was not started anew"

    redis.stop()
    started = time.monotonic()
    assert worker.stop() == 0, "a worker without a broker stops as well"
    assert time.monotonic() - started < 10


def test_a_password_and_tls_are_in_the_url_and_in_no_log(
    fleet: Fleet, redis: RedisServer, tmp_path: Path, vendor_server: VendorServer
) -> None:
    redis.start()
    with redis.client() as client:
        client.acl_setuser(
            "batcher", enabled=True, passwords=[f"+{PASSWORD}"], keys="*", channels="*", commands=["+@all"]
        )
        client.acl_setuser("default", enabled=False)
    certificate, key, authority = make_certificate(tmp_path)
    with TlsProxy(certificate, key, redis.port) as proxy:
        tail = f"@127.0.0.1:{proxy.port}/0?ssl_cert_reqs=required&ssl_ca_certs={authority}"
        fleet.env["BATCHER_BROKER_URL"] = f"rediss://batcher:{PASSWORD}{tail}"
        worker = fleet.worker("--tier", "economy")
        fleet.table("docs", 8)
        fleet.batcher("submit", "docs.jsonl", "--task", "./cards")
        assert fleet.counts(1) == {"done": 8}
        [found] = fleet.batcher("workers", "--json").json
        assert (found["tiers"], found["done"]) == (["economy"], 8)
        assert "Redis answers" in fleet.batcher("doctor", code=None).out
        assert proxy.connections > 2
        wrong = f"rediss://batcher:wrong-{PASSWORD}{tail}"
        away = f"rediss://batcher:{PASSWORD}@127.0.0.1:1/0"
        unheard = [fleet.start("worker", "--maintenance", BATCHER_BROKER_URL=url) for url in (wrong, away)]
        outcomes = [
            fleet.batcher("workers", code=5, BATCHER_BROKER_URL=wrong),
            fleet.batcher("doctor", code=None, BATCHER_BROKER_URL=wrong),
            fleet.batcher("-v", "submit", "docs.jsonl", "--task", "./cards", BATCHER_BROKER_URL=away),
        ]
        unheard[0].wait_for(
            "invalid username-password pair or user is disabled. See that it is up and that BATCHER"
        )
        unheard[1].wait_for("Cannot connect to")
        said = [worker.log, *(child.log for child in unheard), *(one.out + one.err for one in outcomes)]
        assert worker.stop() == 0
    assert [text for text in said if PASSWORD in text] == []


def test_status_says_what_it_knows_before_it_asks_who_is_there(fleet: Fleet, redis: RedisServer) -> None:
    redis.start()
    fleet.env["BATCHER_BROKER_URL"] = redis.url
    fleet.table("docs", 4)
    fleet.batcher("submit", "docs.jsonl", "--task", "./cards", "--detach")
    fleet.wait_for_state(1, JobState.RUNNING)
    redis.freeze()
    status = fleet.start("status", 1, name="status")
    status.wait_for("open      4")
    assert status.process.poll() is None, "it did not ask"
    assert "Next:" not in status.log
    redis.thaw()
    assert status.process.wait(30) == 0
    assert "no worker" in status.log


def test_messages_are_json_and_their_number_does_not_grow_with_the_corpus(
    fleet: Fleet, redis: RedisServer, tmp_path: Path
) -> None:
    redis.start()
    fleet.env["BATCHER_BROKER_URL"] = redis.url
    fleet.table("large", 5_000)
    fleet.batcher("submit", "large.jsonl", "--task", "./cards", "--detach")
    depths = set()

    def is_in() -> bool:
        depths.add(depth(redis))
        return fleet.job(1).state is JobState.RUNNING

    wait_until(is_in, 60)
    wait_until(lambda: depth(redis) == RINGS_PER_TIER, 10)
    assert max(depths) <= RINGS_PER_TIER
    fleet.batcher("cancel", 1)

    marker = tmp_path / "marker"
    with Connection(redis.url) as connection, connection.Producer(serializer="pickle") as producer:
        producer.publish([[_Touch(marker)], {}, {}], routing_key=QUEUE, headers={"task": WORK, "id": "1"})
    assert depth(redis) == RINGS_PER_TIER + 1
    worker = fleet.celery_worker("economy")
    wait_until(lambda: depth(redis) == 0)
    worker.wait_for("Refusing to deserialize")
    assert not marker.exists()
    with redis.client() as client:
        assert client.keys("celery-task-meta*") == [], "there is no result backend"
    assert worker.stop() == 0


class _Touch:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self._path,)
