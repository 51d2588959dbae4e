"""What a run tells of its jobs and hears of them: why they wait, that they end, that they were paused."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection

from batcher.domain import JobState
from batcher.engine.deserted import pause_deserted
from batcher.engine.leasing import Leaser
from batcher.engine.log import log_done
from batcher.store.database import Store
from batcher.store.job_items import cancel_leftovers, wake_pending
from batcher.store.jobs import finish_if_complete, list_job_ids, set_state, set_waiting
from batcher.store.leases import has_active
from batcher.store.steps import stages_under, stuck_jobs
from batcher.store.turns import workable_job_ids

INTERRUPTED: Final = "interrupted"
"""Why a job is paused whose run was stopped by a signal."""

_ROUND_EVERY_S: Final = 10.0


class Ending(StrEnum):
    """How a run ended."""

    IDLE = "idle"
    BUDGET = "budget"
    STOPPED = "stopped"


class Control:
    """The jobs of one run, as the store has them.

    Args:
        store: the store.
        leaser: what the run takes work with; it knows what is blocked or short.
    """

    def __init__(self, store: Store, leaser: Leaser) -> None:
        self._store = store
        self._leaser = leaser
        self._told: dict[int, str | None] = {}
        self._next_round_at = 0.0

    def look(
        self, job_ids: Sequence[int] | None, at_work: Collection[int], calls_wait_for: str | None
    ) -> list[int]:
        """Tell what jobs wait for, and end those that are complete; returns those that may be worked on.

        Args:
            job_ids: the run's jobs; None for all, where others work too: then only those that this run has to
                do with are its to speak of.
            at_work: jobs whose items it holds.
            calls_wait_for: why its calls wait.
        """
        self._look_for_deserted()
        with self._store.read() as connection:
            working = workable_job_ids(connection, job_ids)
            stages = stages_under(connection, working)
            short = self._leaser.shortages
            short.wake(self._store.now(connection))
            raised = short.forget_raised(connection)
        if raised:
            with self._store.write() as connection:
                for job_id in raised:
                    wake_pending(connection, job_id)
        concerned = {*at_work, *self._told, *short.job_ids()} if job_ids is None else set(working)
        concerned |= {job_id for job_id, steps in stages.items() if concerned.intersection(steps)}
        reasons = {
            job_id: joined(calls_wait_for, *map(short.waiting, (job_id, *stages.get(job_id, ()))))
            for job_id in working
            if job_id in concerned
        }
        self._tell({job_id: why for job_id, why in reasons.items() if self._told.get(job_id) != why})
        if job_ids is None:
            self._end_complete([job_id for job_id in working if job_id in concerned])
            self._told = {job_id: why for job_id, why in self._told.items() if job_id in working}
        return working

    def _look_for_deserted(self) -> None:
        """Notice readers of corpora that are gone, now and then."""
        if time.monotonic() >= self._next_round_at:
            self._next_round_at = time.monotonic() + _ROUND_EVERY_S
            pause_deserted(self._store)

    def rest(self) -> None:
        """What an idle worker says before it waits for more: which jobs caps or their accounts stop."""
        with self._store.write() as connection:
            self._leaser.shortages.hold(connection)
            now = self._store.now(connection)
            for job_id in list_job_ids(connection, JobState.RUNNING):
                if _finish(connection, job_id, now) or has_active(connection, job_id):
                    continue
                if job_id in self._leaser.unusable:
                    # Another worker may have the key that this one lacks.
                    set_waiting(connection, job_id, self._leaser.blocked[job_id])
                    continue
                if self._leaser.shortages.has_eased(connection, job_id):
                    continue
                reason, resume_at = self._pause_reason(connection, job_id, Ending.BUDGET, None)
                if reason is not None:
                    set_state(connection, job_id, JobState.PAUSED, now, reason=reason, resume_at=resume_at)
            _pause_stuck(connection, None, now)
            cancel_leftovers(connection)

    def conclude(self, job_ids: Sequence[int] | None, ending: Ending, stop_reason: str | None) -> bool:
        """Give the jobs the state that the run left them in; False if the run has to go on instead.

        Between the look that found a cap reached and this one, whoever held the rest of it may have given
        some back and ended: then nobody else would use it.
        """
        with self._store.write() as connection:
            self._leaser.shortages.hold(connection)
            now = self._store.now(connection)
            for job_id in list_job_ids(connection, JobState.RUNNING, job_ids):
                if _finish(connection, job_id, now):
                    continue
                if ending is Ending.BUDGET and has_active(connection, job_id):
                    # Others still work on it: whoever ends last pauses it.
                    continue
                if ending is Ending.BUDGET and self._leaser.shortages.has_eased(connection, job_id):
                    return False
                reason, resume_at = self._pause_reason(connection, job_id, ending, stop_reason)
                if reason is not None:
                    set_state(connection, job_id, JobState.PAUSED, now, reason=reason, resume_at=resume_at)
            _pause_stuck(connection, job_ids, now)
            cancel_leftovers(connection)
        return True

    def _tell(self, news: dict[int, str | None]) -> None:
        if not news:
            return
        with self._store.write() as connection:
            for job_id, reason in news.items():
                set_waiting(connection, job_id, reason)
        self._told |= news

    def _end_complete(self, job_ids: Sequence[int]) -> None:
        if not job_ids:
            return
        with self._store.write() as connection:
            now = self._store.now(connection)
            for job_id in job_ids:
                _finish(connection, job_id, now)

    def _pause_reason(
        self, connection: Connection, job_id: int, ending: Ending, stop_reason: str | None
    ) -> tuple[str | None, float | None]:
        if job_id in self._leaser.blocked:
            return self._leaser.blocked[job_id], None
        if ending is Ending.STOPPED:
            return stop_reason or INTERRUPTED, None
        if ending is Ending.BUDGET:
            return self._leaser.shortages.pause(connection, job_id) or (None, None)
        return None, None


def _finish(connection: Connection, job_id: int, now: float) -> bool:
    """End a job that is complete; whether it was."""
    complete = finish_if_complete(connection, job_id, now)
    if complete:
        log_done(job_id)
    return complete


def _pause_stuck(connection: Connection, job_ids: Sequence[int] | None, now: float) -> None:
    """Pause jobs that wait for a paused step of theirs, as that step is; they go on together."""
    for stuck in stuck_jobs(connection, job_ids):
        if not has_active(connection, stuck.id):
            set_state(
                connection, stuck.id, JobState.PAUSED, now, reason=stuck.reason, resume_at=stuck.resume_at
            )


def joined(*reasons: str | None) -> str | None:
    """Several reasons in one line, each once, or None if there is none."""
    return "; ".join(dict.fromkeys(reason for reason in reasons if reason)) or None
