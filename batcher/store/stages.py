"""A staged job in numbers, and its answers on their way from one step to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, bindparam, or_, select, update

from batcher.domain import ItemStatus, JobState
from batcher.store.item_counts import count_items_of
from batcher.store.jobs import Job, list_jobs_where
from batcher.store.steps import HANDED_OVER, done_tiers, is_stage, stages_under
from batcher.store.tables import documents, items, jobs, results, samples

_GOLDEN: Final = "golden"


@dataclass(frozen=True, slots=True)
class Answered:
    """An item of a step that is done, on its way to the next one.

    Attributes:
        output: its answer, JSON text.
        document_hash: of the document as it was submitted, in whichever step.
        body: that document's compressed text; empty where it is not asked for.
        image_count: its pictures or pages; 0 where it is not asked for.
    """

    item_id: int
    source: str
    output: str
    document_hash: bytes
    body: bytes = field(default=b"", repr=False)
    image_count: int = 0


def steps_of(connection: Connection, job_id: int) -> list[Job]:
    """The jobs of all steps of a job, in order: the last is the job itself."""
    found = list_jobs_where(
        connection, or_(jobs.c.id == job_id, and_(jobs.c.parent_id == job_id, is_stage()))
    )
    return sorted(found, key=lambda job: (job.id == job_id, job.id))


def staged_jobs(connection: Connection, job_ids: Sequence[int] | None) -> list[int]:
    """The jobs of several steps among these, oldest first; None for all that are under way."""
    parent = jobs.alias("parent")
    query = select(parent.c.id).join(jobs, jobs.c.parent_id == parent.c.id).where(is_stage()).distinct()
    if job_ids is not None:
        query = query.where(parent.c.id.in_(job_ids))
    under_way = (JobState.RUNNING.value, JobState.INGESTING.value)
    return list(
        connection.execute(query.where(parent.c.state.in_(under_way)).order_by(parent.c.id)).scalars()
    )


def lock_job(connection: Connection, job_id: int, *, wait: bool) -> bool:
    """Keep others from handing over answers of this job; whether nobody does so just now.

    On SQLite, where a write transaction is alone anyway, it is always so.
    """
    query = select(jobs.c.id).where(jobs.c.id == job_id).with_for_update(skip_locked=not wait)
    return connection.execute(query).scalar() is not None


def next_answered(
    connection: Connection, stage_id: int, first_id: int, limit: int, *, with_document: bool
) -> list[Answered]:
    """Done items of a step that were not handed over yet, and the answers that they have.

    Args:
        connection: a write transaction that has the lock of the job.
        stage_id: the step.
        first_id: the first step of all, whose items are the documents as they were submitted.
        limit: how many at most.
        with_document: read those documents too.
    """
    found: list[Answered] = []
    query = _WITH_DOCUMENT if with_document else _ANSWERED
    for tier in done_tiers(connection, stage_id):
        wanted = {"b_job": stage_id, "b_tier": tier, "b_first": first_id, "b_limit": limit - len(found)}
        found += [Answered(**row._mapping) for row in connection.execute(query, wanted)]
        if len(found) >= limit:
            break
    return found


def note_handed_over(connection: Connection, handed: Sequence[Answered], next_id: int) -> None:
    """Note that items were handed over, in the transaction that made them items of the next step.

    Known right answers go with them: they are those of the document, and the last step's to reach.
    """
    connection.execute(_NOTE, [{"b_id": one.item_id} for one in handed])
    ids = [one.item_id for one in handed]
    known = select(samples.c.item_id).where(samples.c.item_id.in_(ids), samples.c.judged_by == _GOLDEN)
    with_answer = set(connection.execute(known).scalars())
    if not with_answer:
        return
    sources = {one.source: one.item_id for one in handed if one.item_id in with_answer}
    query = select(items.c.id, items.c.source)
    new = connection.execute(query.where(items.c.job_id == next_id, items.c.source.in_(sources)))
    connection.execute(_MOVE_SAMPLE, [{"b_old": sources[row.source], "b_new": row.id} for row in new])


def count_documents_of(connection: Connection, job_ids: Sequence[int]) -> dict[int, dict[ItemStatus, int]]:
    """How many of jobs' documents stand where; every status is there, also with 0.

    A document of a staged job stands where its item in the furthest step does, and is pending between two
    steps. It is the same as counting items for a job of one step.
    """
    stages = stages_under(connection, job_ids)
    counts = count_items_of(connection, [*job_ids, *(step for found in stages.values() for step in found)])
    cancelled = select(jobs.c.id).where(jobs.c.state == JobState.CANCELLED.value, jobs.c.id.in_(stages))
    gone = set(connection.execute(cancelled).scalars()) if stages else set()
    return {
        job_id: _documents([counts[step] for step in (*stages.get(job_id, ()), job_id)], job_id in gone)
        for job_id in job_ids
    }


def _documents(steps: Sequence[dict[ItemStatus, int]], cancelled: bool) -> dict[ItemStatus, int]:
    found = {status: sum(step[status] for step in steps) for status in ItemStatus}
    found[ItemStatus.DONE] = steps[-1][ItemStatus.DONE]
    between = sum(max(0, step[ItemStatus.DONE] - sum(after.values())) for step, after in pairwise(steps))
    found[ItemStatus.CANCELLED if cancelled else ItemStatus.PENDING] += between
    return found


def _query(with_document: bool) -> Select[Any]:
    first = items.alias("first")
    columns = [items.c.id.label("item_id"), items.c.source, results.c.output]
    query: Select[Any] = select(*columns, items.c.document_hash).join(
        results, results.c.id == items.c.result_id
    )
    if with_document:
        query = select(*columns, documents.c.hash.label("document_hash"), documents.c.body)
        query = query.add_columns(documents.c.image_count).select_from(items)
        query = query.join(results, results.c.id == items.c.result_id)
        query = query.join(
            first, and_(first.c.job_id == bindparam("b_first"), first.c.source == items.c.source)
        )
        query = query.join(documents, documents.c.hash == first.c.document_hash)
    return (
        query.where(
            items.c.job_id == bindparam("b_job"),
            items.c.status == ItemStatus.DONE.value,
            items.c.tier == bindparam("b_tier"),
            items.c.ready_at > HANDED_OVER,
        )
        .order_by(items.c.ready_at, items.c.id)
        .limit(bindparam("b_limit"))
        .with_for_update(of=items, skip_locked=True)
    )


# Built once: building a statement costs more than running it. FOR UPDATE is left out on SQLite.

_ANSWERED: Final = _query(with_document=False)

_WITH_DOCUMENT: Final = _query(with_document=True)

_NOTE: Final = update(items).where(items.c.id == bindparam("b_id")).values(ready_at=HANDED_OVER)

_MOVE_SAMPLE: Final = (
    update(samples)
    .where(samples.c.item_id == bindparam("b_old"), samples.c.judged_by == _GOLDEN)
    .values(item_id=bindparam("b_new"), score=None, field_scores=None, correct=None)
)
