"""What a job's pending items will cost: a likely figure with its range, and the most that they can."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson
from sqlalchemy import ColumnElement, Connection, func, select

from batcher.catalog.models import Catalog
from batcher.catalog.tokens import estimate_tokens
from batcher.domain import ItemStatus, Purpose
from batcher.errors import ConfigurationError
from batcher.planning.choice import Usable, pick_model
from batcher.planning.entry import may_choose_entry
from batcher.planning.estimate import Costs, estimate
from batcher.planning.evidence import Evidence, Knowledge
from batcher.planning.fit import BYTES_PER_TOKEN, Fit
from batcher.planning.history import read_history
from batcher.planning.ladder_steps import judge_bound_nusd
from batcher.planning.requests import expected_input_tokens, fit_of
from batcher.planning.router import LIKELY_ANSWER_TOKENS, RouterFit, open_routes, router_task
from batcher.planning.sizes import Size
from batcher.routing.ladder.policy import LadderPolicy
from batcher.routing.state import Routing
from batcher.store.jobs import Job
from batcher.store.ladders import get_ladder
from batcher.store.steps import HANDED_OVER, OPEN_STATUSES
from batcher.store.tables import documents, items
from batcher.tasks.golden import Golden
from batcher.tasks.spec import TaskSpec

_MTOK: Final = 1_000_000
_SAMPLE: Final = 1_000
_SAMPLE_BYTES: Final = 20_000_000
"""Texts whose tokens are counted: all of a small job's, some of a large one's."""


@dataclass(frozen=True, slots=True)
class Price:
    """What the pending items cost, nano-dollars.

    Attributes:
        items: how many have not ended, each content counted once: one paid call answers all that share it.
        calls: their first calls; more than items where documents are split.
        low_nusd: with short answers, each valid at the first try.
        likely_nusd: with usual answers, and as many repairs and climbs as were usual so far.
        first_nusd: what is reserved for the first calls.
        worst_nusd: if every call must be repaired, on every rung of the ladder. Calls whose outcome stays
            unknown come on top; what they can cost is bounded by the caps alone.
        least_nusd: what is reserved for the first calls of the smallest item; None if none is left.
    """

    items: int = 0
    calls: int = 0
    low_nusd: int = 0
    likely_nusd: int = 0
    first_nusd: int = 0
    worst_nusd: int = 0
    least_nusd: int | None = None

    def __add__(self, other: Price) -> Price:
        known = [least for least in (self.least_nusd, other.least_nusd) if least is not None]
        return Price(
            self.items + other.items,
            self.calls + other.calls,
            self.low_nusd + other.low_nusd,
            self.likely_nusd + other.likely_nusd,
            self.first_nusd + other.first_nusd,
            self.worst_nusd + other.worst_nusd,
            min(known, default=None),
        )

    @property
    def high_nusd(self) -> int:
        """The most that the first calls can cost; never below the likely figure."""
        return max(self.first_nusd, self.likely_nusd)


@dataclass(frozen=True, slots=True)
class Rung:
    """One model on the way up: what all documents would cost on it, and what that figure rests on.

    ``least_nusd`` is what is reserved for the smallest of them, None if there is none.
    """

    fit: Fit
    evidence: Evidence
    costs: Costs
    least_nusd: int | None


def price_of(rungs: Sequence[Rung]) -> Price:
    """The price of documents that start on the first rung and may climb the others."""
    if not rungs:
        return Price()
    first = rungs[0].costs
    likely, share = 0.0, 1.0
    for rung in rungs:
        likely += share * rung.costs.likely_nusd
        share *= rung.evidence.climb_share
    return Price(
        items=first.items + first.too_long,
        calls=first.calls,
        low_nusd=min(round(first.low_nusd), round(likely)),
        likely_nusd=round(likely),
        first_nusd=first.first_nusd,
        worst_nusd=sum(rung.costs.worst_nusd for rung in rungs),
        least_nusd=rungs[0].least_nusd,
    )


def price_of_learned(
    texts: Sequence[Rung], pictures: Sequence[Rung], policy: LadderPolicy, judge_nusd: int
) -> Price:
    """The price of documents that climb a learned ladder: likely what it cost on known answers, all steps.

    The bounds are of every document on every step.

    Args:
        texts: its steps.
        pictures: the step that sees pictures, which do not climb; empty without pictures or such a step.
        policy: the ladder.
        judge_nusd: what is reserved for its judge at the most; see ``judge_bound_nusd``.
    """
    price = price_of(texts)
    likely_nusd = round(texts[0].costs.items * policy.evidence.cost_nusd)
    climbing = replace(
        price,
        likely_nusd=likely_nusd,
        low_nusd=min(price.low_nusd, likely_nusd),
        first_nusd=sum(rung.costs.first_nusd for rung in texts) + judge_nusd,
        worst_nusd=price.worst_nusd + 2 * judge_nusd,
    )
    return climbing + price_of(pictures)


def learned_ladder(connection: Connection, job: Job) -> LadderPolicy | None:
    """The learned ladder that a job's documents climb, or None."""
    if job.ladder_policy_id is None:
        return None
    return LadderPolicy.from_json(orjson.loads(get_ladder(connection, job.ladder_policy_id).policy))


def price_left(
    connection: Connection, job: Job, catalog: Catalog, is_usable: Usable, golden: Sequence[Golden] = ()
) -> Price:
    """Price a job's items that have not ended; those of a tier without a usable model are left out.

    Args:
        connection: any transaction.
        job: the job.
        catalog: the models in force.
        is_usable: which of them there are keys for.
        golden: known answers, for the length of a usual one; see ``evidence.known_answers``.
    """
    spec = TaskSpec.from_json(job.spec)
    knowledge: Knowledge | None = None
    total = Price()
    policy = learned_ladder(connection, job)
    for tier in tiers_left(connection, job.id):
        fits = fits_of(job, tier, spec, catalog, is_usable, policy)
        if not fits:
            continue
        if knowledge is None:
            judging = job.purpose is Purpose.JUDGE
            knowledge = Knowledge(spec, read_history(connection, spec, catalog, judging=judging), golden)
        sizes = sizes_left(connection, job.id, tier)
        if policy is not None:
            seeing = [fit for fit in fits if "vision" in fit.model.abilities][:1]
            pictures = [size for size in sizes if size.images]
            plain = [size for size in sizes if not size.images]
            texts, seen = rungs_of(fits, plain, knowledge), rungs_of(seeing, pictures, knowledge)
            total += price_of_learned(texts, seen, policy, judge_bound_nusd(policy, fits, plain, catalog))
            continue
        total += price_of(rungs_of(fits, sizes, knowledge))
        if spec.router is not None and tier == job.tier and may_choose_entry(job):
            undecided = sizes_left(connection, job.id, tier, undecided=True)
            total += router_price(spec, tier, job.ladder, undecided, catalog, is_usable)
    return total


def router_price(
    spec: TaskSpec,
    tier: str,
    ladder: Sequence[str],
    sizes: Sequence[Size],
    catalog: Catalog,
    is_usable: Usable,
) -> Price:
    """What it costs to ask a task's router about documents; nothing if it decides nothing, or has no model.

    Args:
        spec: the task, or its first step.
        tier: where the job starts.
        ladder: the rungs that have a model to use, ``tier`` the first.
        sizes: the documents of text for which no rule decides.
        catalog: the models in force.
        is_usable: which of them there are keys for.
    """
    asking = router_task(spec)
    if asking is None or not open_routes(spec, tier, ladder):
        return Price()
    try:
        model = pick_model(catalog, asking.tier, None, is_usable)
    except ConfigurationError:
        return Price()
    fit, most = RouterFit(asking, model, schema_bytes=0), asking.params["read_tokens"]
    likely, reserved = 0.0, 0
    for size in sizes:
        if not size.images:
            tokens = expected_input_tokens(fit, min(size.tokens, most))
            prices = model.prices.charged(round(tokens))
            written = LIKELY_ANSWER_TOKENS * prices.output_nusd
            call = (tokens * prices.input_nusd + written) / _MTOK + prices.request_nusd
            sent_bytes = fit.overhead_bytes + size.text_bytes
            likely += size.items * call
            reserved += size.items * fit.reservation_nusd(sent_bytes, 0, asking.max_output_tokens)
    return Price(low_nusd=round(likely), likely_nusd=round(likely), first_nusd=reserved, worst_nusd=reserved)


def rungs_of(fits: Sequence[Fit], sizes: Sequence[Size], knowledge: Knowledge) -> list[Rung]:
    """What documents would cost on each of these models."""
    found = []
    for fit in fits:
        evidence = knowledge.of(fit)
        least = (fit.first_calls_nusd(size.text_bytes, size.images) for size in sizes)
        found.append(Rung(fit, evidence, estimate(fit, sizes, evidence), min(least, default=None)))
    return found


def fits_of(
    job: Job,
    tier: str,
    spec: TaskSpec,
    catalog: Catalog,
    is_usable: Usable,
    policy: LadderPolicy | None = None,
) -> list[Fit]:
    """The models that do a tier's work and that of each rung above; none if the tier has none.

    Args:
        job: whose ladder it is.
        tier: where documents start.
        spec: the job's task.
        catalog: the models in force.
        is_usable: which of them there are keys for.
        policy: the learned ladder that its documents climb: then its steps; none if one cannot be used.
    """
    if policy is not None:
        steps = [catalog.models.get(name) for name in policy.models]
        usable = [model for model in steps if model is not None and is_usable(model)]
        return [fit_of(spec, model, catalog) for model in usable] if len(usable) == len(steps) else []
    ladder = list(job.ladder)
    routing = Routing.of(job)
    pinned = {tier: job.pinned_model}
    if routing is not None and tier == routing.queue:
        tier, pinned = routing.tier, {routing.tier: routing.model}
    above = ladder[ladder.index(tier) + 1 :] if tier in ladder and job.pinned_model is None else []
    fits = []
    for rung in (tier, *above):
        try:
            model = pick_model(catalog, rung, pinned.get(rung), is_usable)
        except ConfigurationError:
            if rung == tier:
                return []
            continue
        fits.append(fit_of(spec, model, catalog))
    return fits


def tiers_left(connection: Connection, job_id: int) -> list[str]:
    """The tiers of a job's items that have not ended, those at work among them, by name."""
    query = select(items.c.tier).where(items.c.job_id == job_id, items.c.status.in_(OPEN_STATUSES))
    return sorted(connection.execute(query.distinct()).scalars())


def sizes_left(
    connection: Connection, job_id: int, tier: str, *, answered: bool = False, undecided: bool = False
) -> list[Size]:
    """The sizes of a tier's items that have not ended; those that share their content are one paid call.

    Workers may be at some already, which are still to be paid for.

    Args:
        connection: any transaction.
        job_id: the job.
        tier: the tier.
        answered: in place of those the items that are done and wait for the next step to take them.
        undecided: only those where nothing has decided yet on which rung they start.
    """
    is_meant: ColumnElement[bool] = items.c.status.in_(OPEN_STATUSES)
    if undecided:
        is_meant &= items.c.start_tier.is_(None)
    if answered:
        is_meant = (items.c.status == ItemStatus.DONE.value) & (items.c.ready_at > HANDED_OVER)
    first = (
        select(func.min(items.c.id).label("id"))
        .where(items.c.job_id == job_id, items.c.tier == tier, is_meant)
        .group_by(items.c.result_key)
        .subquery()
    )
    waiting = first.join(items, items.c.id == first.c.id)
    waiting = waiting.join(documents, documents.c.hash == items.c.document_hash)
    size = (documents.c.text_bytes, documents.c.image_count)
    rows = connection.execute(
        select(*size, func.count().label("items")).select_from(waiting).group_by(*size)
    ).all()
    step = 1 + sum(row.items for row in rows) // _SAMPLE
    sample = select(documents.c.text_bytes, documents.c.body).select_from(waiting)
    per_byte = _tokens_per_byte(
        (row.text_bytes, row.body) for row in connection.execute(sample.where(items.c.id % step == 0))
    )
    return [Size(row.text_bytes, row.image_count, row.items, row.text_bytes * per_byte) for row in rows]


def _tokens_per_byte(texts: Iterable[tuple[int, bytes]]) -> float:
    """``estimate_tokens`` of compressed texts by their ``text_bytes``."""
    seen = tokens = 0
    for text_bytes, body in texts:
        seen += text_bytes
        tokens += estimate_tokens(zlib.decompress(body).decode())
        if seen > _SAMPLE_BYTES:
            break
    return tokens / seen if seen else 1 / BYTES_PER_TOKEN
