"""The judges' jobs under a job go where it goes: they pause, go on and are cancelled with it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from batcher.domain import JobState
from batcher.store.job_items import cancel_pending, retry_failed, wake_pending
from batcher.store.jobs import set_state
from batcher.store.judging import children_of


def pause_children(connection: Connection, job_id: int, now: float, reason: str) -> None:
    """Pause those that run, with a reason, because the job is paused."""
    for child in children_of(connection, job_id):
        set_state(connection, child.id, JobState.PAUSED, now, reason=f"{reason}, with job {job_id}")


def resume_children(connection: Connection, job_id: int, now: float, *, unless: str) -> list[int]:
    """Set those going that are paused, unless for exactly this reason; returns which.

    What they had put off until later is asked at once, also by those that run.
    """
    resumed = []
    for child in children_of(connection, job_id):
        if child.reason == unless:
            continue
        wake_pending(connection, child.id)
        if set_state(connection, child.id, JobState.RUNNING, now, only=[JobState.PAUSED]):
            resumed.append(child.id)
    return resumed


def retry_children(
    connection: Connection, job_id: int, failures: Sequence[str | None], now: float, *, unless: str
) -> int:
    """Ask them again what failed with one of these classes, None for all; returns how many questions.

    Args:
        connection: a write transaction.
        job_id: the job whose answers they judge.
        failures: the classes.
        now: Unix seconds.
        unless: those that are paused for exactly this reason stay so.
    """
    total = 0
    for child in children_of(connection, job_id):
        count = sum(retry_failed(connection, child.id, failure, child.tier) for failure in failures)
        if count and child.reason != unless:
            wake_pending(connection, child.id)
            set_state(connection, child.id, JobState.RUNNING, now, only=[JobState.DONE, JobState.PAUSED])
        total += count
    return total


def cancel_children(connection: Connection, job_id: int, now: float) -> None:
    """Cancel them, because the job is cancelled."""
    for child in children_of(connection, job_id):
        if set_state(connection, child.id, JobState.CANCELLED, now):
            cancel_pending(connection, child.id)
