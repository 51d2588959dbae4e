"""The migrations make the tables that the code speaks of, on both databases, from any older schema."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from batcher.errors import ConfigurationError, DependencyError
from batcher.store.database import Store
from batcher.store.schema import SCHEMA_HEAD, ensure_schema, schema_version, upgrade_schema
from batcher.store.tables import metadata
from batcher.store.worker_names import worker_name
from tests.support.older_store import Row, alembic_config, older_store


def test_the_migrated_database_is_what_the_tables_say(store: Store) -> None:
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_head_is_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [SCHEMA_HEAD]


def test_a_second_start_changes_nothing(store: Store) -> None:
    ensure_schema(store)
    with store.read() as connection:
        assert schema_version(connection) == SCHEMA_HEAD


def test_a_newer_schema_is_refused_with_what_to_do(store: Store) -> None:
    with store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="Upgrade batcher"):
        ensure_schema(store)


MINUTE_S = 60.0


def lease(worker: str, ends_in_s: float) -> Row:
    """What a worker of an older version holds."""
    statement = (
        "INSERT INTO leases (job_id, tier, provider, worker, state, day, reserved_nusd, expires_at) "
        "VALUES (1, 'economy', '', :name, 'active', '2026-11-20', 0, :until)"
    )
    return statement, {"name": worker, "ends_in_s": ends_in_s}


def reading(reader: str, ends_in_s: float) -> Row:
    """The corpus that a process of an older version reads."""
    statement = (
        "INSERT INTO jobs (corpus_key, task, paths, source_options, spec, tier, ladder, accepts, refresh, "
        "state, created_at, reader, reading_until) VALUES (:key, 't', '[]', '{}', '{}', 'economy', '[]', "
        "'[]', false, 'ingesting', 0, :name, :until)"
    )
    return statement, {"key": b"k" * 20, "name": reader, "ends_in_s": ends_in_s}


DEAD = f"{socket.gethostname()}:{os.getpid()}:1.00"
"""As the process would be called that had this one's number before it."""


@pytest.mark.parametrize(
    ("at_work", "refused"),
    [
        (lease(worker_name(), MINUTE_S), True),
        (lease("elsewhere:12:1.00", MINUTE_S), True),
        (lease(DEAD, MINUTE_S), False),
        (lease(worker_name(), -MINUTE_S), False),
        (reading(worker_name(), MINUTE_S), True),
        (reading(DEAD, MINUTE_S), False),
        (reading("", MINUTE_S), False),
    ],
)
def test_a_store_that_an_older_version_works_on_is_not_upgraded(
    empty_database_url: str, at_work: Row, refused: bool
) -> None:
    statement, values = at_work
    row = (statement, {**values, "until": time.time() + values["ends_in_s"]})
    store = older_store(empty_database_url, "0003", [row])
    if refused:
        with pytest.raises(ConfigurationError, match=r"an older batcher is at work on it: process \d+ on "):
            upgrade_schema(store)
    else:
        upgrade_schema(store)
    with store.read() as connection:
        assert schema_version(connection) == ("0003" if refused else SCHEMA_HEAD)
    store.close()


def test_sqlite_ids_are_never_used_twice(tmp_path: Path) -> None:
    """A lease's id is a fencing token: a deleted row's id must not come back."""
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    ensure_schema(store)
    with store.read() as connection:
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
        made = {row.name: row.sql for row in rows}
    assert all("AUTOINCREMENT" in made[table] for table in ("jobs", "leases"))
    store.close()


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("sqlite://", ConfigurationError, "must be a file"),
        ("mysql://host/name", ConfigurationError, "cannot be mysql"),
        ("not a url", ConfigurationError, "cannot be read"),
        ("nosuchdb://x", ConfigurationError, "Use sqlite"),
    ],
)
def test_an_unusable_url_says_what_to_use(url: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Store(url)


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_text("this is no database, but a text of more than a few bytes " * 50)
    with pytest.raises(DependencyError, match=r"store\.db is damaged: .* Restore a copy"):
        ensure_schema(Store(f"sqlite:///{path}"))


def test_a_postgresql_server_that_is_not_there_says_so() -> None:
    store = Store("postgresql://nobody:secret@127.0.0.1:9/none")
    with pytest.raises(DependencyError, match="cannot be used") as caught:
        ensure_schema(store)
    assert "secret" not in str(caught.value)
