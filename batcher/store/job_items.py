"""What becomes of many of a job's items at once: cancelled, brought back, woken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, case, func, select, update

from batcher.domain import ITEM_TRANSITIONS, ItemStatus, JobState
from batcher.store.steps import step_ids
from batcher.store.tables import documents, items, jobs
from batcher.store.transitions import sources_of


def cancel_pending(connection: Connection, job_id: int) -> int:
    """Cancel a job's items that no worker holds, those of earlier steps too; returns how many."""
    changed = connection.execute(
        update(items)
        .where(items.c.job_id.in_(step_ids(connection, job_id)), items.c.status == ItemStatus.PENDING.value)
        .values(status=_checked(ItemStatus.PENDING, ItemStatus.CANCELLED))
    )
    return changed.rowcount


def cancel_leftovers(connection: Connection) -> int:
    """Cancel what workers gave back to jobs that were cancelled in the meantime; returns how many."""
    cancelled = select(jobs.c.id).where(jobs.c.state == JobState.CANCELLED.value)
    changed = connection.execute(
        update(items)
        .where(items.c.job_id.in_(cancelled), items.c.status == ItemStatus.PENDING.value)
        .values(status=_checked(ItemStatus.PENDING, ItemStatus.CANCELLED))
    )
    return changed.rowcount


def retry_failed(
    connection: Connection, job_id: int, failure: str | None, tier: str, image_tier: str | None = None
) -> int:
    """Bring failed items of one class, or of all, back to pending on the tier where they started.

    Args:
        connection: a write transaction.
        job_id: the job.
        failure: a failure class, or None for all.
        tier: where documents of text start whose start nothing else decided.
        image_tier: where documents of images start; None: on ``tier`` too.
    """
    start: Any = tier
    if image_tier is not None:
        with_images = select(documents.c.hash).where(documents.c.image_count > 0)
        start = case((items.c.document_hash.in_(with_images), image_tier), else_=tier)
    query = update(items).where(items.c.job_id == job_id, items.c.status == ItemStatus.FAILED.value)
    if failure is not None:
        query = query.where(items.c.error_class == failure)
    changed = connection.execute(
        query.values(
            status=_checked(ItemStatus.FAILED, ItemStatus.PENDING),
            tier=func.coalesce(items.c.start_tier, start),
            ready_at=0.0,
            error_class=None,
            error=None,
        )
    )
    return changed.rowcount


def wake_pending(connection: Connection, job_id: int) -> int:
    """Let a job's items that were put off be tried at once, those of earlier steps too; returns how many."""
    ids = step_ids(connection, job_id)
    changed = connection.execute(
        update(items)
        .where(items.c.job_id.in_(ids), items.c.status == ItemStatus.PENDING.value, items.c.ready_at > 0)
        .values(ready_at=0.0)
    )
    return changed.rowcount


def statuses_of(connection: Connection, item_ids: Sequence[int]) -> dict[int, ItemStatus]:
    """The status of each of these items, by id."""
    query = select(items.c.id, items.c.status).where(items.c.id.in_(item_ids))
    return {row.id: ItemStatus(row.status) for row in connection.execute(query)}


def wake_items(connection: Connection, item_ids: Sequence[int]) -> None:
    """Let those of these items that were put off be tried at once."""
    connection.execute(
        update(items)
        .where(items.c.id.in_(item_ids), items.c.status == ItemStatus.PENDING.value, items.c.ready_at > 0)
        .values(ready_at=0.0)
    )


def _checked(source: ItemStatus, target: ItemStatus) -> str:
    sources_of(ITEM_TRANSITIONS, target, [source])
    return target.value
