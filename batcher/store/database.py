"""Connections and transactions, the same on SQLite and PostgreSQL."""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from batcher.errors import ConfigurationError, DependencyError, StoreAwayError

BUSY_TIMEOUT_S = 60.0
"""How long a SQLite writer waits for its turn; a turn is one group commit, milliseconds."""

PRIVATE_FOLDER: Final = 0o700
PRIVATE_FILE: Final = 0o600
"""Answers are about documents that other users of the machine may not read."""

TURN_S: Final = 10.0

LONG_AWAY_S: Final = 5.0
RETURN_S: Final = 15.0
"""After a store was away for long, those who could not say that they live have so many seconds to do it: they
try every two seconds (``engine.patience``), and what waits behind that comes first."""

_SQLITE_NOW = text("SELECT (julianday('now') - 2440587.5) * 86400.0")
_POSTGRESQL_NOW = text("SELECT extract(epoch FROM clock_timestamp())::float8")

_TAKE_TURN = text(
    "SELECT pg_advisory_xact_lock(:key), set_config('idle_in_transaction_session_timeout', :idle, true)"
)
_TAKE_BRIEF_TURN = text(f"{_TAKE_TURN.text}, set_config('transaction_timeout', :whole, true)")
_KNOWS_TRANSACTION_TIMEOUT: Final = (17,)

_BRIEF_TURNS: Final = 2
"""How many times longer than it may stand still a brief turn may take as a whole."""


class Store:
    """One database. Threads may share it; a forked child must open its own.

    Args:
        url: SQLAlchemy URL, ``sqlite:///path`` or ``postgresql://...``.
        clock: seconds since the epoch in place of the database's clock, for tests and rehearsals.
        read_only: the database refuses every write.
        home: folders for a SQLite file are made in it or below it, and nowhere else.
        turn_s: how long whoever has the turn (``take_turn``) may stand still, seconds.

    Attributes:
        trouble: why it could not be used when this process last tried; None if it could.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], float] | None = None,
        read_only: bool = False,
        home: Path | None = None,
        turn_s: float = TURN_S,
    ) -> None:
        idle_ms = max(1, int(turn_s * 1000))
        self._idle, self._whole = f"{idle_ms}ms", f"{_BRIEF_TURNS * idle_ms}ms"
        self.engine = _make_engine(url, read_only=read_only, home=home)
        self.dialect = self.engine.dialect.name
        self._clock = clock
        self.trouble: str | None = None
        self._away_since: float | None = None
        self._back_at = -math.inf

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite (one writer at a time) or PostgreSQL."""
        return self.dialect == "sqlite"

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: one consistent view."""
        with self._plain_errors(), self.engine.connect() as connection:
            reading = connection
            if not self.is_sqlite:
                reading = connection.execution_options(isolation_level="REPEATABLE READ")
            with reading.begin():
                yield reading

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction, committed durably at the end. On SQLite it takes the write lock at once."""
        with self._plain_errors(), self.engine.connect() as connection:
            writing = connection.execution_options(batcher_writes=True)
            with writing.begin():
                yield writing

    @contextlib.contextmanager
    def session(self) -> Iterator[Connection]:
        """A connection of its own outside of any transaction, which ends with the block."""
        with self._plain_errors(), self.engine.connect() as connection:
            session = connection.execution_options(isolation_level="AUTOCOMMIT")
            session.detach()
            yield session

    def take_turn(self, connection: Connection, key: int, *, brief: bool = False) -> None:
        """Wait for the turn that a write transaction has until it ends; nothing to do on SQLite.

        A process that stops in its turn (its machine sleeps, say) would stop all others: the server ends its
        transaction when it has asked for nothing for ``turn_s``. It does not count the time while the rest of
        a batch of statements is to come; for that, PostgreSQL 17 and later can limit the turn as a whole.

        Args:
            connection: a write transaction that has done nothing yet.
            key: of the advisory lock.
            brief: the turn never takes longer than twice ``turn_s``, unless the process stops in it.
        """
        if self.is_sqlite:
            return
        version = connection.dialect.server_version_info or ()
        if brief and version >= _KNOWS_TRANSACTION_TIMEOUT:
            connection.execute(_TAKE_BRIEF_TURN, {"key": key, "idle": self._idle, "whole": self._whole})
        else:
            connection.execute(_TAKE_TURN, {"key": key, "idle": self._idle})

    def now(self, connection: Connection) -> float:
        """The database's clock, Unix seconds."""
        if self._clock is not None:
            return self._clock()
        query = _SQLITE_NOW if self.is_sqlite else _POSTGRESQL_NOW
        return float(connection.execute(query).scalar_one())

    def back_for_s(self) -> float:
        """Seconds since this process saw the store come back after it was away for long; 0 while it is away.

        Infinity if it never was.
        """
        return 0.0 if self._away_since is not None else time.monotonic() - self._back_at

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextlib.contextmanager
    def _plain_errors(self) -> Iterator[None]:
        """Turn a lost, locked, full or corrupt database into an error that says what to do."""
        try:
            yield
            self._note_back()
        except DBAPIError as error:
            damaged = type(error.orig) is sqlite3.DatabaseError
            if not (damaged or isinstance(error, OperationalError) or error.connection_invalidated):
                raise
            if self._away_since is None:
                self._away_since = time.monotonic()
            self.trouble = describe_trouble(str(error.orig), self.engine.url, damaged)
            raise (DependencyError if damaged else StoreAwayError)(self.trouble) from error

    def _note_back(self) -> None:
        since, now = self._away_since, time.monotonic()
        if since is not None:
            self._away_since = self.trouble = None
            if now - since >= LONG_AWAY_S:
                self._back_at = now


_LINK: Final = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""Seconds (the last one milliseconds) after which a server that says nothing, because its machine is gone, is
held to be lost. What the URL says counts more."""


def insert_into(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that can say ON CONFLICT, in the connection's dialect."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def check_url(url: str, *, home: Path | None = None) -> None:
    """Raise ConfigurationError if a store's URL is one that no waiting mends; the store may be away."""
    Store(url, home=home).close()


def _make_engine(url: str, *, read_only: bool, home: Path | None) -> Engine:
    try:
        parsed = _read_url(url)
        if parsed.drivername in {"postgresql", "postgres"}:
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() == "sqlite":
            return _make_sqlite(parsed.database or "", read_only=read_only, home=home)
        if parsed.get_backend_name() != "postgresql":
            raise ConfigurationError(
                f"The store cannot be {parsed.get_backend_name()}. Use sqlite:///PATH or postgresql://..."
            )
        options: dict[str, int | str] = {**_LINK}
        for name in parsed.query:
            options.pop(name, None)
        if read_only:
            options["options"] = "-c default_transaction_read_only=on"
        return create_engine(
            parsed,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args=options,
            use_native_hstore=False,  # nothing here is one; asking for it is a round trip per connection
        )
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigurationError(
            "The database URL cannot be read. Use sqlite:///PATH or postgresql://USER@HOST/NAME"
        ) from error
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "PostgreSQL needs one more package. Run: pip install 'batcher[postgres]'"
        ) from error


def _read_url(url: str) -> URL:
    try:
        return make_url(url)
    except ValueError:
        # Not chained: its message holds what stands for the port, which may be a part of the password.
        raise ConfigurationError(
            "The database URL has no number for a port. Use postgresql://USER@HOST:5432/NAME, and"
            " percent-encode what a password has of / ? # @ :"
        ) from None


def _make_sqlite(database: str, *, read_only: bool, home: Path | None) -> Engine:
    if not database or database == ":memory:":
        raise ConfigurationError("The store must be a file, or nothing would survive. Use sqlite:///PATH")
    if read_only:
        return _make_sqlite_read_only(database)
    _make_file(Path(database).absolute(), home)
    engine = create_engine(
        f"sqlite:///{database}", connect_args={"timeout": BUSY_TIMEOUT_S}, hide_parameters=True
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_file(file: Path, home: Path | None) -> None:
    """An empty file that only this user may read: SQLite gives its other files the same rights."""
    try:
        if home is not None and file.is_relative_to(home.absolute()):
            for folder in (home, file.parent):
                folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(file, os.O_CREAT | os.O_EXCL, PRIVATE_FILE))
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"There is no folder {file.parent} for the store. Make it, or name another with --database"
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"Cannot create the store {file}: {getattr(error, 'strerror', None) or error}. "
            "Set BATCHER_HOME or --database to a folder that you can write"
        ) from error


def _make_sqlite_read_only(database: str) -> Engine:
    uri = f"file:{quote(str(Path(database).absolute()))}"
    engine = create_engine(
        URL.create("sqlite", database=uri, query={"mode": "ro", "uri": "true"}),
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


def describe_trouble(reason: str, url: URL, damaged: bool) -> str:
    """What to say about a database that fails: the driver's reason, and what to do about it.

    Args:
        reason: the driver's words.
        url: the store's.
        damaged: whether the driver holds the file to be no database, or a broken one.
    """
    said = " ".join(reason.split()).rstrip(".?! ")
    place = url.database if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)
    if damaged or "malformed" in said:
        return (
            f"The store {place} is damaged: {said}. Restore a copy of it, or move the file away "
            "(its jobs and answers are then unknown to batcher, and what was answered is paid for again; the "
            "caps and today's spend are gone too, so set the cap to what is left: batcher budget set --daily "
            "AMOUNT)"
        )
    advice = next((todo for words, todo in _ADVICE.items() if words in said), _ADVICE_ELSE)
    return f"The store {place} cannot be used: {said}. {advice}"


_ADVICE: Final = {
    "readonly": "Get write permission for the file and its folder, or name another store with --database",
    "unable to open": "See that its folder is there and that you may write in it, or name another store with "
    "--database",
    "locked": f"Another program has kept it for more than {BUSY_TIMEOUT_S:.0f} s. End that one, or try later",
    "full": "Make room on its disk; what is stored is safe",
}
_ADVICE_ELSE: Final = "See that it is up and that its address and your rights are right; then try again"
