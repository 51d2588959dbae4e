"""Sets the judging of a job's answers going again: what had stopped, and what had failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from batcher.cli.output import note

if TYPE_CHECKING:
    from batcher.quality.judging_state import JudgingState
    from batcher.runtime import Runtime
    from batcher.store.jobs import Job


def let_judges_go_on(runtime: Runtime, job: Job) -> bool:
    """Let judges go on with a job's answers; whether there is anything for them. Says what there is."""
    from batcher.domain import JobState
    from batcher.engine.children import resume_children
    from batcher.engine.submission import PAUSED_BY_USER

    before = state_of(runtime, job)
    if before is None or not before.waiting:
        return False
    with runtime.store.write() as connection:
        now = runtime.store.now(connection)
        resume_children(connection, job.id, now, unless=PAUSED_BY_USER)
    # A judge may be there by now: a key was missing, or nobody looked since the last answers.
    runtime.judging.keep_up([job.id], at_once=True)
    after = state_of(runtime, job)
    going = [one for one in after.jobs if one.state is JobState.RUNNING] if after else []
    if going and after is not None and after.waiting:
        answers = f"{after.waiting:,} answer{'' if after.waiting == 1 else 's'}"
        note(f"Job {job.id}: judging goes on with {answers}, by {_names(going)}.")
    return bool(going)


def has_failed_questions(runtime: Runtime, job_id: int, failure: str | None) -> bool:
    """Whether a judge's question failed; with a class, whether one failed so."""
    from batcher.store.jobs import get_job

    with runtime.store.read() as connection:
        found = runtime.judging.state_of(connection, get_job(connection, job_id))
    return found is not None and (bool(found.failed) if failure is None else failure in found.failed)


def ask_judges_again(runtime: Runtime, job_id: int, failures: Sequence[str | None]) -> int:
    """Ask a job's judges again what failed with one of these classes (None: any); how many questions."""
    from batcher.engine.children import retry_children
    from batcher.engine.submission import PAUSED_BY_USER

    with runtime.store.write() as connection:
        now = runtime.store.now(connection)
        count = retry_children(connection, job_id, failures, now, unless=PAUSED_BY_USER)
    if count:
        note(f"Job {job_id}: asking its judge again about {count:,} answer{'' if count == 1 else 's'}.")
    return count


def state_of(runtime: Runtime, job: Job) -> JudgingState | None:
    """How far the judging of a job's answers is."""
    with runtime.store.read() as connection:
        return runtime.judging.state_of(connection, job)


def _names(judges: Sequence[Job]) -> str:
    return " and ".join(f"job {judge.id} ({judge.pinned_model})" for judge in judges)
