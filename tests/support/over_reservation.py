"""Finds calls that were settled above what was reserved for them, in the log and in the stores of a test."""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg

LOGGER = "batcher.ledger"
"""Where the engine says at level ERROR that a settlement went above its reservation."""

_QUERY = "SELECT id, model, cost_nusd, reserved_nusd FROM attempts WHERE cost_nusd > reserved_nusd"


class ErrorRecords(logging.Handler):
    """Keeps what was logged at level ERROR and above."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def in_sqlite_files(folder: Path) -> list[str]:
    """What is wrong in the SQLite stores anywhere below a folder."""
    # os.walk passes over folders nested too deep to be named, which a test may have made.
    files = (Path(base, name) for base, _, names in os.walk(folder) for name in names)
    return [fault for path in files if path.suffix == ".db" for fault in _in_sqlite(path)]


def in_postgresql(url: str) -> list[str]:
    """What is wrong in a PostgreSQL store; ``url`` may name SQLAlchemy's driver."""
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as connection:
        if connection.execute("SELECT to_regclass('attempts')").fetchone() == (None,):
            return []
        return [_fault(url.rpartition("/")[2], *row) for row in connection.execute(_QUERY)]


def _in_sqlite(path: Path) -> list[str]:
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            return [_fault(path.name, *row) for row in connection.execute(_QUERY)]
    except sqlite3.Error:
        return []  # no store: a test's own broken or foreign file


def _fault(store: str, attempt: int, model: str, cost_nusd: int, reserved_nusd: int) -> str:
    return f"{store}: attempt {attempt} ({model}) cost {cost_nusd} of {reserved_nusd} nano-dollars reserved"
