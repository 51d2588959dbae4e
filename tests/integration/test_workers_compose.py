"""Every service of docker-compose.yml by its very command and environment, with servers of the tests' own."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import make_url, update

from batcher.domain import JobState
from batcher.store.schema import SCHEMA_HEAD, schema_version
from batcher.store.tables import jobs
from tests.support.fleet import Child, Fleet, wait_until
from tests.support.postgres_server import postgres
from tests.support.redis_server import RedisServer
from tests.support.vendor_server import VendorProcess

ROOT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))[
    "services"
]
OWN = {name: service for name, service in SERVICES.items() if service.get("image", "").startswith("batcher:")}
PASSWORD = "c0mpose-redis-password"


def environment(service: dict[str, Any], redis: RedisServer, store_url: str) -> dict[str, str]:
    """What compose would give the service, its hosts replaced by those of the tests."""
    store = make_url(store_url)
    found = {}
    for name, value in service["environment"].items():
        text = re.sub(r"\$\{REDIS_PASSWORD:[^}]*\}", PASSWORD, str(value))
        text = re.sub(r"\$\{POSTGRES_PASSWORD:[^}]*\}", "unused", text)
        found[name] = text.replace("@redis:6379/", f"@127.0.0.1:{redis.port}/")
    theirs = make_url(found["BATCHER_DATABASE_URL"])
    assert (theirs.drivername, theirs.host, theirs.port) == ("postgresql", "postgres", 5432)
    found["BATCHER_DATABASE_URL"] = store.set(drivername=theirs.drivername).render_as_string(
        hide_password=False
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found["BATCHER_METRICS_PORT"] = str(listener.getsockname()[1])
    return found


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """With the password that compose gives its Redis."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        with server.client() as client:
            client.config_set("requirepass", PASSWORD)
        yield server


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with VendorProcess() as vendor, postgres(folder / "pg") as new_database:
        made = Fleet.make(folder, broker_url=None, store_url=new_database(), openai_url=vendor.openai_url)
        yield made
        made.end()


def test_every_service_does_its_part(fleet: Fleet, redis: RedisServer) -> None:
    url = fleet.env["BATCHER_DATABASE_URL"]
    of_compose = {name: environment(service, redis, url) for name, service in OWN.items()}

    def run(name: str) -> Child:
        return fleet.run(OWN[name]["command"], name, **of_compose[name])

    migrating = run("migrate")
    assert migrating.process.wait(60) == 0, migrating.log
    with fleet.store.read() as connection:
        assert schema_version(connection) == SCHEMA_HEAD

    fleet.env |= of_compose["worker-economy"] | {"BATCHER_DATABASE_URL": url}
    health = OWN["worker-economy"]["healthcheck"]["test"]
    assert health[0] == "CMD"
    assert fleet.run(health[1:], "unhealthy").process.wait(60) == 5
    services = {name: run(name) for name in OWN if name != "migrate"}
    for name, child in services.items():
        child.wait_for("beat: Starting" if name == "beat" else "ready.", 60)
        if "test" in OWN[name]["healthcheck"]:
            assert OWN[name]["healthcheck"]["test"] == health
    assert fleet.run(health[1:], "healthy").process.wait(60) == 0

    found = fleet.batcher("workers", "--json").json
    tiers = sorted(tier for one in found for tier in one["tiers"])
    assert tiers == ["custom", "economy", "premium", "standard"]
    assert sorted(one["state"] for one in found) == ["maintenance only", "serving", "serving", "serving"]

    # beat and maintenance together set a job going that a cap paused until now; worker-economy does it.
    fleet.table("due", 4)
    fleet.batcher("submit", "due.jsonl", "--task", "./cards", "--max-cost", "0.0000001", code=4)
    fleet.batcher("budget", "set", "--job", 1, "--max-cost", "none")
    with fleet.store.write() as connection:
        connection.execute(update(jobs).values(resume_at=1.0))
    wait_until(lambda: fleet.job(1).state is JobState.DONE, 40, lambda: services["beat"].log)
    assert fleet.done(1) == 4

    for child in services.values():
        child.process.terminate()
    assert {name: child.process.wait(30) for name, child in services.items()} == dict.fromkeys(services, 0)
    assert [name for name, child in services.items() if PASSWORD in child.log] == []
