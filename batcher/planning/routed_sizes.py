"""How large the documents of a routed job are: its own, once they are read, or earlier ones of its task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, func, select

from batcher.planning.fit import BYTES_PER_TOKEN
from batcher.planning.sizes import Size
from batcher.store.jobs import Job
from batcher.store.tables import documents, items

_USUAL_BYTES: Final = 4_000
"""Of a document whose length nobody knows yet: a page of prose, about 1,000 tokens."""

_MOST_EARLIER: Final = 1_000
"""So many earlier documents of a job tell how long a task's documents are."""


def usual_size() -> Size:
    """Of a document of which nothing is known."""
    return _size(_USUAL_BYTES, 0, 1)


def sizes_of_queue(connection: Connection, job: Job, queue: str) -> list[Size]:
    """The sizes of a job's documents that wait, or waited, on its queue."""
    size = (documents.c.text_bytes, documents.c.image_count)
    query = (
        select(*size, func.count())
        .select_from(items.join(documents, documents.c.hash == items.c.document_hash))
        .where(items.c.job_id == job.id, items.c.tier == queue)
        .group_by(*size)
    )
    return _sizes(connection.execute(query))


def earlier_sizes(connection: Connection, job_ids: Sequence[int]) -> list[Size]:
    """The sizes of a good many documents of the first of these jobs that have any.

    Args:
        connection: any transaction.
        job_ids: newest first.
    """
    for job_id in job_ids:
        some = (
            select(items.c.document_hash)
            .where(items.c.job_id == job_id, items.c.document_hash.is_not(None))
            .limit(_MOST_EARLIER)
            .subquery()
        )
        size = (documents.c.text_bytes, documents.c.image_count)
        query = (
            select(*size, func.count())
            .select_from(some.join(documents, documents.c.hash == some.c.document_hash))
            .group_by(*size)
        )
        if found := _sizes(connection.execute(query)):
            return found
    return []


def _sizes(rows: Iterable[Any]) -> list[Size]:
    return [_size(*row) for row in rows]


def _size(text_bytes: int, images: int, count: int) -> Size:
    return Size(text_bytes, images, count, text_bytes / BYTES_PER_TOKEN)
