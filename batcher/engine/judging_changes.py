"""Lets a stored job's answers be judged as its task now says: by another judge, by other rules."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from batcher.catalog.models import Catalog
from batcher.planning.sampling import is_known
from batcher.quality.evaluation import forget_scores
from batcher.quality.judge import judge_spec
from batcher.quality.judgements import forget_verdicts
from batcher.quality.sampling import Sampling
from batcher.store.database import Store
from batcher.store.jobs import Job
from batcher.store.judging import replace_judges, set_judging
from batcher.tasks.definition import Task
from batcher.tasks.spec import TaskSpec


def judge_as_asked(store: Store, job: Job, spec: TaskSpec, sampling: Sampling | None) -> int | None:
    """Let a golden job's answers be judged by the rules and the judge that a request for it now names.

    Verdicts by other ones are forgotten here; asked for again they cost nothing, for they stay stored.

    Args:
        store: the store.
        job: the job.
        spec: the task as it now is.
        sampling: who judges now.

    Returns:
        How many verdicts are out of force; None if nothing was changed.
    """
    stored, before = TaskSpec.from_json(job.spec), Sampling.of(job)
    if before is None or sampling is None or not (stored.judged or spec.judged):
        return None
    changed = replace(stored, judged=spec.judged, rubric=spec.rubric)
    asked = replace(before, judge=sampling.judge, judge_own=sampling.judge_own)
    if asked == before and _rules(changed) == _rules(stored):
        return None
    with store.write() as connection:
        return _judge_anew(connection, store.now(connection), job, changed, asked)


def _rules(spec: TaskSpec) -> tuple[bool, bytes]:
    return spec.judged, judge_spec(spec, "").fingerprint


def _judge_anew(connection: Connection, now: float, job: Job, spec: TaskSpec, sampling: Sampling) -> int:
    set_judging(connection, job.id, spec.to_json(), sampling.to_json())
    replace_judges(connection, job.id, now)
    forget_scores(connection, job.id)
    return forget_verdicts(connection, job.id)


def correct_judge(store: Store, job: Job, catalog: Catalog, task: Task | None) -> str | None:
    """Take the judge that a job's task now names, if there is none of the name that the job was given.

    Returns:
        The judge, if it was corrected.
    """
    sampling = Sampling.of(job)
    named = None if task is None else task.usual_judge
    if sampling is None or sampling.judge is None or is_known(catalog, sampling.judge):
        return None
    if named is None or not is_known(catalog, named):
        return None
    with store.write() as connection:
        set_judging(connection, job.id, job.spec, replace(sampling, judge=named).to_json())
    return named
