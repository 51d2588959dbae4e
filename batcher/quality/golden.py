"""Scores items whose right answer is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from sqlalchemy import Connection, bindparam, case, func, or_, select, update

from batcher.domain import ItemStatus
from batcher.statistics.intervals import Interval, wilson
from batcher.store.database import Store, insert_into
from batcher.store.judging import count_unjudged
from batcher.store.tables import items, jobs, results, samples

GOLDEN = "golden"


class GoldenAnswers(Protocol):
    """Right answers by source."""

    def lookup(self, source: str) -> Any | None:
        """The right answer for a source, or None."""


class ScoreLike(Protocol):
    """What a scorer returns: the score and the scores of its fields, each between 0 and 1."""

    @property
    def value(self) -> float:
        """The whole score."""

    @property
    def fields(self) -> dict[str, float]:
        """Scores by field."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The share of scored items that are correct.

    Attributes:
        correct: items whose score reaches what the task declares to be correct.
        scored: items with a known answer that have an answer, or failed.
        interval: the share with its 95 % interval.
        mean_score: the mean of the scores.
        fields: mean score by field.
    """

    correct: int
    scored: int
    interval: Interval
    mean_score: float
    fields: dict[str, float]


def add_samples(
    connection: Connection,
    job_id: int,
    sources: Iterable[str],
    golden: GoldenAnswers,
    *,
    step_ids: Sequence[int] = (),
) -> None:
    """Note the right answers of a job's items, by source; those noted before are left as they are.

    Args:
        connection: a write transaction, with the lock of a staged job.
        job_id: the job whose answers they are held against.
        sources: of its items.
        golden: right answers.
        step_ids: the jobs of a staged job's steps, in order. A document's right answer is noted in the
            furthest step that it has come to; it goes along when that is handed over.
    """
    expected = {source: answer for source in sources if (answer := golden.lookup(source)) is not None}
    if not expected:
        return
    steps = list(step_ids) or [job_id]
    rows = connection.execute(
        select(items.c.id, items.c.job_id, items.c.source).where(
            items.c.job_id.in_(steps), items.c.source.in_(expected)
        )
    )
    furthest = {row.source: row.id for row in sorted(rows, key=lambda row: steps.index(row.job_id))}
    values = [
        {
            "item_id": item_id,
            "judged_by": GOLDEN,
            "job_id": job_id,
            "expected": orjson.dumps(expected[source]).decode(),
        }
        for source, item_id in furthest.items()
    ]
    connection.execute(insert_into(connection, samples).on_conflict_do_nothing(), values)


def score_samples(
    store: Store, job_id: int, scorer: Callable[[Any, Any], ScoreLike], correct_at: float, page: int = 500
) -> int:
    """Score what has been answered since the last time; a failed item scores 0. Returns how many.

    Answers whose task leaves the comparison to a judge (``scorers.judged``) are left to that judge.
    """
    scored = 0
    while True:
        with store.write() as connection:
            rows = _unscored(connection, job_id, page, only_failed=_is_judged(connection, job_id))
            if not rows:
                return scored
            connection.execute(_SCORE, [_scored(row, scorer, correct_at) for row in rows])
        scored += len(rows)


def accuracy(connection: Connection, job_id: int) -> Accuracy | None:
    """A job's accuracy on its known answers so far, or None if none was scored.

    None too for a golden job that is judged in part: what is judged is no fair sample of its answers.
    """
    if count_unjudged(connection, job_id):
        return None
    row = connection.execute(
        select(
            func.count(),
            func.sum(case((samples.c.correct, 1), else_=0)),
            func.avg(samples.c.score),
        ).where(*_scored_golden(job_id))
    ).one()
    if not row[0]:
        return None
    return Accuracy(
        int(row[1]), row[0], wilson(int(row[1]), row[0]), float(row[2]), _field_means(connection, job_id)
    )


def _field_means(connection: Connection, job_id: int) -> dict[str, float]:
    sums: dict[str, list[float]] = {}
    query = select(samples.c.field_scores).where(*_scored_golden(job_id), samples.c.field_scores.is_not(None))
    for stored in connection.execute(query).scalars():
        for name, value in orjson.loads(stored).items():
            sums.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in sums.items()}


def _scored_golden(job_id: int) -> tuple[Any, ...]:
    return samples.c.job_id == job_id, samples.c.judged_by == GOLDEN, samples.c.score.is_not(None)


def _is_judged(connection: Connection, job_id: int) -> bool:
    spec = connection.execute(select(jobs.c.spec).where(jobs.c.id == job_id)).scalar_one()
    return bool(orjson.loads(spec).get("judged"))


def _unscored(connection: Connection, job_id: int, page: int, *, only_failed: bool) -> list[Any]:
    ended = [ItemStatus.FAILED.value, *([] if only_failed else [ItemStatus.DONE.value])]
    query = (
        select(samples.c.item_id, samples.c.expected, results.c.output)
        .join(items, items.c.id == samples.c.item_id)
        .outerjoin(results, results.c.id == items.c.result_id)
        .where(samples.c.job_id == job_id, samples.c.judged_by == GOLDEN, samples.c.score.is_(None))
        .where(items.c.status.in_(ended))
        .where(or_(items.c.job_id == job_id, items.c.status == ItemStatus.FAILED.value))
        .limit(page)
    )
    return list(connection.execute(query))


def _scored(row: Any, scorer: Callable[[Any, Any], ScoreLike], correct_at: float) -> dict[str, Any]:
    value, fields = 0.0, "{}"
    if row.output is not None:
        score = scorer(orjson.loads(row.expected), orjson.loads(row.output))
        value, fields = score.value, orjson.dumps(score.fields).decode()
    return {"b_item": row.item_id, "b_score": value, "b_fields": fields, "b_correct": value >= correct_at}


_SCORE = (
    update(samples)
    .where(samples.c.item_id == bindparam("b_item"), samples.c.judged_by == GOLDEN)
    .values(score=bindparam("b_score"), field_scores=bindparam("b_fields"), correct=bindparam("b_correct"))
)
