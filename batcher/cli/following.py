"""Follows jobs that workers do: rings for them, shows how far they are, ends when they do."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from batcher.budget.spend import day_balance
from batcher.cli.attendance import missing_workers, waiting_tiers
from batcher.cli.display import Display, Snapshot
from batcher.cli.output import note
from batcher.domain import ItemStatus, JobState
from batcher.errors import CatalogError, DependencyError
from batcher.store.jobs import get_job, set_state
from batcher.store.stages import count_documents_of

if TYPE_CHECKING:
    from batcher.dispatch.finish_by import FinishBy
    from batcher.runtime import Runtime
    from batcher.store.jobs import Job

_UNDER_WAY: Final = (JobState.INGESTING, JobState.RUNNING)
_LOOK_EVERY_S: Final = 1.0
_COUNT_SHARE: Final = 20
"""Counting may take a twentieth of the time: on large jobs it is done less often."""

_NOBODY_AFTER_S: Final = 10.0
_ASK_AGAIN_AFTER_S: Final = 60.0
"""How long nothing goes on until workers are asked who they are, and asked again."""


@dataclass(frozen=True, slots=True)
class Followed:
    """What a following came to: how long it was, what became done meanwhile, whether a signal ended it."""

    seconds: float
    done: int
    interrupted: bool


def ring_for(runtime: Runtime, job_ids: Sequence[int]) -> None:
    """Wake workers for the tiers where items of these jobs wait; a broker that is away is only noted."""
    from batcher.dispatch.celery_app import app_of
    from batcher.dispatch.waking import Waker

    tiers = waiting_tiers(runtime, job_ids)
    if not tiers:
        return
    try:
        Waker(app_of(runtime.settings, runtime.catalog)).ring(tiers)
    except (DependencyError, CatalogError) as error:
        note(f"Warning: {error}")


def follow_jobs(
    runtime: Runtime, job_ids: Sequence[int], display: Display, finish_by: FinishBy | None
) -> Followed:
    """Show jobs until none of them is under way. Ctrl-C and SIGTERM end the following, not the jobs."""
    ring_for(runtime, job_ids)
    following = _Following(runtime, job_ids, display)
    with _signals() as stopped:
        while following.look():
            if finish_by is not None:
                with suppress(DependencyError):  # told by the look
                    _pause_in_time(runtime, job_ids, finish_by)
            if stopped.wait(_LOOK_EVERY_S):
                break
    return Followed(following.seconds, following.done, stopped.is_set())


def follow_judges(
    runtime: Runtime, job_ids: Sequence[int], display: Display, finish_by: FinishBy | None, over: Followed
) -> Followed:
    """Go on with a following that is over until the jobs' answers are judged too, or judges cannot go on."""
    while not over.interrupted:
        # The last answers were drawn after anybody looked.
        runtime.judging.keep_up(job_ids, at_once=True)
        judges = judges_at_work(runtime, job_ids)
        if not judges:
            break
        named = " and ".join(f"job {judge.id} ({judge.pinned_model})" for judge in judges)
        display.say(f"Workers judge the answers: {named}.")
        more = follow_jobs(runtime, [judge.id for judge in judges], display, finish_by)
        over = replace(over, seconds=over.seconds + more.seconds, interrupted=more.interrupted)
    return over


def judges_at_work(runtime: Runtime, job_ids: Sequence[int]) -> list[Job]:
    """The judges' jobs under these that run."""
    from batcher.store.judging import children_of

    with runtime.store.read() as connection:
        judges = [judge for job_id in job_ids for judge in children_of(connection, job_id)]
    return [judge for judge in judges if judge.state is JobState.RUNNING]


@contextmanager
def _signals() -> Iterator[threading.Event]:
    stopped = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stopped.set())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pause_in_time(runtime: Runtime, job_ids: Sequence[int], finish_by: FinishBy) -> None:
    """Pause what is left as long before the time as a call may take."""
    with runtime.store.read() as connection:
        left_s = finish_by.at - runtime.store.now(connection)
    if left_s > runtime.settings.call_timeout_s:
        return
    with runtime.store.write() as connection:
        now = runtime.store.now(connection)
        for job_id in job_ids:
            set_state(
                connection, job_id, JobState.PAUSED, now, reason=finish_by.reason, only=list(_UNDER_WAY)
            )


class _Following:
    def __init__(self, runtime: Runtime, job_ids: Sequence[int], display: Display) -> None:
        self._runtime = runtime
        self._job_ids = list(job_ids)
        self._display = display
        self._started = time.monotonic()
        self._next_count = 0.0
        self._done_before: int | None = None
        self._is_store_away = False
        self.done = 0
        self._seen_done = 0
        self._said: list[str] = []
        self._ask_at = self._started + _NOBODY_AFTER_S

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._started

    def look(self) -> bool:
        """Show how far the jobs are; whether any is still under way."""
        try:
            with self._runtime.store.read() as connection:
                jobs = [get_job(connection, job_id) for job_id in self._job_ids]
            open_jobs = [job for job in jobs if job.state in _UNDER_WAY]
            if time.monotonic() >= self._next_count or not open_jobs:
                self._show(open_jobs)
        except DependencyError as error:
            if not self._is_store_away:
                self._display.say(f"Warning: {error}. This goes on watching, and says when it is back.")
            self._is_store_away = True
            return True
        if self._is_store_away:
            self._is_store_away = False
            self._display.say("The database is back.")
        return bool(open_jobs)

    def _show(self, open_jobs: Sequence[Job]) -> None:
        started = time.monotonic()
        with self._runtime.store.read() as connection:
            counted = count_documents_of(connection, self._job_ids)
            today = day_balance(connection)
        took = time.monotonic() - started
        self._next_count = time.monotonic() + max(self._display.count_every_s, _COUNT_SHARE * took)
        counts = {status: sum(found[status] for found in counted.values()) for status in ItemStatus}
        if self._done_before is None:
            self._done_before = counts[ItemStatus.DONE]
        self.done = counts[ItemStatus.DONE] - self._done_before
        self._see_whether_anybody_works(counts[ItemStatus.LEASED])
        open_items = counts[ItemStatus.PENDING] + counts[ItemStatus.LEASED]
        total = sum(counts.values()) - counts[ItemStatus.REJECTED]
        rate = self.done / max(0.001, self.seconds)
        reasons = sorted({job.waiting_reason for job in open_jobs if job.waiting_reason})
        self._display.show(
            Snapshot(
                title="job " + ", ".join(map(str, self._job_ids)),
                done=counts[ItemStatus.DONE],
                failed=counts[ItemStatus.FAILED],
                ended=total - open_items,
                total=total,
                in_flight=None,
                with_workers=counts[ItemStatus.LEASED],
                waiting="; ".join(reasons) or None,
                documents_per_s=rate,
                tokens_per_s=None,
                spent_nusd=today.spent_nusd if today else 0,
                cap_nusd=today.cap_nusd if today else None,
                left_s=open_items / rate if rate else None,
            )
        )

    def _see_whether_anybody_works(self, leased: int) -> None:
        """Where nothing goes on, say which workers are missing, once for as long as they are."""
        now = time.monotonic()
        if leased or self.done != self._seen_done:
            self._seen_done, self._said = self.done, []
            self._ask_at = now + _NOBODY_AFTER_S
        if now < self._ask_at:
            return
        with suppress(DependencyError):
            missing = [one.sentence for one in missing_workers(self._runtime, self._job_ids)]
            for sentence in missing:
                if sentence not in self._said:
                    self._display.say(sentence)
            self._said = missing
        self._ask_at = time.monotonic() + _ASK_AGAIN_AFTER_S
