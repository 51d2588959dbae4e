"""Judges' verdicts in the store: what is to be judged, that it was asked for, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    String,
    and_,
    bindparam,
    cast,
    delete,
    exists,
    func,
    or_,
    select,
    true,
    union,
    update,
)

from batcher.domain import ItemStatus
from batcher.quality.golden import GOLDEN
from batcher.quality.judge import JUDGE, by_model, read_verdict
from batcher.store.database import insert_into
from batcher.store.judging import is_judge_of
from batcher.store.steps import submitted_hash
from batcher.store.tables import documents, items, jobs, results, sampled_items, samples

NOBODY: Final = f"{JUDGE}none"
"""Who has judged what no judge can: it is not asked for again."""

_UNKNOWN: Final = "null"


@dataclass(frozen=True, slots=True)
class Question:
    """An answer that a judge is to look at.

    Attributes:
        model: whose answer it is.
        output: the answer, JSON text.
        expected: the right answer, JSON text, if it is known.
        document_hash: of its document, as it was submitted.
        body: the document's compressed text.
        image_count: its pictures or pages.
    """

    item_id: int
    model: str
    output: str
    expected: str | None
    document_hash: bytes
    body: bytes
    image_count: int


def open_questions(connection: Connection, job_id: int, *, judged: bool, limit: int) -> list[Question]:
    """Answers of a job that a judge is to look at and has not been asked for.

    That is what was drawn and has no known answer; for a task whose known answers are for a judge to compare,
    also those.

    Args:
        connection: any transaction.
        job_id: the job.
        judged: whether known answers are for a judge to compare.
        limit: how many at most.
    """
    query = (
        select(
            items.c.id.label("item_id"),
            results.c.model,
            results.c.output,
            _KNOWN.c.expected,
            documents.c.hash.label("document_hash"),
            documents.c.body,
            documents.c.image_count,
        )
        .select_from(items)
        .join(results, results.c.id == items.c.result_id)
        .join(documents, documents.c.hash == submitted_hash())
        .outerjoin(_KNOWN, _OF_KNOWN)
        .where(*_is_open(job_id, judged=judged))
        .order_by(items.c.id)
        .limit(limit)
    )
    return [Question(**row._mapping) for row in connection.execute(query)]


def count_open(connection: Connection, job_id: int, *, judged: bool) -> int:
    """How many answers :func:`open_questions` would give without a limit."""
    query = select(func.count()).select_from(items).outerjoin(_KNOWN, _OF_KNOWN)
    return int(connection.execute(query.where(*_is_open(job_id, judged=judged))).scalar_one())


def open_sizes(connection: Connection, job_id: int, *, judged: bool) -> list[Row[Any]]:
    """The same by the sizes of their documents: ``text_bytes``, ``image_count`` and ``items``."""
    size = (documents.c.text_bytes, documents.c.image_count)
    query = (
        select(*size, func.count().label("items"))
        .select_from(items)
        .join(documents, documents.c.hash == submitted_hash())
        .outerjoin(_KNOWN, _OF_KNOWN)
        .where(*_is_open(job_id, judged=judged))
        .group_by(*size)
    )
    return list(connection.execute(query))


_KNOWN: Final = samples.alias("known")
_OF_KNOWN: Final = and_(_KNOWN.c.item_id == items.c.id, _KNOWN.c.judged_by == GOLDEN)


def _is_open(job_id: int, *, judged: bool) -> list[ColumnElement[bool]]:
    """Conditions on items beside their known answers: done, to be judged, and not asked about."""
    asked = exists().where(samples.c.item_id == items.c.id, samples.c.judged_by.startswith(JUDGE))
    drawn_here = select(sampled_items.c.item_id).where(sampled_items.c.job_id == job_id)
    known_here = select(samples.c.item_id).where(samples.c.job_id == job_id)
    return [
        items.c.job_id == job_id,
        items.c.status == ItemStatus.DONE.value,
        ~asked,
        items.c.id.in_(union(drawn_here, known_here) if judged else drawn_here),
        true() if judged else _KNOWN.c.item_id.is_(None),
    ]


def note_asked(connection: Connection, job_id: int, item_ids: Iterable[int], model: str | None) -> None:
    """Note that a judge is asked, in the transaction that makes its items; None: nobody can judge these."""
    judged_by = NOBODY if model is None else by_model(model)
    values = [
        {"item_id": item_id, "judged_by": judged_by, "job_id": job_id, "expected": _UNKNOWN}
        for item_id in item_ids
    ]
    if values:
        connection.execute(insert_into(connection, samples).on_conflict_do_nothing(), values)


def take_verdicts(
    connection: Connection, job_id: int, child_id: int, model: str, now: float, page: int = 500
) -> int:
    """Write down what a judge has said since the last time; returns how many verdicts there were.

    A known answer that is for a judge to compare takes its verdict over.

    Args:
        connection: a write transaction.
        job_id: the job whose answers are judged.
        child_id: the judge's job: its items are named by the number of the item that they judge.
        model: the judge.
        now: Unix seconds.
        page: how many at most.
    """
    query = (
        select(samples.c.item_id, results.c.output)
        .join(
            items,
            and_(items.c.job_id == child_id, items.c.source == cast(samples.c.item_id, String)),
        )
        .join(results, results.c.id == items.c.result_id)
        .where(
            samples.c.job_id == job_id,
            samples.c.judged_by == by_model(model),
            samples.c.score.is_(None),
            items.c.status == ItemStatus.DONE.value,
        )
        .limit(page)
    )
    rows = [_scored(row.item_id, row.output, now) for row in connection.execute(query)]
    if rows:
        connection.execute(_TAKE, [row | {"b_by": by_model(model)} for row in rows])
        connection.execute(_TAKE, [row | {"b_by": GOLDEN} for row in rows])
    return len(rows)


def hopeless(connection: Connection, job_id: int) -> int:
    """How many of a job's answers nobody has looked at and no judge will: its call failed, or none may."""
    ended = [status.value for status in (ItemStatus.FAILED, ItemStatus.REJECTED, ItemStatus.CANCELLED)]
    failed = exists().where(
        items.c.job_id.in_(select(jobs.c.id).where(is_judge_of(job_id))),
        items.c.source == cast(samples.c.item_id, String),
        items.c.status.in_(ended),
    )
    other = samples.alias("other")
    scored = exists().where(other.c.item_id == samples.c.item_id, other.c.score.is_not(None))
    query = select(func.count()).where(
        samples.c.job_id == job_id,
        samples.c.judged_by.startswith(JUDGE),
        samples.c.score.is_(None),
        ~scored,
        or_(samples.c.judged_by == NOBODY, failed),
    )
    return int(connection.execute(query).scalar_one())


def forget_verdicts(connection: Connection, job_id: int) -> int:
    """Forget what judges said of a job's answers, so that they are asked about anew; returns how many."""
    of_judges = (samples.c.job_id == job_id) & samples.c.judged_by.startswith(JUDGE)
    count = connection.execute(
        select(func.count()).where(of_judges, samples.c.score.is_not(None))
    ).scalar_one()
    connection.execute(delete(samples).where(of_judges))
    return int(count)


def _scored(item_id: int, output: str, now: float) -> dict[str, Any]:
    verdict = read_verdict(output)
    return {
        "b_item": item_id,
        "b_score": verdict.score,
        "b_correct": verdict.correct,
        "b_note": verdict.reason,
        "b_now": now,
    }


_TAKE: Final = (
    update(samples)
    .where(
        samples.c.item_id == bindparam("b_item"),
        samples.c.judged_by == bindparam("b_by"),
        samples.c.score.is_(None),
    )
    .values(
        score=bindparam("b_score"),
        correct=bindparam("b_correct"),
        note=bindparam("b_note"),
        judged_at=bindparam("b_now"),
    )
)
