"""The judges' jobs under a job go where it goes: they pause, go on and are cancelled with it."""

from __future__ import annotations

from sqlalchemy import Connection

from batcher.domain import JobState
from batcher.store.job_items import cancel_pending
from batcher.store.jobs import set_state
from batcher.store.judging import children_of


def pause_children(connection: Connection, job_id: int, now: float, reason: str) -> None:
    """Pause those that run, with a reason, because the job is paused."""
    for child in children_of(connection, job_id):
        set_state(connection, child.id, JobState.PAUSED, now, reason=f"{reason}, with job {job_id}")


def resume_children(connection: Connection, job_id: int, now: float, *, unless: str) -> list[int]:
    """Set those going that are paused, unless for exactly this reason; returns which."""
    return [
        child.id
        for child in children_of(connection, job_id)
        if child.reason != unless
        and set_state(connection, child.id, JobState.RUNNING, now, only=[JobState.PAUSED])
    ]


def cancel_children(connection: Connection, job_id: int, now: float) -> None:
    """Cancel them, because the job is cancelled."""
    for child in children_of(connection, job_id):
        if set_state(connection, child.id, JobState.CANCELLED, now):
            cancel_pending(connection, child.id)
