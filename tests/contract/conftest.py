"""The store on every database that batcher runs on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batcher.runtime import Runtime
from batcher.store.database import Store
from batcher.store.schema import ensure_schema
from tests.support.handmade_books import Books, books_in
from tests.support.postgres_server import postgres
from tests.support.runs import make_runtime
from tests.support.vendor_server import VendorServer


class Clock:
    """Unix seconds that only the test moves."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="session")
def new_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Makes databases on a real PostgreSQL server, which is there for the whole session."""
    with postgres(tmp_path_factory.mktemp("servers") / "pg") as new_database:
        yield new_database


@pytest.fixture(scope="session")
def postgres_template(new_postgres: Callable[..., str]) -> str:
    """The URL of a database at the newest schema, to be copied."""
    return _upgraded(new_postgres())


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file at the newest schema, to be copied."""
    file = tmp_path_factory.mktemp("template") / "store.db"
    _upgraded(f"sqlite:///{file}")
    return file


def _upgraded(url: str) -> str:
    store = Store(url)
    ensure_schema(store)
    store.close()
    return url


@pytest.fixture
def clock() -> Clock:
    """2026-11-20 12:00:00 UTC."""
    return Clock(1795176000.0)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store at the newest schema."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "store.db")
        return f"sqlite:///{tmp_path / 'store.db'}"
    template: str = request.getfixturevalue("postgres_template")
    url: str = request.getfixturevalue("new_postgres")(template)
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without a single table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    url: str = request.getfixturevalue("new_postgres")()
    return url


@pytest.fixture
def store(store_url: str, clock: Clock) -> Iterator[Store]:
    """An empty store, on the test's clock."""
    found = Store(store_url, clock=clock)
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


@pytest.fixture
def make_books(store: Store) -> Callable[[], Books]:
    """Books of a new provider; see ``books_in``."""
    return books_in(store)
