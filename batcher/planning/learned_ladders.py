"""Learned ladders and the store: what they are learned from, and orders whose documents climb one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import orjson
from sqlalchemy import Connection, select

from batcher.catalog.models import Catalog
from batcher.errors import ConfigurationError, UsageError
from batcher.planning.choice import Usable, usable_models
from batcher.planning.order import Order
from batcher.planning.sampling import judge_models
from batcher.quality.evaluation import Measurement
from batcher.quality.golden import GOLDEN
from batcher.quality.sampling import NO_JUDGE
from batcher.routing.ladder.policy import LadderPolicy
from batcher.routing.ladder.records import GoldenRow, RecordedAnswer
from batcher.store.documents import text_of
from batcher.store.ladders import newest_ladder
from batcher.store.results import read_step_answers
from batcher.store.tables import documents, items, samples

_PAGE = 500


def with_learned_ladder(
    connection: Connection | None, order: Order, catalog: Catalog, is_usable: Usable
) -> Order:
    """The order with the newest ladder that was learned for its task; answers of all its models count.

    Raises:
        UsageError: if none was learned, or the request names what a ladder decides by itself.
        ConfigurationError: if one of its models cannot be used.
    """
    route = order.request.route
    if order.pinned_model is not None or route.floor is not None:
        raise UsageError("--learned-ladder chooses the models by itself: leave --model and --floor out")
    if order.request.tier is not None:
        raise UsageError("--learned-ladder has its own steps, whatever tiers they are on: leave --tier out")
    if route.max_latency_s is not None:
        raise UsageError("--max-latency is for routed jobs: give --floor in place of --learned-ladder")
    if order.stages:
        raise UsageError("--learned-ladder is for tasks of one step, and this one has several")
    stored = None if connection is None else newest_ladder(connection, order.spec.fingerprint)
    if stored is None:
        raise UsageError(
            f"No ladder was learned for task {order.spec.name} as it stands now. Learn one from known "
            f"answers: batcher ladder learn --task {order.request.task} --golden FILE --accuracy 0.9"
        )
    policy = LadderPolicy.from_json(orjson.loads(stored.policy))
    names = policy.models
    asked = names if policy.judge is None else [*names, policy.judge]
    gone = [name for name in asked if name not in catalog.models]
    if gone:
        raise ConfigurationError(
            f"The learned ladder asks {gone[0]}, which the catalogue no longer has. Learn it again: "
            "batcher ladder learn"
        )
    models = [usable_models(catalog, order.tier, name, is_usable)[0] for name in asked]
    if policy.judge is not None and order.request.judge is not None:
        _check_other_judge(catalog, order.request.judge, policy.judge, is_usable)
    return replace(
        order,
        model=models[0],
        ladder_policy_id=stored.id,
        learned=policy,
        entry=None,
        accepts=tuple(dict.fromkeys((*names, *order.accepts))),
    )


def _check_other_judge(catalog: Catalog, named: str, of_ladder: str, is_usable: Usable) -> None:
    """Answers stand on the word of the ladder's judge: asked again, it would only agree with itself."""
    if named == NO_JUDGE or any(model.name != of_ladder for model in judge_models(catalog, named, is_usable)):
        return
    raise UsageError(
        f"Answers of this ladder stand on the word of {of_ladder}, which cannot check them too. "
        f"Name another --judge, or --judge {NO_JUDGE}"
    )


def read_golden_rows(connection: Connection, measured: Sequence[Measurement]) -> list[GoldenRow]:
    """What models answered to known documents of text, as a ladder is learned from it.

    An answer is JSON text; a model that gave none has an empty one, which is wrong.
    """
    found: dict[bytes, dict[str, RecordedAnswer]] = defaultdict(dict)
    for one in measured:
        outcomes = {outcome.key: outcome for outcome in one.outcomes}
        keys = list(outcomes)
        for start in range(0, len(keys), _PAGE):
            page = keys[start : start + _PAGE]
            stored = read_step_answers(connection, page, [one.model], 0)
            for key in page:
                outcome, known = outcomes[key], stored.get(key)
                times = outcome.latencies_s
                found[key][one.model] = RecordedAnswer(
                    answer=known.output if known else "",
                    correct=outcome.correct and known is not None,
                    cost_nusd=outcome.cost_nusd,
                    logprob=known.logprob if known else None,
                    latency_s=sum(times) / len(times) if times else None,
                )
    return [
        GoldenRow(id=source, text=text, gold=gold, answers=found[key])
        for key, source, text, gold in _known_texts(connection, measured[0].job_id if measured else 0)
        if key in found
    ]


def _known_texts(connection: Connection, job_id: int) -> list[tuple[bytes, str, str, str]]:
    """Result key, source, text and right answer of a golden job's documents of text, each content once."""
    query = (
        select(items.c.result_key, items.c.source, documents.c.body, samples.c.expected)
        .join(documents, documents.c.hash == items.c.document_hash)
        .join(samples, samples.c.item_id == items.c.id)
        .where(items.c.job_id == job_id, documents.c.image_count == 0, samples.c.judged_by == GOLDEN)
        .order_by(items.c.id)
    )
    unique = {row.result_key: row for row in reversed(connection.execute(query).all())}
    return [
        (row.result_key, row.source, text_of(row.body), row.expected) for row in reversed(unique.values())
    ]
