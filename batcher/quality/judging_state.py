"""How far the judging of a job's answers is: what is judged, what waits and why, what failed and how."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from sqlalchemy import Connection, case, func, select

from batcher.domain import ItemStatus, JobState
from batcher.quality.judge import JUDGE
from batcher.quality.judgements import NOBODY, count_open
from batcher.store.item_counts import count_errors, count_items_of
from batcher.store.jobs import Job
from batcher.store.judging import children_of
from batcher.store.tables import samples

_NEVER = (ItemStatus.FAILED, ItemStatus.REJECTED, ItemStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class JudgingState:
    """Where the answers stand that a judge is to look at.

    Attributes:
        judged: those with a verdict.
        asked: those that a judge was given and has not answered yet.
        unasked: those that none was given yet.
        failed: those whose question failed, by class: ``batcher retry`` asks again.
        nobody: those that no model of the judge's may judge.
        reason: why what waits waits; None while it goes on.
        resume_at: when it goes on by itself, Unix seconds; None: when somebody sees to it.
        jobs: the judges' jobs.
        cannot_ask: whether no model that may judge can be used, for the reason given.
    """

    judged: int = 0
    asked: int = 0
    unasked: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    nobody: int = 0
    reason: str | None = None
    resume_at: float | None = None
    jobs: tuple[Job, ...] = ()
    cannot_ask: bool = False

    @property
    def waiting(self) -> int:
        """Answers that still wait for their verdict."""
        return self.asked + self.unasked

    @property
    def total(self) -> int:
        """All answers that a judge is to look at."""
        return self.judged + self.waiting + sum(self.failed.values()) + self.nobody

    @property
    def trouble(self) -> str | None:
        """Why judging does not go on unless somebody sees to it; None while it goes on, or will by itself."""
        if self.waiting and self.reason and self.resume_at is None and (self.cannot_ask or self._is_paused):
            return self.reason
        if self.failed and not self.judged and not self.waiting:
            classes = ", ".join(f"{name} {count:,}" for name, count in self.failed.items())
            return f"no question to the judge came to an answer ({classes})"
        return None

    @property
    def _is_paused(self) -> bool:
        return any(job.state is JobState.PAUSED for job in self.jobs)


def read_judging(
    connection: Connection, job_id: int, *, has_judge: bool, judged: bool
) -> JudgingState | None:
    """How far the judging of a job's answers is; None if there is nothing to judge.

    Args:
        connection: any transaction.
        job_id: the job.
        has_judge: whether answers are to be judged that nobody was asked about.
        judged: whether known answers are for a judge to compare.
    """
    jobs = tuple(children_of(connection, job_id))
    scored, unscored, nobody = _asked(connection, job_id)
    counts = count_items_of(connection, [job.id for job in jobs])
    ended = sum(of_job[status] for of_job in counts.values() for status in _NEVER)
    failed: Counter[str] = Counter()
    for job in jobs:
        for status in (ItemStatus.FAILED, ItemStatus.REJECTED):
            failed.update(count_errors(connection, job.id, status))
    stopped = next((job for job in jobs if job.state is JobState.PAUSED), None)
    found = JudgingState(
        judged=scored,
        asked=max(0, unscored - ended),
        unasked=count_open(connection, job_id, judged=judged) if has_judge else 0,
        failed=dict(failed.most_common()),
        nobody=nobody,
        reason=stopped.reason if stopped else next((job.waiting_reason for job in jobs), None),
        resume_at=stopped.resume_at if stopped else None,
        jobs=jobs,
    )
    return found if found.total else None


def _asked(connection: Connection, job_id: int) -> tuple[int, int, int]:
    """Answers with a verdict, those that a judge was given without one, and those that none may judge."""
    by_nobody = samples.c.judged_by == NOBODY
    has_verdict = samples.c.score.is_not(None)
    kinds = (by_nobody & ~has_verdict, ~by_nobody & has_verdict, ~by_nobody & ~has_verdict)
    sums = [func.coalesce(func.sum(case((kind, 1), else_=0)), 0) for kind in kinds]
    query = select(*sums).where(samples.c.job_id == job_id, samples.c.judged_by.startswith(JUDGE))
    nobody, scored, unscored = map(int, connection.execute(query).one())
    return scored, unscored, nobody
