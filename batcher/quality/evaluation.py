"""What a model did with documents whose right answer is known: read from its golden job, and added up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
from sqlalchemy import Connection, case, func, select, update

from batcher.domain import AttemptState, FailureClass, ItemStatus, Purpose
from batcher.quality.golden import GOLDEN
from batcher.statistics.intervals import Interval, wilson
from batcher.store.judging import count_unjudged, is_judge_of
from batcher.store.steps import stage_ids, step_ids
from batcher.store.tables import attempts, items, jobs, results, samples

_PAGE: Final = 500
_VALID: Final = "ok"
"""The outcome of an attempt that brought a valid answer."""

_NOT_VALID: Final = frozenset({FailureClass.INVALID_OUTPUT, FailureClass.TRUNCATED, FailureClass.REFUSED})
"""Outcomes of answers that did not fit the schema; other failures brought no answer."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one model made of one document.

    Attributes:
        key: the document's result key, the same for every model.
        correct: whether its score reaches what the task declares to be correct.
        score: 0 to 1; 0 if it failed.
        fields: scores by field; 0 for each field of the right answer if it failed.
        failure: the class it failed with; "" if it has an answer.
        is_valid_at_once: whether its first answer fitted the schema; None if no answer came at all.
        cost_nusd: of all calls for it, retries and repairs included, by whatever job they were made; without
            those whose outcome is unknown.
        latencies_s: of the calls that brought an answer, valid or not.
        unknown_nusd: what calls of unknown outcome are booked at, their worst case.
    """

    key: bytes
    correct: bool
    score: float
    fields: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""
    is_valid_at_once: bool | None = None
    cost_nusd: int = 0
    latencies_s: tuple[float, ...] = ()
    unknown_nusd: int = 0


@dataclass(frozen=True, slots=True)
class Measurement:
    """One model, measured on known documents. Money in nano-dollars, times in seconds.

    Attributes:
        outcomes: one for each document that was scored.
        accuracy: the share that is correct, a failed one being wrong; None if nothing was scored, or if some
            answers still lack a judge's verdict: those that have one are no fair sample then.
        valid_at_once: the share whose first answer fitted the schema; None if no answer came.
        judging_nusd: what judging the answers cost, whichever job paid for a verdict; a part of measuring,
            not of answering, and in none of the other figures.
        waiting: documents that are not answered yet.
        rejected: documents that the model cannot take.
        unjudged: answers that lack a judge's verdict: it waits, or its question failed.
    """

    model: str
    tier: str
    job_id: int
    outcomes: tuple[Outcome, ...] = field(repr=False)
    accuracy: Interval | None
    valid_at_once: Interval | None
    judging_nusd: int = 0
    waiting: int = 0
    rejected: int = 0
    unjudged: int = 0

    @property
    def scored(self) -> int:
        """Documents with a score."""
        return len(self.outcomes)

    @property
    def correct(self) -> int:
        """Those of them that are correct."""
        return sum(outcome.correct for outcome in self.outcomes)

    @property
    def failed(self) -> int:
        """Those of them that have no answer."""
        return sum(bool(outcome.failure) for outcome in self.outcomes)

    @property
    def answered(self) -> int:
        """Those of them that have an answer."""
        return self.scored - self.failed

    @property
    def mean_score(self) -> float | None:
        """The mean of the scores."""
        return _mean([outcome.score for outcome in self.outcomes])

    @property
    def fields(self) -> dict[str, float]:
        """Mean score by field, over the documents that it was scored on."""
        known = {name for outcome in self.outcomes if not outcome.failure for name in outcome.fields}
        scores: dict[str, list[float]] = defaultdict(list)
        for outcome in self.outcomes:
            for name, value in outcome.fields.items():
                if name in known:
                    scores[name].append(value)
        return {name: sum(values) / len(values) for name, values in sorted(scores.items())}

    @property
    def cost_nusd(self) -> int:
        """All that the answers cost, retries and repairs included."""
        return sum(outcome.cost_nusd for outcome in self.outcomes)

    @property
    def unknown_nusd(self) -> int:
        """What calls of unknown outcome are booked at, beside that: a vendor may have charged them or not."""
        return sum(outcome.unknown_nusd for outcome in self.outcomes)

    @property
    def per_document_nusd(self) -> float | None:
        """The same for one document; None without an answer or a cost.

        Documents that failed for nothing are left out: calls that were refused make no model cheap.
        """
        count = sum(not outcome.failure or outcome.cost_nusd > 0 for outcome in self.outcomes)
        return self.cost_nusd / count if count else None

    @property
    def per_correct_nusd(self) -> float | None:
        """The same for one correct answer; None if there is none."""
        return self.cost_nusd / self.correct if self.correct else None

    def latency_s(self, share: float) -> float | None:
        """How long this share of the calls took at most; None without calls."""
        return percentile([time for outcome in self.outcomes for time in outcome.latencies_s], share)


def measure(
    model: str,
    tier: str,
    job_id: int,
    outcomes: Iterable[Outcome],
    *,
    confidence: float,
    judging_nusd: int = 0,
    waiting: int = 0,
    rejected: int = 0,
    unjudged: int = 0,
) -> Measurement:
    """Add up a model's outcomes; a document that came twice counts once.

    A verdict on an answer is shared by the models that gave it. Where judging stopped, the models that came
    later have verdicts on what they share with the first alone, which is mostly right: no accuracy is told.
    """
    found = tuple({outcome.key: outcome for outcome in reversed(list(outcomes))}.values())[::-1]
    tried = [outcome.is_valid_at_once for outcome in found if outcome.is_valid_at_once is not None]
    correct = sum(outcome.correct for outcome in found)
    return Measurement(
        model=model,
        tier=tier,
        job_id=job_id,
        outcomes=found,
        accuracy=wilson(correct, len(found), confidence) if found and not unjudged else None,
        valid_at_once=wilson(sum(tried), len(tried), confidence) if tried else None,
        judging_nusd=judging_nusd,
        waiting=waiting,
        rejected=rejected,
        unjudged=unjudged,
    )


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that this share of the values does not exceed, interpolated; None of none."""
    if not values:
        return None
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def forget_scores(connection: Connection, job_id: int) -> None:
    """Forget what a golden job's answers scored, so that they are scored by the task as it now is."""
    connection.execute(
        update(samples)
        .where(samples.c.job_id == job_id, samples.c.judged_by == GOLDEN)
        .values(score=None, field_scores=None, correct=None)
    )


def read_measurement(
    connection: Connection, job_id: int, model: str, tier: str, *, confidence: float
) -> Measurement:
    """What a golden job measured of its model.

    Cost, time and validity are those of the calls that brought the answers, also where an earlier job made
    them: a second look gives the figures of the first.
    """
    waiting, rejected = _unscored(connection, job_id)
    return measure(
        model,
        tier,
        job_id,
        _outcomes(connection, job_id, model),
        confidence=confidence,
        judging_nusd=_judging_nusd(connection, job_id),
        waiting=waiting,
        rejected=rejected,
        unjudged=count_unjudged(connection, job_id),
    )


def _unscored(connection: Connection, job_id: int) -> tuple[int, int]:
    """How many items have no score yet, and how many never will, because they were rejected."""
    open_ones = [ItemStatus.PENDING.value, ItemStatus.LEASED.value, ItemStatus.CANCELLED.value]
    row = connection.execute(
        select(
            func.sum(case((items.c.status.in_(open_ones), 1), else_=0)),
            func.sum(case((items.c.status == ItemStatus.REJECTED.value, 1), else_=0)),
        ).where(items.c.job_id.in_(step_ids(connection, job_id)))
    ).one()
    return int(row[0] or 0), int(row[1] or 0)


def _judging_nusd(connection: Connection, job_id: int) -> int:
    """What it costs to judge a job's answers, as if no verdict were shared with other models.

    Equal answers of two models are one question, which the job asks that comes first: what it paid counts for
    each of them, or the first one would carry the judging of all.
    """
    bought = attempts.alias("bought")
    asked = (
        select(func.coalesce(bought.c.item_id, items.c.id))
        .select_from(items)
        .join(jobs, jobs.c.id == items.c.job_id)
        .outerjoin(bought, bought.c.id == items.c.result_id)
        .where(is_judge_of(job_id))
    )
    query = select(func.coalesce(func.sum(attempts.c.cost_nusd), 0)).where(
        attempts.c.item_id.in_(asked),
        attempts.c.purpose == Purpose.JUDGE.value,
        attempts.c.state != AttemptState.UNKNOWN.value,
    )
    return int(connection.execute(query).scalar_one())


def _outcomes(connection: Connection, job_id: int, model: str) -> Iterator[Outcome]:
    """The scored items of a job, in order of submission, a page of calls in memory at a time."""
    query = (
        select(items, samples.c.expected, samples.c.score, samples.c.field_scores, samples.c.correct)
        .join(samples, samples.c.item_id == items.c.id)
        .where(samples.c.job_id == job_id, samples.c.judged_by == GOLDEN, samples.c.score.is_not(None))
        .order_by(items.c.id)
        .limit(_PAGE)
    )
    last = 0
    stages = stage_ids(connection, job_id)
    while rows := connection.execute(query.where(items.c.id > last)).all():
        asked = _items_that_asked(connection, rows)
        calls = _calls(connection, set(asked.values()), model)
        before = _before(connection, stages, rows, model)
        for row in rows:
            own = _outcome(row, calls[asked[row.id]])
            yield before[row.source].of(own) if row.source in before else own
        last = rows[-1].id


@dataclass(slots=True)
class _Before:
    """What earlier steps did for a document: the first one's key, which models share, and all calls' cost."""

    key: bytes
    cost_nusd: int = 0

    def of(self, last: Outcome) -> Outcome:
        """The whole document's outcome, by that of the last step."""
        return replace(last, key=self.key, cost_nusd=last.cost_nusd + self.cost_nusd)


def _before(
    connection: Connection, stages: Sequence[int], rows: Sequence[Any], model: str
) -> dict[str, _Before]:
    """What a staged job's earlier steps did, by source; empty for a job of one step."""
    found: dict[str, _Before] = {}
    own = {row.id for row in rows}
    for stage in stages:
        query = select(items).where(items.c.job_id == stage, items.c.source.in_([row.source for row in rows]))
        earlier = connection.execute(query).all()
        asked = _items_that_asked(connection, earlier)
        calls = _calls(connection, set(asked.values()), model)
        for item in earlier:
            before = found.setdefault(item.source, _Before(item.result_key))
            if item.id not in own:
                before.cost_nusd += sum(
                    call.cost_nusd for call in calls[asked[item.id]] if call.state != AttemptState.UNKNOWN
                )
    return found


def _items_that_asked(connection: Connection, rows: Sequence[Any]) -> dict[int, int]:
    """The item whose calls brought each item's answer: its own, or that of another job or of a double."""
    result_ids = [row.result_id for row in rows if row.result_id is not None]
    found = connection.execute(
        select(results.c.id, attempts.c.item_id)
        .join(attempts, attempts.c.id == results.c.id)
        .where(results.c.id.in_(result_ids))
    )
    origin = {row.id: row.item_id for row in found}
    return {row.id: origin.get(row.result_id, row.id) for row in rows}


def _calls(connection: Connection, item_ids: Iterable[int], model: str) -> dict[int, list[Any]]:
    """A model's calls for these items, oldest first."""
    calls: dict[int, list[Any]] = defaultdict(list)
    query = (
        select(
            attempts.c.item_id,
            attempts.c.outcome,
            attempts.c.state,
            attempts.c.cost_nusd,
            attempts.c.latency_s,
        )
        .where(attempts.c.item_id.in_(list(item_ids)), attempts.c.model == model)
        .order_by(attempts.c.id)
    )
    for row in connection.execute(query):
        calls[row.item_id].append(row)
    return calls


def _outcome(row: Any, calls: Sequence[Any]) -> Outcome:
    answered = [call for call in calls if call.outcome == _VALID or call.outcome in _NOT_VALID]
    failed = row.result_id is None
    fields = orjson.loads(row.field_scores or "{}")
    if failed:
        expected = orjson.loads(row.expected)
        fields = dict.fromkeys(expected, 0.0) if isinstance(expected, dict) else {}
    return Outcome(
        key=row.result_key,
        correct=bool(row.correct),
        score=float(row.score),
        fields=fields,
        failure=(row.error_class or "unknown") if failed else "",
        is_valid_at_once=all(call.outcome == _VALID for call in answered) if answered else None,
        cost_nusd=sum(call.cost_nusd for call in calls if call.state != AttemptState.UNKNOWN),
        unknown_nusd=sum(call.cost_nusd for call in calls if call.state == AttemptState.UNKNOWN),
        latencies_s=tuple(call.latency_s for call in answered if call.latency_s is not None),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
