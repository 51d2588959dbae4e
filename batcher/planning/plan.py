"""A plan: what a request would cost and take on every model that could do it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from batcher.budget.ledger import Ledger
from batcher.catalog.models import Catalog, Model
from batcher.errors import ConfigurationError
from batcher.planning.caps import Books, CapCheck, Charge
from batcher.planning.choice import Usable, pick_model
from batcher.planning.estimate import Costs
from batcher.planning.evidence import Evidence, Knowledge
from batcher.planning.history import MeasuredAccuracy
from batcher.planning.judging import JudgePricer, JudgingPrice
from batcher.planning.ladder_steps import judge_bound_nusd, step_shares
from batcher.planning.naming import tier_of
from batcher.planning.order import Order, find_image_tier
from batcher.planning.pricing import Price, Rung, price_of, price_of_learned, router_price, rungs_of
from batcher.planning.requests import fit_of
from batcher.planning.schedule import RunTime, ends_at, run_time
from batcher.planning.sizes import Size
from batcher.planning.survey import Survey
from batcher.routing.ladder.policy import LadderPolicy
from batcher.routing.state import Routing
from batcher.statistics.intervals import Interval

_LEAST_ROOM_TOKENS = 64
"""A model with less room beside the instructions cannot do the task."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One model of one tier, if it did the work.

    Attributes:
        tier: where the job would start.
        model: what would answer there.
        is_usable: whether there is a key for it.
        is_chosen: whether it is what ``submit`` would take.
        has_room: whether the task fits its context at all; if not, the figures are zero.
        price: of all new documents, those of pictures included.
        costs: of what this model does itself.
        evidence: what the likely figure rests on.
        pictures_by: which other model sees the pictures; None if this one does, or there are none.
        unseen: documents of pictures that no model of the tier's ladder sees.
        time: how long it takes; None if that is not known: a local model that never ran.
        checks: its cost against the caps that it stands under.
        ends_at: when it would be done, Unix seconds, the caps of each day kept; None if not known or never.
        accuracy: how often its answers to this task were right; None if none was scored.
        router_nusd: what asking the task's router likely costs; part of the price.
        steps: the models of the learned ladder that it is, ``model`` the first; empty for a model by itself.
        judging: what judging drawn answers costs, part of the price too; None if nobody judges them.
    """

    tier: str
    model: Model
    is_usable: bool
    is_chosen: bool
    has_room: bool
    price: Price
    costs: Costs
    evidence: Evidence
    pictures_by: str | None
    unseen: int
    time: RunTime | None
    checks: tuple[CapCheck, ...]
    ends_at: float | None
    accuracy: MeasuredAccuracy | None
    router_nusd: int = 0
    judging: JudgingPrice | None = None
    steps: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The model, or the steps of a ladder, for people."""
        return " > ".join(self.steps) or self.model.name

    def is_in_time(self, finish_by: float) -> bool:
        """Whether it would be done by then, Unix seconds."""
        return self.ends_at is not None and self.ends_at <= finish_by


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a plan says.

    Attributes:
        order: the checked request.
        survey: what the corpus holds.
        choices: by tier, cheapest tier first, and within it first choice first.
        books: the caps.
        finish_by: when it is to be done, Unix seconds, or None.
        unpriced: models of the tiers that have no price.
        taken_up: the unfinished job of the same request that ``submit`` would take up, or None.
    """

    order: Order
    survey: Survey
    choices: tuple[Choice, ...]
    books: Books
    finish_by: float | None = None
    unpriced: tuple[str, ...] = field(default=())
    taken_up: int | None = None

    @property
    def chosen(self) -> Choice:
        """What ``submit`` would take."""
        return next(choice for choice in self.choices if choice.is_chosen)

    def first_in_time(self) -> Choice | None:
        """The cheapest usable model that would be done in time; None if none would, or no time was named."""
        if self.finish_by is None:
            return None
        possible = [
            choice
            for choice in self.choices
            if choice.is_usable and choice.has_room and choice.is_in_time(self.finish_by)
        ]
        return min(possible, key=lambda choice: choice.price.likely_nusd, default=None)


@dataclass(eq=False)
class Planner:
    """Prices one corpus on all models.

    Attributes:
        order: the checked request.
        catalog: the models in force.
        is_usable: which of them there are keys for.
        survey: what the corpus holds.
        knowledge: what is known of the task.
        books: the caps.
        ledger: tells when days begin.
        concurrency: calls in flight at most, of one process.
        judge: prices the judging of drawn answers; None if nobody judges them.
        submitted: the sizes of the documents that a judge sees, where they are not those of the survey.
    """

    order: Order
    catalog: Catalog
    is_usable: Usable
    survey: Survey
    knowledge: Knowledge
    books: Books
    ledger: Ledger
    concurrency: int
    judge: JudgePricer | None = None
    submitted: Sequence[Size] | None = None

    def __post_init__(self) -> None:
        self._rung = cache(self._make_rung)
        self._sizes = cache(self._make_sizes)

    def plan(self, finish_by: float | None, taken_up: int | None) -> Plan:
        """The plan.

        Args:
            finish_by: when it is to be done, Unix seconds, or None.
            taken_up: the unfinished job that would be taken up, or None.
        """
        rows = list(self._candidates())
        return Plan(
            order=self.order,
            survey=self.survey,
            choices=(*self._learned(), *(self._choice(tier, model) for tier, model in rows)),
            books=self.books,
            finish_by=finish_by,
            unpriced=tuple(
                name
                for names in self.catalog.tiers.values()
                for name in names
                if name not in self.catalog.models
            ),
            taken_up=taken_up,
        )

    def _candidates(self) -> Iterator[tuple[str, Model]]:
        """Tier and model of every row: all that are on a tier, and the one that was asked for."""
        order = self.order
        if order.tier not in self.catalog.tiers and order.learned is None:
            yield order.tier, order.model
        for tier, names in self.catalog.tiers.items():
            for name in names:
                if name in self.catalog.models:
                    yield tier, self.catalog.models[name]

    def _choice(self, tier: str, model: Model) -> Choice:
        order = self.order
        ladder = self._ladder(tier)
        seen_by = model if "vision" in model.abilities else self._sees_pictures(ladder)
        start = self._start(ladder)
        rungs = [model, *self._above(ladder)]
        texts = [self._rung(rung.name, start, pictures=False) for rung in rungs]
        has_pictures = bool(self._sizes(start, pictures=True))
        pictures = [self._rung(seen_by.name, start, pictures=True)] if seen_by and has_pictures else []
        paths = [texts, pictures, *self._by_rule(ladder)]
        router = self._router_price(tier, ladder)
        price = sum(map(price_of, paths), start=router)
        is_chosen = (tier, model.name) == (order.tier, order.model.name) and order.learned is None
        providers = {path[0].fit.model.provider for path in paths if path}
        judging = self._judging(texts or pictures, routing=order.routing if is_chosen else None)
        found = self._told([tier], providers, paths, price, judging)
        return replace(
            found,
            tier=tier,
            model=model,
            is_usable=self.is_usable(model),
            is_chosen=is_chosen,
            pictures_by=seen_by.name if seen_by and pictures and seen_by is not model else None,
            unseen=0 if seen_by else self.survey.pictures.documents,
            accuracy=self.knowledge.history.accuracies.get(model.name),
            router_nusd=router.likely_nusd,
        )

    def _learned(self) -> Iterator[Choice]:
        """The learned ladder that the documents are to climb, if there is one: it is what was asked for."""
        policy = self.order.learned
        if policy is None:
            return
        steps = [self.catalog.models[name] for name in policy.models]
        texts = [self._rung(step.name, frozenset(), pictures=False) for step in steps]
        sees = next((step for step in steps if "vision" in step.abilities), None)
        has_pictures = bool(self._sizes(frozenset(), pictures=True))
        pictures = [self._rung(sees.name, frozenset(), pictures=True)] if sees and has_pictures else []
        tiers = [tier_of(self.catalog, step.name) for step in steps]
        plain = self._sizes(frozenset(), pictures=False)
        judge_nusd = judge_bound_nusd(policy, [rung.fit for rung in texts], plain, self.catalog)
        price = price_of_learned(texts, pictures, policy, judge_nusd)
        providers = {step.provider for step in steps}
        found = self._told(tiers, providers, [texts, pictures], price, self._judging(texts, policy))
        evidence = policy.evidence
        yield replace(
            found,
            tier=tiers[0],
            is_usable=all(map(self.is_usable, steps)),
            is_chosen=True,
            pictures_by=sees.name if sees and pictures and sees is not steps[0] else None,
            unseen=0 if sees else self.survey.pictures.documents,
            accuracy=MeasuredAccuracy(
                round(evidence.accuracy * evidence.rows),
                evidence.rows,
                Interval(evidence.accuracy, evidence.low, evidence.high),
            ),
            steps=tuple(policy.models),
        )

    def _told(
        self,
        tiers: Iterable[str],
        providers: Iterable[str],
        paths: Sequence[Sequence[Rung]],
        price: Price,
        judging: JudgingPrice | None,
    ) -> Choice:
        """What is told of work that goes these ways, of the first model of the first of them.

        Args:
            tiers: those whose caps the work stands under.
            providers: likewise.
            paths: the ways of documents of text, of pictures, and of those that rules place.
            price: of the work.
            judging: what judging costs besides.
        """
        first = paths[0][0]
        time = self._time_of([path[0] for path in paths if path])
        bounds = (price.likely_nusd, price.worst_nusd)
        charges = [Charge(frozenset(tiers), frozenset(providers), *bounds, price.least_nusd)]
        if judging is not None:
            bounds = (judging.price.likely_nusd, judging.price.worst_nusd)
            charges.append(Charge(frozenset([judging.tier]), frozenset([judging.provider]), *bounds))
            price += judging.price
        checks = self.books.check(self.order.spec.task, charges)
        return Choice(
            tier=self.order.tier,
            model=first.fit.model,
            is_usable=True,
            is_chosen=False,
            has_room=first.fit.document_tokens >= _LEAST_ROOM_TOKENS,
            price=price,
            costs=first.costs,
            evidence=first.evidence,
            pictures_by=None,
            unseen=0,
            time=time,
            checks=tuple(checks),
            ends_at=self._ends_at(time, checks, price.likely_nusd),
            accuracy=None,
            judging=judging,
        )

    def _judging(
        self, rungs: Sequence[Rung], policy: LadderPolicy | None = None, routing: Routing | None = None
    ) -> JudgingPrice | None:
        """What judging drawn answers costs, if these rungs give them."""
        if self.judge is None:
            return None
        golden = self.order.golden
        sizes = self.survey.sizes() if self.submitted is None else self.submitted
        shares = None if policy is None else step_shares(policy, self.judge.climbed)
        known = 0 if golden is None else len(golden)
        return self.judge.price(self.order.spec, rungs, sizes, known, shares=shares, routing=routing)

    def _ladder(self, tier: str) -> tuple[str, ...]:
        """The rungs that items which start on a tier may climb, that one first; none with a pinned model."""
        ladder = self.order.whole_ladder
        if self.order.pinned_model is not None or tier not in ladder:
            return (tier,)
        return ladder[ladder.index(tier) :]

    def _above(self, ladder: Sequence[str]) -> list[Model]:
        above = []
        for rung in ladder[1:]:
            try:
                above.append(pick_model(self.catalog, rung, None, self.is_usable))
            except ConfigurationError:
                continue
        return above

    def _sees_pictures(self, ladder: Sequence[str]) -> Model | None:
        """The model that documents of pictures go to, of a tier whose own does not see them."""
        if self.order.pinned_model is not None:
            return None
        tier = find_image_tier(self.catalog, ladder, None, self.is_usable)
        return None if tier is None else pick_model(self.catalog, tier, None, self.is_usable)

    def _start(self, ladder: Sequence[str]) -> frozenset[str]:
        """The rungs of rules whose documents start on the first of a ladder: it does not lead there."""
        return frozenset(self.survey.by_rule) - set(ladder[1:])

    def _by_rule(self, ladder: Sequence[str]) -> Iterator[list[Rung]]:
        """The ways of documents that rules start further up a ladder."""
        for place, rung in enumerate(ladder):
            if place and rung in self.survey.by_rule:
                models = self._above(ladder[place - 1 :])
                yield [self._rung(model.name, rung, pictures=False) for model in models]
                yield [self._rung(model.name, rung, pictures=True) for model in models[:1]]

    def _router_price(self, tier: str, ladder: Sequence[str]) -> Price:
        """What it costs to ask the task's router, if it decides anything here."""
        order = self.order
        texts = self._sizes(frozenset(), pictures=False)
        others = (order.pinned_model, order.routing, order.ladder_policy_id)
        if order.spec.router is None or any(other is not None for other in others) or not texts:
            return Price()
        rungs = [tier, *(rung for rung in ladder[1:] if rung in order.ladder)]
        return router_price(order.spec, tier, rungs, texts, self.catalog, self.is_usable)

    def _make_sizes(self, start: frozenset[str] | str, *, pictures: bool) -> list[Size]:
        """What starts on a rung by rule; or what starts where the job does, that of some rules included."""
        survey = self.survey
        if isinstance(start, str):
            sizes = [*survey.by_rule[start]]
        else:
            sizes = [*survey.texts, *survey.pictures]
            sizes += [size for rung in sorted(start) for size in survey.by_rule[rung]]
        return [size for size in sizes if bool(size.images) is pictures]

    def _make_rung(self, name: str, start: frozenset[str] | str, *, pictures: bool) -> Rung:
        fit = fit_of(self.order.spec, self.catalog.models[name], self.catalog)
        sizes = self._sizes(start, pictures=pictures)
        if fit.document_tokens < _LEAST_ROOM_TOKENS:
            sizes = []
        return rungs_of([fit], sizes, self.knowledge)[0]

    def _time_of(self, work: Sequence[Rung]) -> RunTime | None:
        """How long the models that work side by side take: as long as the slowest."""
        times = []
        for rung in work:
            model, evidence = rung.fit.model, rung.evidence
            latency_s = evidence.latency_s
            if latency_s is None and self.catalog.providers[model.provider].kind == "local":
                return None
            times.append(
                run_time(
                    model,
                    rung.costs,
                    evidence.extra_share,
                    latency_s or self.knowledge.usual_latency_s(model, evidence.output.typical),
                    self.concurrency,
                    is_measured=latency_s is not None,
                )
            )
        return max(times, key=lambda time: time.seconds)

    def _ends_at(self, time: RunTime | None, checks: Sequence[CapCheck], likely_nusd: int) -> float | None:
        if time is None:
            return None
        return ends_at(self.books.day, self.books.now, time.seconds, checks, likely_nusd, self.ledger)
