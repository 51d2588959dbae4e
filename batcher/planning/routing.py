"""Who may do a routed job's work, what a document costs on each, and what is worth learning.

``first`` makes the choice of a submission, ``look`` makes it again with more evidence. The choosing itself is
``routing.choice``'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection, func, select

from batcher.catalog.models import Catalog, Model
from batcher.catalog.privacy import Privacy
from batcher.domain import ItemStatus
from batcher.errors import ConfigurationError, UsageError
from batcher.planning.choice import PlaceOf, Usable, only_allowed
from batcher.planning.estimate import estimate
from batcher.planning.evidence import Knowledge, known_answers
from batcher.planning.fit import Fit
from batcher.planning.history import History, read_history
from batcher.planning.order import Order, accepted_models, find_image_tier, usable_rungs
from batcher.planning.requests import fit_of
from batcher.planning.routed_sizes import earlier_sizes, sizes_of_queue, usual_size
from batcher.planning.sizes import Size
from batcher.quality.golden import GOLDEN
from batcher.quality.sampling import Sampling
from batcher.routing.choice import Decision, Scored, decide
from batcher.routing.evidence import count_known, jobs_of_task, proven_before, read_scores
from batcher.routing.state import Candidate, Excluded, Learning, Routing, Target, cheapest_first
from batcher.routing.wish import RouteWish
from batcher.settings import RoutingSettings
from batcher.store.item_counts import count_all_items
from batcher.store.jobs import Job
from batcher.store.judging import children_of
from batcher.store.tables import items, samples
from batcher.store.tallies import Tally, tallies_of
from batcher.tasks.spec import TaskSpec

_KNOWN_COST: Final = 20
"""So many answers tell what one costs better than any estimate."""

_MOST_UNSCORED: Final = 1_000
"""So many documents of known answers are given away to learn before one has been scored: where the task's
scorer cannot be loaded none ever is."""

_LEAST_ROOM_TOKENS: Final = 64
_LEAST_FITTING: Final = 0.95
"""A model that has no room for so many of the documents is no candidate; single longer ones climb."""


def is_routed(order: Order, wish: RouteWish, settings: RoutingSettings) -> bool:
    """Whether a request is to be routed.

    Raises:
        UsageError: if what the request says of it makes no sense without or with routing.
    """
    wanted = wish.floor is not None or order.task.route or settings.route
    if order.stages and wish != RouteWish():
        raise UsageError(
            f"Task {order.task.name} has stages, and --floor is for tasks of one step: leave it out"
        )
    if order.pinned_model is None and not order.stages and wanted:
        return True
    if order.pinned_model is not None and wish.floor is not None:
        raise UsageError("--floor chooses the model by its accuracy: leave --model out")
    if wish.privacy is not None or wish.max_latency_s is not None:
        raise UsageError("--privacy and --max-latency are for routed jobs: give --floor, and no --model")
    return False


class Router:
    """Makes the choices of routed jobs.

    Args:
        catalog: tiers and models.
        is_usable: whether a model can be called.
        place_of: where it answers.
        settings: what the ``[routing]`` table says.
    """

    def __init__(
        self, catalog: Catalog, is_usable: Usable, place_of: PlaceOf, settings: RoutingSettings
    ) -> None:
        self._catalog = catalog
        self._is_usable = is_usable
        self._place_of = place_of
        self._settings = settings

    def first(
        self,
        connection: Connection | None,
        order: Order,
        wish: RouteWish,
        now: float,
        sizes: Sequence[Size] = (),
    ) -> Order:
        """The order with its routing: the model in force, the ladder from the cheapest rung up.

        Args:
            connection: any transaction; None: there is no store yet, and nothing is known.
            order: a checked request without a pinned model.
            wish: what the request asks of the routing.
            now: Unix seconds.
            sizes: of its documents; without any, those of earlier documents of the task count.

        Raises:
            ConfigurationError: if no model of the ladder may do the work.
        """
        task = order.task
        allowed = only_allowed(self._is_usable, self._place_of, wish.privacy)
        ladder = task.ladder if order.tier in task.ladder else (order.tier,)
        queue = usable_rungs(self._catalog, ladder, allowed)[0]
        floor = task.floor if wish.floor is None else wish.floor
        spec = task.spec(order.request.params, tier=queue, floor=floor)
        rungs = usable_rungs(self._catalog, spec.ladder, allowed)
        blank = self._blank(order, wish, floor, queue)
        history = History() if connection is None else read_history(connection, spec, self._catalog)
        knowledge = Knowledge(spec, history, known_answers(order.golden, task))
        scores: Mapping[str, Scored] = {}
        if connection is not None:
            of_task = jobs_of_task(connection, spec)
            scores = read_scores(connection, of_task)
            sizes = sizes or earlier_sizes(connection, of_task)
            blank = replace(blank, proven=proven_before(connection, of_task, floor))
        routing = self._with_candidates(blank, spec, rungs, knowledge, sizes or [usual_size()])
        decision = _decide(routing, scores)
        has_judge = order.sampling is not None and order.sampling.judge is not None
        routing = _in_force(routing, decision, now)
        known = order.golden is not None and (has_judge or not spec.judged)
        routing = replace(routing, learning=_learning(routing, decision, known=known, judged=has_judge))
        return replace(
            order,
            spec=spec,
            tier=routing.tier,
            model=self._catalog.models[routing.model],
            ladder=rungs,
            dropped_rungs=tuple(rung for rung in spec.ladder if rung not in rungs),
            accepts=accepted_models(self._catalog, spec.ladder, None),
            image_tier=find_image_tier(self._catalog, rungs, None, allowed),
            routing=routing,
            ladder_policy_id=None,
            entry=None,
        )

    def _blank(self, order: Order, wish: RouteWish, floor: float, queue: str) -> Routing:
        """What a request says of its routing, before anybody is chosen."""
        return Routing(
            floor=floor,
            queue=queue,
            base=Target(order.model.name, order.tier),
            model="",
            tier="",
            reason="",
            candidates=(),
            privacy=wish.privacy or Privacy.STANDARD,
            max_latency_s=wish.max_latency_s,
            learning_share=self._settings.learning_share,
            alpha=self._settings.alpha,
            look_every=self._settings.look_every,
            stated_by="the task" if order.request.tier is None else f"--tier {order.tier}",
        )

    def look(self, connection: Connection, job: Job, routing: Routing, now: float) -> Routing:
        """Choose again, with what is known by now.

        Args:
            connection: a transaction.
            job: the job.
            routing: how it is routed so far.
            now: Unix seconds.
        """
        spec = TaskSpec.from_json(job.spec)
        if not routing.is_sized and (sizes := sizes_of_queue(connection, job, routing.queue)):
            knowledge = Knowledge(spec, read_history(connection, spec, self._catalog))
            routing = replace(
                self._with_candidates(routing, spec, job.ladder, knowledge, sizes), is_sized=True
            )
        tallies = tallies_of(connection, job.id)
        routing = replace(routing, candidates=_measured(routing.candidates, tallies))
        scores = read_scores(connection, jobs_of_task(connection, spec))
        decision = _decide(routing, scores)
        chosen = _in_force(routing, decision, now)
        sampling = Sampling.of(job)
        has_judge = sampling is not None and sampling.judge is not None
        learning = _learning(
            chosen,
            decision,
            known=_teaches_known(connection, job.id) and (has_judge or not spec.judged),
            judged=has_judge,
        )
        if learning is not None:
            learning = _within_share(connection, job, chosen, learning, tallies)
        return replace(chosen, learning=learning)

    def _with_candidates(
        self,
        routing: Routing,
        spec: TaskSpec,
        ladder: Sequence[str],
        knowledge: Knowledge,
        sizes: Sequence[Size],
    ) -> Routing:
        """The candidates of a ladder and what documents of these sizes cost on them."""
        found: dict[str, Candidate] = {}
        excluded: dict[str, str] = {}
        documents_all = sum(size.items for size in sizes)
        for model, tier in self._of_ladder(ladder):
            if model.name in found or model.name in excluded:
                continue
            why = self._why_not(routing, model, spec, knowledge, sizes)
            if why is not None:
                excluded[model.name] = why
                continue
            fit = fit_of(spec, model, self._catalog)
            costs = estimate(fit, sizes, knowledge.of(fit))
            answered = max(1, documents_all - costs.unseen - costs.too_long)
            found[model.name] = Candidate(model.name, tier, costs.likely_nusd / answered)
        if not found:
            reasons = "; ".join(f"{name}: {why}" for name, why in excluded.items())
            where = f"the ladder {', '.join(ladder)}" if len(ladder) > 1 else f"tier {ladder[0]}"
            raise ConfigurationError(
                f"No model of {where} may do the work: {reasons}. Loosen what keeps them out, or name another"
                " tier with --tier"
            )
        return replace(
            routing,
            candidates=cheapest_first(found.values()),
            excluded=tuple(Excluded(name, why) for name, why in excluded.items()),
        )

    def _of_ladder(self, ladder: Sequence[str]) -> Iterator[tuple[Model, str]]:
        for tier in ladder:
            for name in self._catalog.tiers.get(tier, ()):
                if name in self._catalog.models:
                    yield self._catalog.models[name], tier

    def _why_not(
        self, routing: Routing, model: Model, spec: TaskSpec, knowledge: Knowledge, sizes: Sequence[Size]
    ) -> str | None:
        """Why a model is no candidate; None if it is one."""
        if not self._is_usable(model):
            return "it has no key"
        place = self._place_of(model)
        if not routing.privacy.allows(place):
            return f"it answers at {place}, and privacy is {routing.privacy}"
        if "vision" not in model.abilities and all(size.images for size in sizes):
            return "it sees no pictures"
        fit = fit_of(spec, model, self._catalog)
        return _no_room(fit, sizes) or _too_slow(fit, knowledge, routing.max_latency_s)


def _no_room(fit: Fit, sizes: Sequence[Size]) -> str | None:
    room = fit.document_tokens
    if room < _LEAST_ROOM_TOKENS:
        return "the instructions fill its context"
    everything = sum(size.items for size in sizes)
    fitting = sum(size.items for size in sizes if size.images or size.tokens <= room)
    if fit.spec.long_documents == "reject" and fitting < _LEAST_FITTING * everything:
        return f"{everything - fitting:,} of {everything:,} documents do not fit its {room:,} tokens"
    return None


def _too_slow(fit: Fit, knowledge: Knowledge, max_latency_s: float | None) -> str | None:
    evidence = knowledge.of(fit)
    latency_s = evidence.latency_s
    if latency_s is None:
        latency_s = knowledge.usual_latency_s(fit.model, evidence.output.typical)
    if max_latency_s is not None and latency_s > max_latency_s:
        return f"a call takes about {latency_s:.1f} s, and {max_latency_s:g} s are allowed"
    return None


def _decide(routing: Routing, scores: Mapping[str, Scored]) -> Decision:
    return decide(
        routing.candidates,
        routing.base.model,
        scores,
        routing.floor,
        routing.alpha,
        proven=routing.proven,
        refuted=routing.refuted,
        stated_by=routing.stated_by,
    )


def _in_force(routing: Routing, decision: Decision, now: float) -> Routing:
    known = replace(routing, proven=decision.proven, refuted=decision.refuted)
    return known.chosen(decision.chosen.target, decision.reason, now)


def _learning(routing: Routing, decision: Decision, *, known: bool, judged: bool) -> Learning | None:
    """What may be learned: on documents with a known answer, and on others if somebody judges them."""
    share = routing.learning_share if judged else 0.0
    if decision.learn is None or routing.learning_share <= 0 or not (known or share):
        return None
    return Learning(decision.learn.model, decision.learn.tier, known, share)


def _measured(
    candidates: Sequence[Candidate], tallies: Mapping[tuple[str, str], Tally]
) -> tuple[Candidate, ...]:
    """Candidates with what their answers have cost in this job; those without any go by the others' error."""
    paid = {
        one.model: of_model.cost_nusd / of_model.answered
        for one in candidates
        if (of_model := _sum(tally for (_, name), tally in tallies.items() if name == one.model)).answered
        >= _KNOWN_COST
    }
    expected = sum(one.cost_nusd for one in candidates if one.model in paid)
    error = sum(paid.values()) / expected if expected else 1.0
    return cheapest_first(
        replace(one, cost_nusd=round(paid.get(one.model, one.cost_nusd * error))) for one in candidates
    )


def _within_share(
    connection: Connection,
    job: Job,
    routing: Routing,
    learning: Learning,
    tallies: Mapping[tuple[str, str], Tally],
) -> Learning | None:
    """What is left to learn when learning has taken its share of the documents or of the money.

    A document with a known answer takes nothing of either, while the candidate costs less than the model in
    force: its call replaces a dearer one, and its answer is known to be right or not.
    """
    learned = _sum(tally for (_, model), tally in tallies.items() if model not in routing.were_in_force)
    earnest = _sum(tally for (_, model), tally in tallies.items() if model in routing.were_in_force)
    total = count_all_items(connection, job.id)
    by_known = count_known(connection, job.id)
    known = sum(count for model, count in by_known.items() if model not in routing.were_in_force)
    unknown = max(0, learned.answered - known)
    usual = routing.candidate(routing.model)
    each_nusd = usual.cost_nusd if usual is not None else 0.0
    judging_nusd = _judging_nusd(connection, job.id) * unknown
    beyond_nusd = max(0.0, learned.cost_nusd - learned.answered * each_nusd) + judging_nusd
    share = routing.learning_share
    has_money = beyond_nusd <= share * max(total * each_nusd, earnest.cost_nusd)
    may_ask = has_money and unknown < share * total
    if learning.known or may_ask:
        return replace(learning, share=learning.share if may_ask else 0.0)
    return None


def _sum(tallies: Iterable[Tally]) -> Tally:
    return sum(tallies, Tally())


def _judging_nusd(connection: Connection, job_id: int) -> float:
    """What a judged answer has cost on average, nano-dollars."""
    children = children_of(connection, job_id)
    together = _sum(tally for child in children for tally in tallies_of(connection, child.id).values())
    return together.cost_nusd / together.answered if together.answered else 0.0


def _teaches_known(connection: Connection, job_id: int) -> bool:
    """Whether documents with a known answer wait, and the answers of earlier ones do get scored."""
    query = (
        select(items.c.status, func.count())
        .select_from(samples.join(items, items.c.id == samples.c.item_id))
        .where(samples.c.job_id == job_id, samples.c.judged_by == GOLDEN, samples.c.score.is_(None))
        .group_by(items.c.status)
    )
    unscored = {row[0]: int(row[1]) for row in connection.execute(query)}
    return unscored.pop(ItemStatus.PENDING.value, 0) > 0 and sum(unscored.values()) < _MOST_UNSCORED
