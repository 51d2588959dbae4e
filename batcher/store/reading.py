"""Who reads a job's corpus, and until when he need not say so again: others notice when he is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select, update

from batcher.domain import JobState
from batcher.store.tables import jobs

NOBODY: Final = ""
"""The reader of a corpus that somebody is about to begin with."""

HALF_READ: Final = "its corpus was not read to the end"
"""How the reason of a pause begins that a reader's end made."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The reading of one job's corpus.

    Attributes:
        job_id: the job, which is ``ingesting``.
        reader: the process that does it, as ``store.worker_names`` names them; ``NOBODY`` has begun yet.
        until: when it is held to be lost unless it has said otherwise, Unix seconds.
    """

    job_id: int
    reader: str
    until: float


def set_reader(connection: Connection, job_id: int, reader: str, until: float) -> None:
    """Note who reads a job's corpus from now on."""
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(reader=reader, reading_until=until))


def renew_reader(connection: Connection, job_id: int, reader: str, until: float) -> bool:
    """Push the time when a reader is held to be lost; whether the corpus is still his to read."""
    changed = connection.execute(
        update(jobs).where(jobs.c.id == job_id, jobs.c.reader == reader).values(reading_until=until)
    )
    return changed.rowcount == 1


def end_reading(connection: Connection, job_id: int) -> None:
    """Note that nobody has to read a job's corpus any more."""
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(reader=None, reading_until=None))


def is_half_read(connection: Connection, job_id: int) -> bool:
    """Whether a reading of a job's corpus began and did not come to its end."""
    query = select(jobs.c.reader).where(jobs.c.id == job_id)
    return connection.execute(query).scalar_one() is not None


def open_readings(connection: Connection) -> list[Reading]:
    """The readings that should be under way, by job."""
    query = (
        select(jobs.c.id, jobs.c.reader, jobs.c.reading_until)
        .where(jobs.c.state == JobState.INGESTING.value, jobs.c.reader.is_not(None))
        .order_by(jobs.c.id)
    )
    return [Reading(row.id, row.reader, row.reading_until) for row in connection.execute(query)]
