"""Brings a database to the schema that this version of batcher speaks."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, inspect, text

from batcher.errors import ConfigurationError
from batcher.store.database import Store

SCHEMA_HEAD: Final = "0002"
"""The newest migration; a test holds it against the migrations folder."""


def ensure_schema(store: Store) -> None:
    """Create the tables, or migrate them forward, if the database is behind.

    Raises:
        ConfigurationError: if a newer batcher wrote this database.
    """
    with store.read() as connection:
        version = schema_version(connection)
    if version == SCHEMA_HEAD:
        return
    if version is not None and version > SCHEMA_HEAD:
        raise ConfigurationError(
            f"The store has schema {version}, newer than this batcher's {SCHEMA_HEAD}. "
            "Upgrade batcher, or name another store with --database"
        )
    with store.write() as connection:
        _migrate(connection)


def schema_version(connection: Connection) -> str | None:
    """The migration that the database stands at, or None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    if connection.dialect.name == "postgresql":
        # Workers that start together migrate one after the other.
        connection.execute(text("SELECT pg_advisory_xact_lock(7020240123)"))
    config = Config()
    config.set_main_option("script_location", "batcher:store/migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
