"""Runs jobs in this process with a display, scores them, reports, and says with which code to exit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from batcher.budget.spend import day_balance
from batcher.cli.display import Display, Snapshot, make_display
from batcher.cli.job_view import JobView, read_job_view
from batcher.cli.output import note
from batcher.dispatch.inline import run_inline
from batcher.domain import ItemStatus, JobState
from batcher.errors import ConfigurationError
from batcher.quality.golden import score_samples
from batcher.store.jobs import count_items_of
from batcher.tasks.spec import TaskSpec

if TYPE_CHECKING:
    from batcher.budget.ledger import Balance
    from batcher.engine.engine import Engine
    from batcher.runtime import Runtime
    from batcher.store.jobs import Job

EXIT_DONE: Final = 0
EXIT_INCOMPLETE: Final = 1
EXIT_CONFIGURATION: Final = 3
EXIT_BUDGET: Final = 4
EXIT_DEPENDENCY: Final = 5
EXIT_INTERRUPTED: Final = 130

BUDGET_REASON: Final = "budget:"
"""How the reason of a pause begins that a cap made."""

_UNFINISHED: Final = (JobState.INGESTING, JobState.RUNNING, JobState.PAUSED)
_REDRAW_S: Final = 0.25
_COUNT_EVERY_S: Final = 1.0
_COUNT_SHARE: Final = 20
"""Counting may take a twentieth of the time: on large jobs it is done less often."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run that ended: the jobs as it left them, what this process did for them, and how long it took."""

    views: tuple[JobView, ...]
    seconds: float
    done: int
    interrupted: bool
    exit_code: int


def run_jobs(runtime: Runtime, job_ids: Sequence[int]) -> Run:
    """Run jobs to their end in this process."""
    display = make_display()
    follower = _Follower(runtime, job_ids, display)
    signals: list[int] = []

    def on_signal(number: int) -> None:
        signals.append(number)
        display.say(_STOPPING if number == 1 else "Stopping at once.")

    started = time.monotonic()
    try:
        run_inline(runtime.engine, runtime.aclose, list(job_ids), watch=follower.watch, on_signal=on_signal)
    finally:
        display.close()
    for job_id in job_ids:
        _score(runtime, job_id)
    views = tuple(read_job_view(runtime.store, runtime.ledger, job_id) for job_id in job_ids)
    codes = [exit_code(runtime, view) for view in views]
    interrupted = bool(signals) and any(view.job.state in _UNFINISHED for view in views)
    return Run(
        views=views,
        seconds=time.monotonic() - started,
        done=follower.done,
        interrupted=interrupted,
        exit_code=EXIT_INTERRUPTED if interrupted else max(codes, default=EXIT_DONE),
    )


def exit_code(runtime: Runtime, view: JobView) -> int:
    """What the state of a job that nobody runs means for the caller of batcher."""
    job, items = view.job, view.items
    if job.state is JobState.DONE:
        faulty = items[ItemStatus.FAILED] or items[ItemStatus.REJECTED] or items[ItemStatus.CANCELLED]
        return EXIT_INCOMPLETE if faulty else EXIT_DONE
    if job.state is not JobState.PAUSED:
        return EXIT_INCOMPLETE
    reason = job.reason or ""
    if reason.startswith(BUDGET_REASON):
        return EXIT_BUDGET
    if reason == "interrupted" or reason.startswith("paused by"):
        return EXIT_INCOMPLETE
    return EXIT_DEPENDENCY if _has_model(runtime, job) else EXIT_CONFIGURATION


def _has_model(runtime: Runtime, job: Job) -> bool:
    from batcher.planning.choice import pick_model

    try:
        pick_model(runtime.catalog, job.tier, job.pinned_model, runtime.is_usable)
    except ConfigurationError:
        return False
    return True


def _score(runtime: Runtime, job_id: int) -> None:
    """Score the job's answers whose right one is known, if its task's code is here."""
    from batcher.store.jobs import get_job

    with runtime.store.read() as connection:
        spec = TaskSpec.from_json(get_job(connection, job_id).spec)
    task = runtime.find_task(spec)
    if task is not None:
        score_samples(runtime.store, job_id, task.score, spec.correct_at)


_STOPPING: Final = (
    "Stopping: the calls in flight are waited for, because they are paid for. Once more gives them up."
)


class _Follower:
    """Follows an engine for a display: cheap counters often, counts from the store once a second."""

    def __init__(self, runtime: Runtime, job_ids: Sequence[int], display: Display) -> None:
        self._runtime = runtime
        self._job_ids = list(job_ids)
        self._display = display
        self._counts = dict.fromkeys(ItemStatus, 0)
        self._today: Balance | None = None
        self._engine: Engine | None = None

    @property
    def done(self) -> int:
        """Documents that this run answered."""
        return self._engine.progress.done if self._engine else 0

    async def watch(self, engine: Engine) -> None:
        """Show the engine until cancelled."""
        self._engine = engine
        clock = asyncio.get_running_loop().time
        next_count = clock()
        while True:
            if clock() >= next_count:
                took = await asyncio.to_thread(self._count)
                next_count = clock() + max(_COUNT_EVERY_S, _COUNT_SHARE * took)
            self._display.show(self._snapshot(engine))
            await asyncio.sleep(_REDRAW_S)

    def _count(self) -> float:
        started = time.monotonic()
        with self._runtime.store.read() as connection:
            by_job = count_items_of(connection, self._job_ids)
            self._today = day_balance(connection)
        self._counts = {status: sum(counts[status] for counts in by_job.values()) for status in ItemStatus}
        return time.monotonic() - started

    def _snapshot(self, engine: Engine) -> Snapshot:
        progress, counts = engine.progress, self._counts
        elapsed = max(0.001, asyncio.get_running_loop().time() - progress.started)
        open_items = counts[ItemStatus.PENDING] + counts[ItemStatus.LEASED]
        total = sum(counts.values()) - counts[ItemStatus.REJECTED]
        rate = (progress.done + progress.failed) / elapsed
        return Snapshot(
            title="job " + ", ".join(map(str, self._job_ids)),
            done=counts[ItemStatus.DONE],
            failed=counts[ItemStatus.FAILED],
            ended=total - open_items,
            total=total,
            in_flight=progress.in_flight,
            waiting=engine.waiting_reason(),
            documents_per_s=progress.done / elapsed,
            tokens_per_s=(progress.input_tokens + progress.output_tokens) / elapsed,
            spent_nusd=self._today.spent_nusd if self._today else 0,
            cap_nusd=self._today.cap_nusd if self._today else None,
            left_s=open_items / rate if rate else None,
        )


def explain_stop(run: Run) -> None:
    """Say how to go on, after a run that was interrupted."""
    unfinished = [view.job.id for view in run.views if view.job.state in _UNFINISHED]
    if run.interrupted and unfinished:
        only = f" {unfinished[0]}" if len(unfinished) == 1 else ""
        note(f"Interrupted. Nothing that is done will be done again. Go on with: batcher resume{only}")
