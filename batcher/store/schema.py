"""Brings a database to the schema that this version of batcher speaks."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, make_url, text

from batcher.errors import ConfigurationError
from batcher.store.database import Store
from batcher.store.worker_names import is_dead, process_of

SCHEMA_HEAD: Final = "0004"
"""The newest migration; a test holds it against the migrations folder."""


def ensure_schema(store: Store) -> None:
    """Create the tables; migrate them forward if they are behind in a file that only this machine uses.

    Raises:
        ConfigurationError: if a newer batcher wrote this database, or an older one wrote a PostgreSQL
            database, which workers of that version may be using.
    """
    with store.read() as connection:
        version = schema_version(connection)
    if version == SCHEMA_HEAD:
        return
    if version is not None and version < SCHEMA_HEAD and not store.is_sqlite:
        raise ConfigurationError(
            f"The store has schema {version}, this batcher needs {SCHEMA_HEAD}. Stop the workers of the "
            "older version, then run: batcher db upgrade"
        )
    upgrade_schema(store)


def upgrade_schema(store: Store) -> None:
    """Bring the tables to this version's schema.

    Raises:
        ConfigurationError: if a newer batcher wrote this database, or an older one is at work on it.
    """
    with store.read() as connection:
        version = schema_version(connection)
    if version is not None and version > SCHEMA_HEAD:
        raise ConfigurationError(
            f"The store has schema {version}, newer than this batcher's {SCHEMA_HEAD}. "
            "Upgrade batcher, or name another store with --database"
        )
    with store.write() as connection:
        _take_turn(connection)
        version = schema_version(connection)
        if version is not None and version < SCHEMA_HEAD:
            _refuse_while_at_work(connection, version, store.now(connection))
        _migrate(connection)


def open_to_read(url: str) -> Store | None:
    """The store, which refuses every write, for what must leave no trace; None if there is none yet.

    Raises:
        ConfigurationError: if another version of batcher left it behind.
        DependencyError: if it cannot be reached.
    """
    store = Store(url, read_only=True)
    if store.is_sqlite and not Path(make_url(url).database or "").exists():
        return None
    try:
        with store.read() as connection:
            version = schema_version(connection)
    except BaseException:
        store.close()
        raise
    if version == SCHEMA_HEAD:
        return store
    store.close()
    if version is None:
        return None
    raise ConfigurationError(
        f"The store has schema {version}, this batcher speaks {SCHEMA_HEAD}. Bring it up with: batcher jobs"
    )


def schema_version(connection: Connection) -> str | None:
    """The migration that the database stands at, or None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _take_turn(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # Workers that start together migrate one after the other.
        connection.execute(text("SELECT pg_advisory_xact_lock(7020240123)"))


def _refuse_while_at_work(connection: Connection, version: str, now: float) -> None:
    """Raise ConfigurationError while somebody works on a job, or reads a corpus, by the older schema."""
    names = set(connection.execute(_WORKERS, {"now": now}).scalars())
    if version >= _HAS_READERS:
        names |= set(connection.execute(_READERS, {"now": now}).scalars())
    if alive := sorted(process_of(name) for name in names if not is_dead(name)):
        raise ConfigurationError(
            f"The store has schema {version}, this batcher needs {SCHEMA_HEAD}, and an older batcher is at "
            f"work on it: {', '.join(alive)}. Let it end, or stop it, then try again"
        )


_HAS_READERS: Final = "0003"
_WORKERS: Final = text("SELECT worker FROM leases WHERE state = 'active' AND expires_at > :now")
_READERS: Final = text(
    "SELECT reader FROM jobs WHERE state = 'ingesting' AND reader <> '' AND reading_until > :now"
)
"""In the words of those schemas: the tables of this version may have more columns."""


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "batcher:store/migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
