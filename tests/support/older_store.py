"""A store as an older version left it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from batcher.store.database import Store

Row = tuple[str, Mapping[str, Any]]
"""An INSERT in SQL, in the words of the older schema, and its values."""


def alembic_config() -> Config:
    """Where the migrations are."""
    config = Config()
    config.set_main_option("script_location", "batcher:store/migrations")
    return config


def older_store(url: str, revision: str, rows: Sequence[Row]) -> Store:
    """A store at the schema of a revision, with these rows. To be closed."""
    store, config = Store(url), alembic_config()
    with store.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        for statement, values in rows:
            connection.execute(text(statement), values)
    return store
