"""Connections and transactions, the same on SQLite and PostgreSQL."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from batcher.errors import ConfigurationError, DependencyError

BUSY_TIMEOUT_S = 60.0
"""How long a SQLite writer waits for its turn; a turn is one group commit, milliseconds."""

_SQLITE_NOW = text("SELECT (julianday('now') - 2440587.5) * 86400.0")
_POSTGRESQL_NOW = text("SELECT extract(epoch FROM clock_timestamp())::float8")


class Store:
    """One database. Threads may share it; a forked child must open its own.

    Args:
        url: SQLAlchemy URL, ``sqlite:///path`` or ``postgresql://...``.
        clock: seconds since the epoch in place of the database's clock, for tests and rehearsals.
        read_only: the database refuses every write.
    """

    def __init__(
        self, url: str, *, clock: Callable[[], float] | None = None, read_only: bool = False
    ) -> None:
        self.engine = _make_engine(url, read_only=read_only)
        self.dialect = self.engine.dialect.name
        self._clock = clock

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite (one writer at a time) or PostgreSQL."""
        return self.dialect == "sqlite"

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: one consistent view."""
        with _plain_errors(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction, committed durably at the end. On SQLite it takes the write lock at once."""
        with _plain_errors(), self.engine.connect() as connection:
            writing = connection.execution_options(batcher_writes=True)
            with writing.begin():
                yield writing

    def now(self, connection: Connection) -> float:
        """The database's clock, Unix seconds."""
        if self._clock is not None:
            return self._clock()
        query = _SQLITE_NOW if self.is_sqlite else _POSTGRESQL_NOW
        return float(connection.execute(query).scalar_one())

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def insert_into(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that can say ON CONFLICT, in the connection's dialect."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def _make_engine(url: str, *, read_only: bool) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.drivername in {"postgresql", "postgres"}:
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() == "sqlite":
            return _make_sqlite(parsed.database or "", read_only=read_only)
        if parsed.get_backend_name() != "postgresql":
            raise ConfigurationError(
                f"The store cannot be {parsed.get_backend_name()}. Use sqlite:///PATH or postgresql://..."
            )
        options = {"options": "-c default_transaction_read_only=on"} if read_only else {}
        return create_engine(parsed, pool_pre_ping=True, hide_parameters=True, connect_args=options)
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigurationError(
            "The database URL cannot be read. Use sqlite:///PATH or postgresql://USER@HOST/NAME"
        ) from error
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "PostgreSQL needs one more package. Run: pip install 'batcher[postgres]'"
        ) from error


def _make_sqlite(database: str, *, read_only: bool) -> Engine:
    if not database or database == ":memory:":
        raise ConfigurationError("The store must be a file, or nothing would survive. Use sqlite:///PATH")
    if read_only:
        return _make_sqlite_read_only(database)
    try:
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot create the store's folder {Path(database).parent}: {error.strerror}. "
            "Set BATCHER_HOME or --database to a folder that you can write"
        ) from error
    engine = create_engine(
        f"sqlite:///{database}", connect_args={"timeout": BUSY_TIMEOUT_S}, hide_parameters=True
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_sqlite_read_only(database: str) -> Engine:
    path = quote(str(Path(database).absolute()))
    engine = create_engine(
        f"sqlite:///file:{path}?mode=ro&uri=true",
        connect_args={"timeout": BUSY_TIMEOUT_S},
        hide_parameters=True,
    )
    event.listen(engine, "connect", _leave_transactions_to_us)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _leave_transactions_to_us(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own transaction control would start writes with a read lock that cannot be upgraded
    # when another process writes in between; _begin_sqlite says which kind each one is.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA cache_size=-65536")
    connection.execute("PRAGMA temp_store=MEMORY")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("batcher_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn a lost, locked, full or corrupt database into an error that says what to do."""
    try:
        yield
    except OperationalError as error:
        raise DependencyError(
            f"The store cannot be used: {error.orig}. Check it with: batcher doctor"
        ) from error
    except DBAPIError as error:
        if error.connection_invalidated or "file is not a database" in str(error.orig):
            raise DependencyError(
                f"The store cannot be used: {error.orig}. Check it with: batcher doctor"
            ) from error
        raise
