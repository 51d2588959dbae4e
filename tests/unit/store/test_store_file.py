"""The SQLite file: where it is made, who may read it, and what is said when it fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import make_url

from batcher.errors import ConfigurationError, DependencyError
from batcher.store.database import Store, describe_trouble
from batcher.store.schema import ensure_schema


@pytest.fixture(autouse=True)
def usual_mask() -> None:
    os.umask(0o022)


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_store_and_home_are_for_this_user_alone(tmp_path: Path) -> None:
    home = tmp_path / "share" / "batcher"
    store = Store(f"sqlite:///{home / 'batcher.db'}", home=home)
    ensure_schema(store)
    assert _mode(home) == 0o700
    assert {_mode(file) for file in home.iterdir()} == {0o600}
    assert {file.name for file in home.iterdir()} >= {"batcher.db", "batcher.db-wal"}
    store.close()


def test_a_file_that_is_there_keeps_its_rights(tmp_path: Path) -> None:
    file = tmp_path / "shared.db"
    file.touch(mode=0o640)
    ensure_schema(Store(f"sqlite:///{file}"))
    assert _mode(file) == 0o640


def test_folders_are_made_below_home_and_nowhere_else(tmp_path: Path) -> None:
    home = tmp_path / "home"
    Store(f"sqlite:///{home / 'a' / 'b.db'}", home=home)
    assert (home / "a" / "b.db").exists()
    with pytest.raises(ConfigurationError, match=r"There is no folder .*elsewhere for the store\. Make it"):
        Store(f"sqlite:///{tmp_path / 'elsewhere' / 'x.db'}", home=home)
    assert not (tmp_path / "elsewhere").exists()


def test_a_home_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(ConfigurationError, match="Cannot create the store"):
        Store(f"sqlite:///{tmp_path / 'home' / 'x.db'}", home=tmp_path / "home")


@pytest.mark.parametrize(
    ("reason", "damaged", "said"),
    [
        (
            "database disk image is malformed",
            True,
            "/x.db is damaged: database disk image is malformed. Restore",
        ),
        ("file is not a database", True, "/x.db is damaged: file is not a database. Restore a copy"),
        ("file is not a database", True, "set the cap to what is left: batcher budget set --daily AMOUNT"),
        ("attempt to write a readonly database", False, "readonly database. Get write permission"),
        ("database is locked", False, "is locked. Another program has kept it"),
        ("database or disk is full", False, "disk is full. Make room"),
        (
            "connection refused\n\tIs the server running and accepting connections?\n",
            False,
            "refused Is the server running and accepting connections. See that it is up",
        ),
    ],
)
def test_trouble_says_what_to_do(reason: str, damaged: bool, said: str) -> None:
    told = describe_trouble(reason, make_url("sqlite:////x.db"), damaged)
    assert said in told
    assert "?." not in told


def test_a_store_that_may_only_be_read_says_so(tmp_path: Path) -> None:
    ensure_schema(Store(f"sqlite:///{tmp_path / 'x.db'}"))
    store = Store(f"sqlite:///{tmp_path / 'x.db'}", read_only=True)
    with pytest.raises(DependencyError, match="Get write permission"), store.write() as connection:
        connection.exec_driver_sql("DELETE FROM jobs")
