"""A lock that all processes on one PostgreSQL store share, whichever machine they run on.

It belongs to a database session: when its process dies, the server ends the session, and the lock with it.
SQLite has no sessions that others could see; there a file beside the store does the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select, text

from batcher.store.database import Store
from batcher.store.tables import jobs

_HALF: Final = 32
_NAME_LENGTH: Final = 63
"""What PostgreSQL keeps of an application's name."""

_TRY: Final = text("SELECT pg_try_advisory_lock(:key)")
_NAME: Final = text("SELECT set_config('application_name', :name, false)")
_HOLDER: Final = text(
    "SELECT a.application_name, extract(epoch FROM a.backend_start)::float8 FROM pg_locks l "
    "JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 "
    "AND l.classid = :high AND l.objid = :low AND l.database = a.datid"
)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a lock: the name that it gave itself, and since when, Unix seconds."""

    name: str
    since: float


class StoreLockTakenError(Exception):
    """Another session has the lock; ``holder`` is None if it has just ended."""

    def __init__(self, holder: Holder | None) -> None:
        super().__init__("the lock is taken")
        self.holder = holder


@contextlib.contextmanager
def store_lock(store: Store, key: bytes, name: str) -> Iterator[None]:
    """Hold the store's lock of a key; does nothing on SQLite.

    Args:
        store: the store.
        key: what is locked; its first 8 bytes count.
        name: who this is, for others to read.

    Raises:
        StoreLockTakenError: if another session has it.
        DependencyError: if the database cannot be reached.
    """
    if store.is_sqlite:
        yield
        return
    with store.session() as connection:
        number = int.from_bytes(key[:8], "big", signed=True)
        connection.execute(_NAME, {"name": name[:_NAME_LENGTH]})
        if not connection.execute(_TRY, {"key": number}).scalar_one():
            raise StoreLockTakenError(_holder(connection, number))
        yield


def _holder(connection: Connection, number: int) -> Holder | None:
    unsigned = number % (1 << 2 * _HALF)
    halves = {"high": unsigned >> _HALF, "low": unsigned % (1 << _HALF)}
    row = connection.execute(_HOLDER, halves).first()
    return None if row is None else Holder(row[0], row[1])


def request_key(connection: Connection, job_id: int) -> bytes:
    """What tells a job's request from others; see ``planning.order.corpus_key``."""
    return bytes(connection.execute(select(jobs.c.corpus_key).where(jobs.c.id == job_id)).scalar_one())
