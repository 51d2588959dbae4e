"""Sets the judging of a job's answers going again: what had stopped, and what had failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from batcher.cli.output import note

if TYPE_CHECKING:
    from batcher.planning.order import Order
    from batcher.quality.judging_state import JudgingState
    from batcher.runtime import Runtime
    from batcher.store.jobs import Job


def note_own_judge(runtime: Runtime, orders: Sequence[Order]) -> None:
    """Say whose answers nobody will judge, because the judge is the model that gives them."""
    from batcher.planning.choice import usable_models
    from batcher.planning.sampling import only_judge_themselves

    for order in orders:
        sampling = order.sampling
        is_asked = sampling is not None and (sampling.draws() or (order.spec.judged and order.golden))
        if sampling is None or not is_asked:
            continue
        answering = [order.model.name]
        if order.learned is not None:
            answering = list(order.learned.models)
        elif order.pinned_model is None:
            rungs = [usable_models(runtime.catalog, rung, None, runtime.is_usable) for rung in order.ladder]
            answering = list(dict.fromkeys(models[0].name for models in rungs))
        for name in only_judge_themselves(runtime.catalog, sampling, runtime.is_usable, answering):
            note(
                f"Answers of {name} are not judged: it is the only judge, and a model does not judge its "
                "own. Name another judge, or set judge_own = true in [quality]."
            )


def let_judges_go_on(runtime: Runtime, job: Job) -> bool:
    """Let judges go on with a job's answers; whether there is anything for them. Says what there is."""
    from batcher.domain import JobState
    from batcher.engine.children import resume_children
    from batcher.engine.submission import PAUSED_BY_USER

    job = with_corrected_judge(runtime, job)
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


def with_corrected_judge(runtime: Runtime, job: Job) -> Job:
    """The job with the judge that its task now names, if there is none of the name that it was given."""
    from batcher.engine.judging_changes import correct_judge
    from batcher.store.jobs import get_job
    from batcher.tasks.spec import TaskSpec

    task = runtime.find_task(TaskSpec.from_json(job.spec))
    judge = correct_judge(runtime.store, job, runtime.catalog, task)
    if judge is None:
        return job
    note(f"Job {job.id}: its answers are judged by {judge}, as its task now says.")
    with runtime.store.read() as connection:
        return get_job(connection, job.id)


def has_failed_questions(runtime: Runtime, job_id: int, failure: str | None) -> bool:
    """Whether a judge's question failed; with a class, whether one failed so."""
    from batcher.store.jobs import get_job

    with runtime.store.read() as connection:
        found = runtime.judges.state_of(connection, get_job(connection, job_id))
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


def is_judging_open(runtime: Runtime, job: Job) -> bool:
    """Whether answers of a job wait for a judge, or a question failed that was not the judge's fault."""
    from batcher.engine.golden_jobs import NOT_THE_MODELS_FAULT

    found = state_of(runtime, job)
    return found is not None and bool(found.waiting or found.failed.keys() & set(NOT_THE_MODELS_FAULT))


def take_up_judging(runtime: Runtime, job: Job) -> None:
    """Let the judges of a measured job go on, and ask again what failed through no fault of theirs."""
    from batcher.engine.golden_jobs import NOT_THE_MODELS_FAULT

    ask_judges_again(runtime, job.id, NOT_THE_MODELS_FAULT)
    let_judges_go_on(runtime, job)


def judging_code(runtime: Runtime, job: Job) -> int:
    """What the judging of a job's answers means for the caller of batcher, who wants to know its outcome."""
    from batcher.cli.job_view import read_job_view
    from batcher.cli.running import EXIT_CONFIGURATION, EXIT_DONE, EXIT_INCOMPLETE, exit_code

    found = state_of(runtime, job)
    if found is None:
        return EXIT_DONE
    codes = [exit_code(runtime, read_job_view(runtime, judge.id)) for judge in found.jobs]
    if found.cannot_ask:
        codes.append(EXIT_CONFIGURATION)
    return max([*codes, EXIT_INCOMPLETE if found.judged < found.total else EXIT_DONE])


def state_of(runtime: Runtime, job: Job) -> JudgingState | None:
    """How far the judging of a job's answers is."""
    with runtime.store.read() as connection:
        return runtime.judges.state_of(connection, job)


def _names(judges: Sequence[Job]) -> str:
    return " and ".join(f"job {judge.id} ({judge.pinned_model})" for judge in judges)
