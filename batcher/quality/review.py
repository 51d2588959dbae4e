"""People's labels of drawn answers: what is left to look at, what was said, and known answers made of it.

For a terminal and a page alike: every function is a query or one change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import orjson
from sqlalchemy import Connection, delete, select

from batcher.errors import UsageError
from batcher.quality.judge import PERSON
from batcher.quality.sampling import uniform
from batcher.store.database import insert_into
from batcher.store.documents import text_of
from batcher.store.steps import submitted_hash
from batcher.store.tables import documents, items, results, sampled_items, samples

_UNKNOWN: Final = "null"
"""The right answer, where a label says that this one is wrong and not what is right."""

_ORDER_SEED: Final = 0
"""The order in which answers are shown is random and always the same: wherever somebody stops, what was
labelled is a fair part of what was drawn."""


class Label(StrEnum):
    """What a person says of an answer."""

    RIGHT = "right"
    WRONG = "wrong"
    FIX = "fix"


@dataclass(frozen=True, slots=True)
class Opinion:
    """What somebody said of an answer.

    Attributes:
        judged_by: ``judge:MODEL``, ``person:NAME`` or ``golden``.
        correct: whether the answer is right.
        score: 0 to 1.
        expected: the right answer as a JSON value; None where nobody said it.
        note: the reason, or "".
        judged_at: Unix seconds; 0 where it is not known.
    """

    judged_by: str
    correct: bool
    score: float
    expected: Any
    note: str
    judged_at: float


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """A drawn answer beside its document.

    Attributes:
        item_id: its number in the store.
        source: what the document is called.
        tier: the tier that answered.
        model: the model that answered.
        text: the document's text.
        image_count: its pictures or pages.
        output: the answer, a JSON value.
        opinions: what was said of it so far, oldest first.
    """

    item_id: int
    job_id: int
    source: str
    tier: str
    model: str
    text: str
    image_count: int
    output: Any
    opinions: tuple[Opinion, ...]

    def others(self, by: str) -> list[Opinion]:
        """What others than this one said."""
        return [one for one in self.opinions if one.judged_by != by]

    def own(self, by: str) -> Opinion | None:
        """What this one said, or None."""
        return next((one for one in self.opinions if one.judged_by == by), None)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far somebody is: answers labelled, and answers left."""

    labelled: int
    left: int


def review_queue(
    connection: Connection,
    job_id: int,
    by: str,
    *,
    tier: str | None = None,
    only_disagreements: bool = False,
) -> list[int]:
    """The drawn answers of a job that somebody has still to look at, in the order to show them.

    Args:
        connection: any transaction.
        job_id: the job.
        by: who looks, as ``judged_by`` names them.
        tier: only answers of this tier.
        only_disagreements: instead, those of which two said different things, one's own label included: to be
            looked at again.
    """
    query = select(sampled_items.c.item_id).where(sampled_items.c.job_id == job_id)
    if tier is not None:
        query = query.where(sampled_items.c.tier == tier)
    drawn = connection.execute(query).scalars().all()
    said = _said(connection, job_id)
    if only_disagreements:
        chosen = [item_id for item_id in drawn if len(set(said[item_id].values())) > 1]
    else:
        chosen = [item_id for item_id in drawn if by not in said[item_id]]
    return sorted(chosen, key=lambda item_id: uniform(_ORDER_SEED, job_id, b"%d" % item_id))


def review_progress(connection: Connection, job_id: int, by: str) -> Progress:
    """How far somebody is with a job."""
    drawn = select(sampled_items.c.item_id).where(sampled_items.c.job_id == job_id)
    said = _said(connection, job_id)
    mine = [by in said[item_id] for item_id in connection.execute(drawn).scalars()]
    return Progress(sum(mine), len(mine) - sum(mine))


def read_item(connection: Connection, item_id: int) -> ReviewItem:
    """A drawn answer beside its document.

    Raises:
        UsageError: if it was not drawn.
    """
    query = (
        select(
            items.c.job_id,
            items.c.source,
            sampled_items.c.tier,
            sampled_items.c.model,
            documents.c.body,
            documents.c.image_count,
            results.c.output,
        )
        .select_from(sampled_items)
        .join(items, items.c.id == sampled_items.c.item_id)
        .join(documents, documents.c.hash == submitted_hash())
        .join(results, results.c.id == items.c.result_id)
        .where(sampled_items.c.item_id == item_id)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        raise UsageError(
            f"Item {item_id} was not drawn for checking. Ask which is next: batcher review --next"
        )
    return ReviewItem(
        item_id=item_id,
        job_id=row.job_id,
        source=row.source,
        tier=row.tier,
        model=row.model,
        text=text_of(row.body),
        image_count=row.image_count,
        output=orjson.loads(row.output),
        opinions=_opinions(connection, item_id),
    )


def put_label(
    connection: Connection,
    item: ReviewItem,
    by: str,
    label: Label,
    now: float,
    *,
    fixed: Any = None,
    note: str = "",
    scorer: Callable[[Any, Any], tuple[float, bool]] | None = None,
) -> Opinion:
    """Write down what somebody says of an answer, in place of what they said before.

    Args:
        connection: a write transaction.
        item: the answer.
        by: who says it, as ``judged_by`` names them.
        label: what they say.
        now: Unix seconds.
        fixed: the right answer, where the label is ``fix``.
        note: a reason.
        scorer: how right the answer is against the fixed one, and whether that is right enough; None: an
            answer that had to be fixed is wrong.
    """
    score, correct, expected = 0.0, False, None
    if label is Label.RIGHT:
        score, correct, expected = 1.0, True, item.output
    elif label is Label.FIX:
        expected = fixed
        if scorer is not None:
            score, correct = scorer(fixed, item.output)
    row = {
        "job_id": item.job_id,
        "expected": orjson.dumps(expected).decode(),
        "score": score,
        "field_scores": None,
        "correct": correct,
        "note": note or None,
        "judged_at": now,
    }
    added = insert_into(connection, samples).values(item_id=item.item_id, judged_by=by, **row)
    connection.execute(added.on_conflict_do_update(index_elements=["item_id", "judged_by"], set_=row))
    return Opinion(by, correct, score, expected, note, now)


def take_label_back(connection: Connection, item_id: int, by: str) -> bool:
    """Forget what somebody said of an answer; whether they had said anything."""
    gone = connection.execute(delete(samples).where(samples.c.item_id == item_id, samples.c.judged_by == by))
    return gone.rowcount == 1


def last_labelled(connection: Connection, job_id: int, by: str) -> int | None:
    """The answer that somebody labelled last, or None."""
    query = (
        select(samples.c.item_id)
        .where(samples.c.job_id == job_id, samples.c.judged_by == by)
        .order_by(samples.c.judged_at.desc(), samples.c.item_id.desc())
        .limit(1)
    )
    found: int | None = connection.execute(query).scalar_one_or_none()
    return found


def golden_rows(connection: Connection, job_id: int, page: int = 200) -> Iterator[dict[str, Any]]:
    """The answers that people found right or fixed, as rows of a golden file, in order of submission.

    The latest label counts. A wrong answer that nobody fixed makes no row: nobody knows the right one.
    """
    latest = _latest_labels(connection, job_id)
    known = [item_id for item_id, expected in latest.items() if expected != _UNKNOWN]
    for start in range(0, len(known), page):
        for row in _sources(connection, known[start : start + page]):
            yield _golden_row(row, orjson.loads(latest[row.id]))


def unfixed_items(connection: Connection, job_id: int) -> list[int]:
    """The items whose answers people found wrong and did not fix, which :func:`golden_rows` leaves out."""
    latest = _latest_labels(connection, job_id)
    return [item_id for item_id, expected in latest.items() if expected == _UNKNOWN]


def _latest_labels(connection: Connection, job_id: int) -> dict[int, str]:
    """The right answers by the latest label of a person, as JSON text."""
    query = (
        select(samples.c.item_id, samples.c.expected)
        .where(samples.c.job_id == job_id, samples.c.judged_by.startswith(PERSON))
        .order_by(samples.c.item_id, samples.c.judged_at)
    )
    return {row.item_id: row.expected for row in connection.execute(query)}


def _sources(connection: Connection, item_ids: Sequence[int]) -> list[Any]:
    query = (
        select(items.c.id, items.c.source, documents.c.body, documents.c.image_count)
        .select_from(items)
        .join(documents, documents.c.hash == submitted_hash())
        .where(items.c.id.in_(item_ids))
        .order_by(items.c.id)
    )
    return list(connection.execute(query))


def _golden_row(row: Any, expected: Any) -> dict[str, Any]:
    """A row that names its document, and brings it along if it is a text."""
    text = {} if row.image_count else {"text": text_of(row.body)}
    return {"source": row.source, "expected": expected} | text


def _said(connection: Connection, job_id: int) -> dict[int, dict[str, bool]]:
    """Who said what of a job's answers."""
    query = select(samples.c.item_id, samples.c.judged_by, samples.c.correct).where(
        samples.c.job_id == job_id, samples.c.score.is_not(None)
    )
    said: dict[int, dict[str, bool]] = defaultdict(dict)
    for row in connection.execute(query):
        said[row.item_id][row.judged_by] = bool(row.correct)
    return said


def _opinions(connection: Connection, item_id: int) -> tuple[Opinion, ...]:
    query = (
        select(samples)
        .where(samples.c.item_id == item_id, samples.c.score.is_not(None))
        .order_by(samples.c.judged_at, samples.c.judged_by)
    )
    return tuple(
        Opinion(
            row.judged_by,
            bool(row.correct),
            row.score,
            orjson.loads(row.expected),
            row.note or "",
            row.judged_at or 0.0,
        )
        for row in connection.execute(query)
    )
