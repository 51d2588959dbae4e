"""Runs jobs in this process with a display, scores them, reports, and says with which code to exit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from batcher.budget.spend import day_balance, job_balance
from batcher.cli.display import Display, Snapshot, make_display
from batcher.cli.following import Followed, follow_jobs, follow_judges, judges_at_work
from batcher.cli.job_view import JobView, read_job_view
from batcher.cli.output import duration, note
from batcher.dispatch.finish_by import FINISH_BY_REASON, stop_in_time
from batcher.dispatch.inline import run_inline
from batcher.domain import ItemStatus, JobState
from batcher.engine.control import INTERRUPTED
from batcher.engine.submission import PAUSED_BY_USER
from batcher.errors import ConfigurationError, DependencyError
from batcher.quality.golden import score_samples
from batcher.store.jobs import get_job
from batcher.store.stages import count_documents_of
from batcher.tasks.spec import TaskSpec

if TYPE_CHECKING:
    from batcher.budget.ledger import Balance
    from batcher.dispatch.finish_by import FinishBy
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
_COUNT_SHARE: Final = 20
"""Counting may take a twentieth of the time: on large jobs it is done less often."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run that ended: the jobs as it left them, what this process did for them, and how long it took.

    Attributes:
        views: the jobs.
        started_at: Unix seconds, by the store's clock.
        first_day: the ledger's day at the start.
        seconds: from start to end.
        done: documents that it answered.
        spent_nusd: what it spent, by job.
        interrupted: whether a signal ended it before its jobs were over.
        exit_code: what it means for the caller.
        by_workers: whether others did the work, and go on with it.
    """

    views: tuple[JobView, ...]
    started_at: float
    first_day: str
    seconds: float
    done: int
    spent_nusd: Mapping[int, int]
    interrupted: bool
    exit_code: int
    by_workers: bool = False

    @property
    def goes_on(self) -> bool:
        """Whether only the watching has ended: workers go on, and what it came to is not known yet."""
        return self.interrupted and self.by_workers


def run_jobs(runtime: Runtime, job_ids: Sequence[int], finish_by: FinishBy | None = None) -> Run:
    """Run jobs to their end: in this process, or by workers where there is a broker.

    Args:
        runtime: what they run on.
        job_ids: which.
        finish_by: when to be done; what is left is then paused.
    """
    start = _read_start(runtime, job_ids)
    display = make_display()
    if runtime.settings.broker_url is not None:
        return _follow(runtime, job_ids, start, display, finish_by)
    follower = _Follower(runtime, job_ids, display, finish_by)
    signals: list[int] = []

    def on_signal(number: int) -> None:
        signals.append(number)
        display.say(_STOPPING if number == 1 else "Stopping at once.")

    try:
        run_inline(
            runtime.engine,
            runtime.aclose,
            list(job_ids),
            watch=follower.watch,
            on_signal=on_signal,
            new_loop=runtime.new_loop,
            alerts=runtime.alerts,
        )
    finally:
        display.close()
    over = Followed(follower.seconds, follower.done, bool(signals))
    return _concluded(runtime, job_ids, start, display, over)


def _follow(
    runtime: Runtime, job_ids: Sequence[int], start: _Start, display: Display, finish_by: FinishBy | None
) -> Run:
    """Let workers run them and judge their answers, and watch."""
    try:
        over = follow_jobs(runtime, job_ids, display, finish_by)
        over = follow_judges(runtime, job_ids, display, finish_by, over)
    finally:
        display.close()
    return _concluded(runtime, job_ids, start, display, over)


def _concluded(
    runtime: Runtime, job_ids: Sequence[int], start: _Start, display: Display, over: Followed
) -> Run:
    """Score what can be scored, and say what the run came to."""
    for job_id in job_ids:
        _score(runtime, job_id)
    # Once more: how accurate they are is known only now.
    runtime.alerts.conclude(job_ids)
    views = tuple(read_job_view(runtime, job_id) for job_id in job_ids)
    codes = [exit_code(runtime, view) for view in views]
    for view, code in zip(views, codes, strict=True):
        display.conclude(_conclusion(view, code, over.seconds))
    interrupted = over.interrupted and (
        any(view.job.state in _UNFINISHED for view in views) or bool(judges_at_work(runtime, job_ids))
    )
    return Run(
        views=views,
        started_at=start.at,
        first_day=start.day,
        seconds=over.seconds,
        done=over.done,
        spent_nusd={view.job.id: _spent(view.balance) - start.spent_nusd[view.job.id] for view in views},
        interrupted=interrupted,
        exit_code=EXIT_INTERRUPTED if interrupted else max(codes, default=EXIT_DONE),
        by_workers=runtime.settings.broker_url is not None,
    )


def _conclusion(view: JobView, code: int, seconds: float) -> str:
    counts = ", ".join(f"{count:,} {status}" for status, count in view.items.items() if count)
    reason = f" ({view.job.reason})" if view.job.reason else ""
    grave = "" if code == EXIT_DONE else "Warning: "
    return f"{grave}job {view.job.id} {view.job.state}{reason}: {counts}; took {duration(seconds)}"


@dataclass(frozen=True, slots=True)
class _Start:
    """What was so before the first call: the time, the ledger's day, what the jobs had spent."""

    at: float
    day: str
    spent_nusd: Mapping[int, int]


def _read_start(runtime: Runtime, job_ids: Sequence[int]) -> _Start:
    with runtime.store.write() as connection:
        runtime.ledger.lock(connection)
        balances = {job_id: job_balance(connection, get_job(connection, job_id)) for job_id in job_ids}
        day = runtime.ledger.today(connection)
        spent = {job_id: _spent(balance) for job_id, balance in balances.items()}
        return _Start(runtime.store.now(connection), day, spent)


def _spent(balance: Balance | None) -> int:
    return balance.spent_nusd if balance else 0


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
    if reason.startswith((INTERRUPTED, FINISH_BY_REASON, PAUSED_BY_USER)):
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
    # What its judges said last, or the last items of a judge's own job.
    runtime.judging.keep_up([job_id], at_once=True)
    for watch in runtime.watches:
        watch.keep_up([job_id], at_once=True)


_STOPPING: Final = (
    "Stopping: the calls in flight are waited for, because they are paid for. Once more gives them up."
)


class _Follower:
    """Follows an engine for a display: cheap counters often, counts from the store once a second."""

    def __init__(
        self, runtime: Runtime, job_ids: Sequence[int], display: Display, finish_by: FinishBy | None
    ) -> None:
        self._runtime = runtime
        self._job_ids = list(job_ids)
        self._display = display
        self._finish_by = finish_by
        self.seconds = 0.0
        self._counts = dict.fromkeys(ItemStatus, 0)
        self._today: Balance | None = None
        self._engine: Engine | None = None

    @property
    def done(self) -> int:
        """Documents that this run answered."""
        return self._engine.progress.done if self._engine else 0

    async def watch(self, engine: Engine) -> None:
        """Show the engine until cancelled, and stop it when it is time."""
        self._engine = engine
        clock = asyncio.get_running_loop().time
        started = clock()
        tasks = [asyncio.create_task(self._show(engine))]
        if self._finish_by is not None:
            timeout_s = self._runtime.settings.call_timeout_s
            stopping = stop_in_time(engine, self._runtime.store, self._job_ids, self._finish_by, timeout_s)
            tasks.append(asyncio.create_task(stopping))
        try:
            # What ends the one, be it a bug, is not to end the other.
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self.seconds = clock() - started
            for task in tasks:
                task.cancel()

    async def _show(self, engine: Engine) -> None:
        clock = asyncio.get_running_loop().time
        next_count = clock()
        while True:
            if clock() >= next_count:
                took = 0.0
                with suppress(DependencyError):
                    took = await asyncio.to_thread(self._count)
                next_count = clock() + max(self._display.count_every_s, _COUNT_SHARE * took)
            self._display.show(self._snapshot(engine))
            await asyncio.sleep(self._display.show_every_s)

    def _count(self) -> float:
        started = time.monotonic()
        with self._runtime.store.read() as connection:
            by_job = count_documents_of(connection, self._job_ids)
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
    if run.goes_on and not unfinished:
        note("Not watching any more; workers go on judging. See how far they are: batcher status")
    elif run.interrupted and unfinished:
        only = f" {unfinished[0]}" if len(unfinished) == 1 else ""
        if run.by_workers:
            note(f"Not watching any more; workers go on with it. Watch again: batcher status{only} --watch")
            return
        note(f"Interrupted. Nothing that is done will be done again. Go on with: batcher resume{only}")
