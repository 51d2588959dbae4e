"""What past runs measured, by model, out of settled attempts: tokens, repairs, climbs, times and accuracy."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, case, false, func, select

from batcher.catalog.models import Catalog
from batcher.catalog.tokens import estimate_tokens
from batcher.domain import AttemptState, FailureClass, Purpose
from batcher.errors import TaskError
from batcher.planning.fit import Fit
from batcher.planning.requests import expected_input_tokens, fit_of
from batcher.routing.evidence import jobs_of_task, read_scores
from batcher.statistics.intervals import Interval, wilson
from batcher.store.attempts import SEQUENCE_BITS
from batcher.store.tables import attempts, documents, items, jobs, leases
from batcher.tasks.spec import TaskSpec

_MOST_LEASES: Final = 400
_SAMPLE: Final = 600
_LEAST_CALLS: Final = 3
"""Fewer measured calls say nothing of a model's tokens."""

_MEASURING: Final = (Purpose.GOLDEN.value, Purpose.JUDGE.value)
"""Purposes that repairs share with what they repair."""

_FIRST: Final = (Purpose.ANSWER.value, Purpose.ESCALATION.value, *_MEASURING)
_ASKING: Final = (*_FIRST, Purpose.REPAIR.value)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one model did for one task, in settled calls.

    Attributes:
        asks: answers that it was asked for, parts of documents and merges included.
        first_calls: calls that asked for the first time, or again after a failure that was paid for.
        input_tokens: of the first calls.
        cached_tokens: of them, read from the vendor's cache.
        cache_write_tokens: of them, written to it.
        output_tokens_all: of the first calls.
        first_nusd: what the first calls cost.
        all_nusd: what all calls cost, repairs included.
        items: documents that started on it.
        climbed: of these, how many climbed to another rung.
    """

    asks: int = 0
    first_calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens_all: int = 0
    first_nusd: int = 0
    all_nusd: int = 0
    items: int = 0
    climbed: int = 0

    def __add__(self, other: Measured) -> Measured:
        return Measured(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    @property
    def output_tokens(self) -> float:
        """Of a first call, on average."""
        return self.output_tokens_all / self.first_calls if self.first_calls else 0.0

    @property
    def cached_share(self) -> float:
        """Of the input that came from the vendor's cache."""
        return self.cached_tokens / self.input_tokens if self.input_tokens else 0.0

    @property
    def cache_write_share(self) -> float:
        """Of the input that was written to it."""
        return self.cache_write_tokens / self.input_tokens if self.input_tokens else 0.0

    @property
    def extra_share(self) -> float:
        """What an answer cost beyond its first call, as a share of that."""
        if not self.first_nusd or not self.asks:
            return 0.0
        return max(0.0, (self.all_nusd / self.asks) / (self.first_nusd / self.first_calls) - 1)

    @property
    def climb_share(self) -> float:
        """Of the documents that climbed."""
        return self.climbed / self.items if self.items else 0.0


@dataclass(frozen=True, slots=True)
class InputRatio:
    """Measured input tokens over the expected ones, and how many calls that rests on."""

    factor: float
    calls: int


@dataclass(frozen=True, slots=True)
class MeasuredAccuracy:
    """The share of a model's answers that are correct, with its 95 % interval.

    It is an estimate out of ``scored`` answers, ``correct`` of which were: each stands for as many as were as
    likely to be looked at.
    """

    correct: int
    scored: int
    interval: Interval


@dataclass(frozen=True, slots=True)
class History:
    """What is known of a task from past runs; all of it by model, empty where there was none.

    Attributes:
        same_task: what models did for the task as it now is, parameters included.
        inputs: how a model's tokens compare with the expected ones, on this task or else on others.
        image_tokens: what a picture was charged as.
        latencies_s: what a call took on average.
        accuracies: how often its answers to this task were right.
    """

    same_task: dict[str, Measured] = field(default_factory=dict)
    inputs: dict[str, InputRatio] = field(default_factory=dict)
    image_tokens: dict[str, float] = field(default_factory=dict)
    latencies_s: dict[str, float] = field(default_factory=dict)
    accuracies: dict[str, MeasuredAccuracy] = field(default_factory=dict)


def read_history(
    connection: Connection, spec: TaskSpec, catalog: Catalog, *, judging: bool = False
) -> History:
    """What past runs measured that bears on a task.

    It looks at the newest 50 jobs of the task's name, at the newest 400 chunks of those with the same
    fingerprint, and at the newest 600 calls of any: however large the store, this takes well under a second.

    Args:
        connection: any transaction.
        spec: the task.
        catalog: the models in force.
        judging: whether it is a judge's task.
    """
    job_ids = jobs_of_task(connection, spec, judging=judging)
    specs = _Specs(connection, catalog)
    calls = list(_calls(connection, None, 0, specs))
    same_task, accuracies = {}, {}
    if job_ids:
        oldest = _oldest_attempt(connection, job_ids)
        calls += _calls(connection, job_ids, oldest, specs)
        same_task = _measured(connection, job_ids, oldest)
        accuracies = _accuracies(connection, job_ids)
    return History(same_task, _ratios(calls), _image_tokens(calls), _latencies(calls), accuracies)


def _oldest_attempt(connection: Connection, job_ids: Sequence[int]) -> int:
    """The id from which on these jobs' attempts are looked at: ids begin with their lease's."""
    newest = (
        select(leases.c.id)
        .where(leases.c.job_id.in_(job_ids))
        .order_by(leases.c.id.desc())
        .limit(_MOST_LEASES)
        .subquery()
    )
    oldest = connection.execute(select(func.min(newest.c.id))).scalar_one_or_none()
    return int(oldest or 0) << SEQUENCE_BITS


def _settled(job_ids: Sequence[int], oldest: int) -> tuple[Any, ...]:
    return (
        attempts.c.id >= oldest,
        attempts.c.job_id.in_(job_ids),
        attempts.c.state == AttemptState.SETTLED.value,
        attempts.c.input_tokens > 0,
        attempts.c.purpose.in_(_ASKING),
    )


def _measured(connection: Connection, job_ids: Sequence[int], oldest: int) -> dict[str, Measured]:
    call = select(attempts, _is_repair()).where(*_settled(job_ids, oldest)).subquery()

    def of_first(column: Any) -> Any:
        return func.sum(case((call.c.is_repair, 0), else_=column))

    ask = (
        select(
            call.c.model,
            of_first(1).label("calls"),
            of_first(call.c.input_tokens).label("input"),
            of_first(call.c.cached_tokens).label("cached"),
            of_first(call.c.cache_write_tokens).label("written"),
            of_first(call.c.output_tokens).label("output"),
            of_first(call.c.cost_nusd).label("first"),
            func.sum(call.c.cost_nusd).label("paid"),
        )
        .group_by(call.c.model, call.c.item_id, call.c.part)
        .subquery()
    )
    sums = (func.sum(column) for column in ask.c if column.name != "model")
    starts = _starts(connection, job_ids, oldest)
    return {
        row[0]: Measured(*(int(value) for value in (*row[1:], *starts.get(row[0], (0, 0)))))
        for row in connection.execute(select(ask.c.model, func.count(), *sums).group_by(ask.c.model))
    }


def _is_repair() -> ColumnElement[bool]:
    """Whether a call showed the model what was wrong with its answer: a window over calls of whole leases."""
    same_answer = (attempts.c.lease_id, attempts.c.item_id, attempts.c.part, attempts.c.model)
    before = func.lag(attempts.c.outcome).over(partition_by=same_answer, order_by=attempts.c.id)
    follows = attempts.c.purpose.in_(_MEASURING) & (before == FailureClass.INVALID_OUTPUT.value)
    repairs = (attempts.c.purpose == Purpose.REPAIR.value) | func.coalesce(follows, false())
    return repairs.label("is_repair")


def _starts(connection: Connection, job_ids: Sequence[int], oldest: int) -> dict[str, tuple[int, int]]:
    """How many documents started on each model, and how many of these climbed."""
    answered = case((attempts.c.purpose == Purpose.ANSWER.value, attempts.c.model))
    climbed = case((attempts.c.purpose == Purpose.ESCALATION.value, 1), else_=0)
    item = (
        select(func.min(answered).label("model"), func.max(climbed).label("climbed"))
        .where(*_settled(job_ids, oldest))
        .group_by(attempts.c.item_id)
        .subquery()
    )
    query = select(item.c.model, func.count(), func.sum(item.c.climbed)).group_by(item.c.model)
    return {row[0]: (int(row[1]), int(row[2])) for row in connection.execute(query) if row[0] is not None}


@dataclass(frozen=True, slots=True)
class _Call:
    """One measured first call on a whole document, beside what was expected of its text."""

    model: str
    same_task: bool
    input_tokens: int
    expected: float
    images: int
    latency_s: float | None


class _Specs:
    """The tasks of jobs on models of the catalogue, each read once."""

    def __init__(self, connection: Connection, catalog: Catalog) -> None:
        self._connection = connection
        self._catalog = catalog
        self._specs: dict[int, TaskSpec | None] = {}
        self._fits: dict[tuple[bytes, str], Fit] = {}

    def fit(self, job_id: int, model: str) -> Fit | None:
        """None if the model is gone from the catalogue, or the stored task cannot be read."""
        spec = self._spec(job_id)
        if spec is None or model not in self._catalog.models:
            return None
        key = (spec.fingerprint, model)
        if key not in self._fits:
            self._fits[key] = fit_of(spec, self._catalog.models[model], self._catalog)
        return self._fits[key]

    def _spec(self, job_id: int) -> TaskSpec | None:
        if job_id not in self._specs:
            stored = self._connection.execute(select(jobs.c.spec).where(jobs.c.id == job_id)).scalar_one()
            try:
                self._specs[job_id] = TaskSpec.from_json(stored)
            except TaskError:
                self._specs[job_id] = None
        return self._specs[job_id]


def _calls(
    connection: Connection, job_ids: Sequence[int] | None, oldest: int, specs: _Specs
) -> Iterable[_Call]:
    """The newest first calls on whole documents: of these jobs, or of any for None."""
    newest: Select[Any] = (
        select(attempts)
        .where(
            attempts.c.id >= oldest,
            attempts.c.state == AttemptState.SETTLED.value,
            attempts.c.input_tokens > 0,
            attempts.c.purpose.in_(_FIRST),
            attempts.c.part == 0,
        )
        .order_by(attempts.c.id.desc())
        .limit(_SAMPLE)
    )
    if job_ids is not None:
        newest = newest.where(attempts.c.job_id.in_(job_ids))
    call = newest.subquery()
    query = select(
        call.c.item_id,
        call.c.lease_id,
        call.c.job_id,
        call.c.model,
        call.c.input_tokens,
        call.c.latency_s,
        documents.c.image_count,
        documents.c.body,
    ).join_from(call, items, items.c.id == call.c.item_id)
    query = query.join(documents, documents.c.hash == items.c.document_hash)
    newest_first = connection.execute(query.order_by(call.c.id.desc()))
    # Of a lease's calls for one item the first asks; a repair is longer.
    firsts = {(row.item_id, row.lease_id): row for row in newest_first}
    read = (_call(row, specs, same_task=job_ids is not None) for row in firsts.values())
    return [found for found in read if found is not None]


def _call(row: Any, specs: _Specs, *, same_task: bool) -> _Call | None:
    fit = specs.fit(row.job_id, row.model)
    if fit is None:
        return None
    tokens = estimate_tokens(zlib.decompress(row.body).decode())
    if tokens > fit.document_tokens and not row.image_count:
        return None  # it was answered in parts: this call merged them
    expected = expected_input_tokens(fit, tokens)
    return _Call(row.model, same_task, row.input_tokens, expected, row.image_count, row.latency_s)


def _by_model(calls: Iterable[_Call], least: int) -> dict[str, list[_Call]]:
    """Each model's calls for this very task if there are enough of them, else those for any, if enough."""
    of_task: dict[str, list[_Call]] = defaultdict(list)
    of_any: dict[str, list[_Call]] = defaultdict(list)
    for call in calls:
        (of_task if call.same_task else of_any)[call.model].append(call)
    chosen = {name: of_task[name] if len(of_task[name]) >= least else found for name, found in of_any.items()}
    chosen = {**of_task, **chosen}
    return {name: found for name, found in chosen.items() if len(found) >= least}


def _ratios(calls: Sequence[_Call]) -> dict[str, InputRatio]:
    texts = _by_model((call for call in calls if not call.images), _LEAST_CALLS)
    return {
        name: InputRatio(
            sum(call.input_tokens for call in found) / sum(call.expected for call in found), len(found)
        )
        for name, found in texts.items()
    }


def _image_tokens(calls: Sequence[_Call]) -> dict[str, float]:
    pictures = _by_model((call for call in calls if call.images), 1)
    return {
        name: max(0.0, sum(call.input_tokens - call.expected for call in found))
        / sum(call.images for call in found)
        for name, found in pictures.items()
    }


def _latencies(calls: Sequence[_Call]) -> dict[str, float]:
    timed = _by_model((call for call in calls if call.latency_s), _LEAST_CALLS)
    return {name: sum(call.latency_s or 0.0 for call in found) / len(found) for name, found in timed.items()}


def _accuracies(connection: Connection, job_ids: Sequence[int]) -> dict[str, MeasuredAccuracy]:
    return {
        model: MeasuredAccuracy(found.correct, found.scored, wilson(found.correct, found.scored))
        for model, found in read_scores(connection, job_ids).items()
    }
