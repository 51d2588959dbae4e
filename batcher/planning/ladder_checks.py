"""Code and a judge look at the answers that a ladder is learned from, as they will when it is climbed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Final

import orjson
from sqlalchemy import Connection, func, select

from batcher.catalog.models import Catalog, Model
from batcher.domain import AttemptState, Document, Purpose
from batcher.errors import TaskError
from batcher.planning.admission import result_key
from batcher.planning.choice import Usable
from batcher.planning.known import KnownDocuments
from batcher.planning.naming import tier_of
from batcher.planning.sampling import judge_models
from batcher.quality.judge import judge_spec, judged_document, read_verdict
from batcher.routing.ladder.records import GoldenRow, RecordedAnswer
from batcher.store.ingestion import NewItem
from batcher.store.results import find_results
from batcher.store.tables import attempts, results
from batcher.tasks.answers import AnswerParser, InvalidAnswerError
from batcher.tasks.checking import single_values
from batcher.tasks.definition import Task
from batcher.tasks.spec import TaskSpec

_PAGE: Final = 500
_TRIED_FOR_S: Final = 5.0


@dataclass(frozen=True)
class RungJudging:
    """The judging of a task's answers before they stand: by whom, where, and what is asked.

    Attributes:
        model: the judge.
        tier: the one whose cap its calls stand under.
        spec: the judging as a task. It knows no right answer, because new documents have none.
    """

    model: Model
    tier: str
    spec: TaskSpec

    @classmethod
    def of(cls, spec: TaskSpec, judge: str, catalog: Catalog, is_usable: Usable) -> RungJudging:
        """The judging of a task by the first model that can be used of a tier, or by the one that is named.

        Raises:
            CatalogError: if there is no such tier or model.
            ConfigurationError: if none can be used.
        """
        model = judge_models(catalog, judge, is_usable)[0]
        tier = tier_of(catalog, model.name)
        return cls(model, tier, judge_spec(replace(spec, judged=False), tier))

    def question(self, text: str, output: str) -> tuple[Document, bytes]:
        """What the judge reads about an answer, and what its verdict is stored by."""
        document = judged_document(text, (), output, None)
        return document, result_key(self.spec, document)


def verified_rows(rows: Sequence[GoldenRow], verify: Callable[[str, Any], float]) -> list[GoldenRow]:
    """The rows with what a verifier says of every answer.

    Raises:
        TaskError: if it fails.
    """

    def checked(row: GoldenRow, name: str, given: RecordedAnswer) -> RecordedAnswer:
        if not given.answer:
            return given
        try:
            return replace(given, verified=verify(row.text, orjson.loads(given.answer)))
        except TaskError as error:
            kept = "What was measured is kept: mend the verifier, and start this again"
            raise TaskError(f"{row.id}, the answer of {name}: {error}\n{kept}") from error

    return [
        replace(row, answers={name: checked(row, name, given) for name, given in row.answers.items()})
        for row in rows
    ]


def try_verifier(task: Task, spec: TaskSpec, known: KnownDocuments) -> int:
    """Try a task's verifier on known documents and their right answers, before other answers are paid for.

    Right answers that are no whole answer to the task's schema are left out. A slow verifier is tried on as
    many as a few seconds allow.

    Returns:
        How many it was tried on.

    Raises:
        TaskError: naming the document, if it raises or returns no number from 0 to 1.
    """
    parser, tried, started = AnswerParser(spec, task), 0, time.monotonic()
    for one in known.documents:
        if tried and time.monotonic() - started > _TRIED_FOR_S:
            break
        if not one.document.text:
            continue
        right = single_values(known.lookup(one.source), spec.schema)
        try:
            answer = parser.parse(orjson.dumps(right).decode())
        except InvalidAnswerError:
            continue
        try:
            task.verify(one.document.text, answer)
        except TaskError as error:
            raise TaskError(f"{one.source}: {error}") from error
        tried += 1
    return tried


def worth_judging(rows: Sequence[GoldenRow], judge: str) -> frozenset[str]:
    """The models whose answers a judge is to look at: not its own, nor those of the dearest.

    The dearest is asked last, if at all, and its answer stands whatever a judge says.
    """
    costs: dict[str, list[int]] = {}
    for row in rows:
        for name, given in row.answers.items():
            costs.setdefault(name, []).append(given.cost_nusd)
    dearest = max(costs, key=lambda name: fmean(costs[name]), default="")
    return frozenset(costs.keys() - {dearest, judge})


def questions(rows: Sequence[GoldenRow], judging: RungJudging, models: Collection[str]) -> Iterator[NewItem]:
    """An item for every distinct answer of these models, named by its key."""
    seen: set[bytes] = set()
    for _, _, document, key in _asked(rows, judging, models):
        if key not in seen:
            seen.add(key)
            yield NewItem(key.hex(), document, key)


def judged_rows(
    connection: Connection, rows: Sequence[GoldenRow], judging: RungJudging, models: Collection[str]
) -> list[GoldenRow]:
    """The rows with what the judge says of these models' answers, and what its word cost.

    An answer of which it said nothing stays as it is.
    """
    places: dict[bytes, list[tuple[int, str]]] = {}
    for number, name, _, key in _asked(rows, judging, models):
        places.setdefault(key, []).append((number, name))
    answers = [dict(row.answers) for row in rows]
    keys = list(places)
    for start in range(0, len(keys), _PAGE):
        for key, word, cost_nusd in _words(connection, keys[start : start + _PAGE], judging.model.name):
            for number, name in places[key]:
                given = answers[number][name]
                answers[number][name] = replace(given, judged=word, judging_nusd=cost_nusd)
    return [replace(row, answers=found) for row, found in zip(rows, answers, strict=True)]


def _asked(
    rows: Sequence[GoldenRow], judging: RungJudging, models: Collection[str]
) -> Iterator[tuple[int, str, Document, bytes]]:
    for number, row in enumerate(rows):
        for name, given in row.answers.items():
            if name in models and given.answer:
                yield (number, name, *judging.question(row.text, given.answer))


def _words(connection: Connection, keys: Sequence[bytes], judge: str) -> Iterator[tuple[bytes, float, int]]:
    """By key: a verdict that is there, and what its calls cost, repairs and failed tries included."""
    ids = find_results(connection, keys, [judge], 0)
    bought = attempts.alias("bought")
    paid = (
        select(func.coalesce(func.sum(attempts.c.cost_nusd), 0))
        .where(
            attempts.c.item_id == bought.c.item_id,
            attempts.c.model == judge,
            attempts.c.purpose == Purpose.JUDGE.value,
            attempts.c.state != AttemptState.UNKNOWN.value,
        )
        .correlate(bought)
        .scalar_subquery()
    )
    query = (
        select(results.c.result_key, results.c.output, paid.label("paid"))
        .join(bought, bought.c.id == results.c.id)
        .where(results.c.id.in_(list(ids.values())))
    )
    for row in connection.execute(query):
        yield row.result_key, read_verdict(row.output).grade, int(row.paid)
