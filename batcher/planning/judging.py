"""What judging costs that is to come: so many answers are drawn, and a judge reads each and its document."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sqlalchemy import Connection, func, select

from batcher.catalog.models import Catalog, Model
from batcher.errors import BatcherError
from batcher.planning.choice import Usable
from batcher.planning.evidence import Knowledge
from batcher.planning.fit import BYTES_PER_TOKEN
from batcher.planning.history import History, read_history
from batcher.planning.ladder_steps import step_shares
from batcher.planning.pricing import (
    Price,
    Rung,
    fits_of,
    learned_ladder,
    price_left,
    price_of,
    rungs_of,
    sizes_left,
    tiers_left,
)
from batcher.planning.requests import fit_of
from batcher.planning.sampling import judge_models, judge_tier
from batcher.planning.sizes import Size
from batcher.planning.stages import blended, handed_sizes
from batcher.quality.golden import GOLDEN
from batcher.quality.judge import judge_spec
from batcher.quality.judgements import open_sizes
from batcher.quality.sampling import Sampling
from batcher.routing.state import Routing
from batcher.store.jobs import Job
from batcher.store.judging import children_of
from batcher.store.ladders import answers_of_ladder
from batcher.store.steps import OPEN_STATUSES
from batcher.store.tables import items, sampled_items, samples
from batcher.tasks.spec import TaskSpec

_FAR: Final = 4.0
"""Standard deviations above the mean: chance draws more answers than that in fewer than one job of 30,000."""


@dataclass(frozen=True, slots=True)
class JudgingPrice:
    """What judging costs, a part of what a job does.

    Attributes:
        judge: the model that judges.
        tier: whose cap its calls stand under.
        provider: likewise.
        answers: how many are likely judged.
        price: what that costs; its bounds are of the most answers that chance may draw.
    """

    judge: str
    tier: str
    provider: str
    answers: int
    price: Price


@dataclass(frozen=True, slots=True)
class Draws:
    """How many answers are judged: likely, and at the most."""

    likely: float
    most: float


NO_DRAWS: Final = Draws(0.0, 0.0)


def lessons_of(routing: Routing | None, count: int, known: int, judge_nusd: float) -> Draws:
    """How many answers to documents without a known one are judged to learn about a routed job's candidate.

    Known answers teach first, and each of them in place of such a document. What learning may spend bounds
    the likely figure: prices are not known well enough to bound the other one.

    Args:
        routing: how the job is routed; None: it is not.
        count: documents.
        known: how many of them have a known answer.
        judge_nusd: what judging an answer likely costs.
    """
    learning = None if routing is None else routing.learning
    if routing is None or learning is None or not learning.share:
        return NO_DRAWS
    most = likely = learning.share * max(0, count - known)
    usual = routing.candidate(routing.model)
    if usual is not None and judge_nusd:
        likely = min(likely, routing.learning_share * count * usual.cost_nusd / judge_nusd)
    return Draws(max(0.0, likely - known) if learning.known else likely, most)


def expected_draws(
    sampling: Sampling,
    answered: Sequence[float],
    known: int,
    *,
    judges_known: bool,
    firsts: int = 0,
    lessons: Draws = NO_DRAWS,
) -> Draws:
    """How many of the answers to come are given to a judge.

    Args:
        sampling: how they are drawn.
        answered: how many answers come from each rung.
        known: how many of the documents have a known answer.
        judges_known: whether a judge compares those, or a scorer does.
        firsts: first answers that were drawn already.
        lessons: those of a candidate that is being learned about, which are all drawn.
    """
    total = sum(answered)
    others = max(0.0, total - known)
    likely, most = lessons.likely, lessons.most
    if sampling.draws() and total:
        of_others = [max(0.0, others - lessons.likely) * count / total for count in answered]
        first, drawn = [], firsts
        for count in of_others:
            first.append(max(0.0, min(count, float(sampling.at_least - drawn))))
            drawn = max(0, drawn - sampling.at_least)
        rest = max(0.0, sum(of_others) - sum(first))
        likely += sum(first) + sampling.share * rest
        spread = math.sqrt(others * sampling.share * (1 - sampling.share))
        certain = sampling.at_least * len(answered)
        most = min(others, most + certain + sampling.share * others + _FAR * spread)
    compared = min(float(known), total) if judges_known else 0.0
    return Draws(likely + compared, max(likely, most) + compared)


@dataclass(eq=False)
class JudgePricer:
    """Prices the judging of a task's answers.

    Attributes:
        sampling: how answers are drawn, and who judges them.
        catalog: tiers and models.
        is_usable: which models may judge.
        history_of: what was measured of a judge's task.
        climbed: of documents that climbed the learned ladder before, how many ended on each of its models.
    """

    sampling: Sampling
    catalog: Catalog
    is_usable: Usable
    history_of: Callable[[TaskSpec], History]
    climbed: Mapping[str, int] = field(default_factory=dict)
    _known: dict[bytes, History] = field(default_factory=dict)

    def price(
        self,
        spec: TaskSpec,
        rungs: Sequence[Rung],
        sizes: Sequence[Size],
        known: int,
        firsts: int = 0,
        shares: Sequence[float] | None = None,
        routing: Routing | None = None,
    ) -> JudgingPrice | None:
        """What judging costs if these rungs answer documents of these sizes; None if nobody judges.

        Args:
            spec: the task.
            rungs: who answers, first choice first, with what each is known to do.
            sizes: the documents as they were submitted.
            known: how many of them have a known answer.
            firsts: first answers that were drawn already.
            shares: of the answers that come from each rung, if they do not climb as was usual so far.
            routing: of a routed job, which has all answers judged that it learns from.
        """
        count = sum(size.items for size in sizes)
        if not rungs or not count:
            return None
        answered = _answered(rungs, count) if shares is None else [share * count for share in shares]
        whole = self.whole(spec, rungs[0], sizes)
        if whole is None:
            return None
        lessons = lessons_of(routing, count, known, whole.price.likely_nusd / count)
        draws = expected_draws(
            self.sampling, answered, known, judges_known=spec.judged, firsts=firsts, lessons=lessons
        )
        if not draws.most:
            return None
        price = _share_of(whole.price, draws.likely / count, draws.most / count)
        return replace(whole, answers=round(draws.likely), price=price)

    def whole(self, spec: TaskSpec, answering: Rung, sizes: Sequence[Size]) -> JudgingPrice | None:
        """What it costs to judge every one of these answers; None if no model may."""
        judge = self._judge(answering.fit.model.name)
        if judge is None:
            return None
        tier = judge_tier(self.catalog, self.sampling.judge or "", judge)
        asked = judge_spec(spec, tier)
        if asked.fingerprint not in self._known:
            self._known[asked.fingerprint] = self.history_of(asked)
        fit = fit_of(asked, judge, self.catalog)
        knowledge = Knowledge(asked, self._known[asked.fingerprint])
        # Beside the document stands the answer, and where it is known the right one.
        beside = replace(spec, hands_over="answer_and_document")
        answers = 2 if spec.judged else 1
        usual, longest = (
            price_of(rungs_of([fit], handed_sizes(beside, sizes, answers * tokens), knowledge))
            for tokens in (answering.evidence.output.typical, float(answering.fit.output_tokens))
        )
        count = sum(size.items for size in sizes)
        return JudgingPrice(judge.name, tier, judge.provider, count, blended(usual, longest))

    def _judge(self, answering: str) -> Model | None:
        """The first model that may judge another one's answers."""
        if self.sampling.judge is None:
            return None
        try:
            models = judge_models(self.catalog, self.sampling.judge, self.is_usable)
        except BatcherError:
            return None  # the job's report says that its answers wait for one
        may = (model for model in models if self.sampling.judge_own or model.name != answering)
        return next(may, None)


def _answered(rungs: Sequence[Rung], count: int) -> list[float]:
    """How many of so many answers come from each rung."""
    found, left = [], float(count)
    for place, rung in enumerate(rungs, start=1):
        stays = 1.0 if place == len(rungs) else 1 - rung.evidence.climb_share
        found.append(left * stays)
        left -= found[-1]
    return found


def _share_of(price: Price, likely: float, most: float) -> Price:
    """The price of some of the documents: a likely share of them, and the most."""
    return Price(
        low_nusd=round(price.low_nusd * likely),
        likely_nusd=round(price.likely_nusd * likely),
        first_nusd=math.ceil(price.first_nusd * most),
        worst_nusd=math.ceil(price.worst_nusd * most),
    )


def price_judging(
    connection: Connection, steps: Sequence[Job], catalog: Catalog, is_usable: Usable
) -> JudgingPrice | None:
    """What judging costs that is left of a job: of answers to come, of those drawn, and of those asked about.

    Args:
        connection: any transaction.
        steps: the jobs of its steps, in order; one for a job without stages.
        catalog: the models in force.
        is_usable: which of them may judge.
    """
    job = steps[-1]
    sampling, spec = Sampling.of(job), TaskSpec.from_json(job.spec)
    if sampling is None or sampling.judge is None:
        return None
    pricer = JudgePricer(
        sampling, catalog, is_usable, lambda asked: read_history(connection, asked, catalog, judging=True)
    )
    sizes = [
        size
        for step in steps
        for tier in tiers_left(connection, step.id)
        for size in sizes_left(connection, step.id, tier)
    ]
    knowledge = Knowledge(spec, read_history(connection, spec, catalog))
    policy = learned_ladder(connection, job)
    shares = None
    if policy is not None and job.ladder_policy_id is not None:
        shares = step_shares(policy, answers_of_ladder(connection, job.ladder_policy_id))
    fits = fits_of(job, job.tier, spec, catalog, is_usable, policy)
    rungs = rungs_of(fits, sizes, knowledge)
    known, firsts = _known_left(connection, job.id), _firsts(connection, job.id)
    parts = [pricer.price(spec, rungs, sizes, known, firsts, shares, Routing.of(job))]
    drawn = [
        Size(row.text_bytes, row.image_count, row.items, row.text_bytes / BYTES_PER_TOKEN)
        for row in open_sizes(connection, job.id, judged=spec.judged)
    ]
    if drawn and rungs:
        parts.append(pricer.whole(spec, rungs[0], drawn))
    parts += [_asked(connection, child, catalog, is_usable) for child in children_of(connection, job.id)]
    return _together(parts)


def _asked(connection: Connection, child: Job, catalog: Catalog, is_usable: Usable) -> JudgingPrice | None:
    """What is left of a judge's job."""
    price = price_left(connection, child, catalog, is_usable)
    model = catalog.models.get(child.pinned_model or "")
    if model is None or not price.items:
        return None
    return JudgingPrice(model.name, child.tier, model.provider, price.items, price)


def _together(parts: Iterable[JudgingPrice | None]) -> JudgingPrice | None:
    found = [part for part in parts if part is not None]
    if not found:
        return None
    price = sum((part.price for part in found), start=Price())
    # The documents are counted where they are answered.
    price = replace(price, items=0, calls=0, least_nusd=None)
    return replace(found[0], answers=sum(part.answers for part in found), price=price)


def _known_left(connection: Connection, job_id: int) -> int:
    query = (
        select(func.count())
        .select_from(samples.join(items, items.c.id == samples.c.item_id))
        .where(
            samples.c.job_id == job_id,
            samples.c.judged_by == GOLDEN,
            items.c.status.in_(OPEN_STATUSES),
        )
    )
    return int(connection.execute(query).scalar_one())


def _firsts(connection: Connection, job_id: int) -> int:
    query = select(func.count()).where(sampled_items.c.job_id == job_id, sampled_items.c.probability >= 1)
    return int(connection.execute(query).scalar_one())
