"""A lane: one job's work on one tier, bound to the model that does it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from batcher.catalog.models import Catalog, Model
from batcher.catalog.privacy import Place
from batcher.domain import Document, Image, Purpose
from batcher.engine.binding import Binding
from batcher.engine.checks import RungJudge, Verifier
from batcher.engine.climbing import Ladder, Rung
from batcher.engine.entry import EntryRouter
from batcher.engine.routed import Staffing
from batcher.errors import ConfigurationError
from batcher.planning.choice import usable_models
from batcher.planning.entry import may_choose_entry
from batcher.planning.naming import tier_of
from batcher.planning.router import RouteParser, open_routes, router_task
from batcher.providers.base import Provider
from batcher.providers.factory import schema_bytes_as_sent
from batcher.quality.judge import judge_spec
from batcher.quality.sampling import Sampling
from batcher.store.database import Store
from batcher.store.documents import images_of, text_of
from batcher.store.jobs import Job
from batcher.store.leases import QueuedItem
from batcher.store.results import StepAnswer, find_results, read_outputs, read_step_answers
from batcher.store.sampling import Draw
from batcher.tasks.answers import AnswerParser
from batcher.tasks.spec import TaskSpec

if TYPE_CHECKING:
    from batcher.routing.ladder.policy import LadderPolicy
    from batcher.tasks.definition import Task

IDENTICAL_ERRORS_LIMIT: Final = 3
"""The same request error this many times in a row on a lane that has had no success stops the lane."""

IDENTICAL_ERRORS_LIMIT_AFTER_SUCCESS: Final = 10
"""And on one whose requests have worked: then it is the documents that differ, and three in a row come by
chance (at 8 % of such answers, within a hundred documents)."""


@dataclass(eq=False)
class Lane:
    """Everything that the items of one job and tier share.

    Attributes:
        bindings: the models that may do the work: the first does, the others stand in when it is down.
        dead: why a model takes no more calls, by key: its account, or requests that it always refuses.
        sampling: how its answers are drawn for checking; None: not at all.
        queue: the tier that its items wait on in the store. Of a routed job that is another one than the rung
            ``tier`` on which its models work, and which their calls are booked on; "" stands for ``tier``.
        ladder: the learned ladder that its documents climb within the lane; None: an answer stands if it is
            valid.
        climbs: whether its calls are a ladder's, whose documents keep each answer: its steps' or its judge's.
        router: who is asked where its documents start, if nothing else decided that; None: nobody.
    """

    job: Job
    spec: TaskSpec
    tier: str
    bindings: tuple[Binding, ...]
    parser: AnswerParser
    dead: dict[str, str] = field(default_factory=dict)
    sampling: Sampling | None = None
    queue: str = ""
    ladder: Ladder | None = None
    router: EntryRouter | None = None
    climbs: bool = False
    _answered: Counter[str] = field(default_factory=Counter, repr=False)
    _last_error: str = field(default="", repr=False)
    _repeated: int = 0
    _has_worked: bool = False

    def __post_init__(self) -> None:
        self.queue = self.queue or self.tier

    @property
    def first(self) -> Binding:
        """The model that does the work while nothing is wrong."""
        return self.bindings[0]

    @property
    def stopped(self) -> str | None:
        """Why the lane takes no more work, or None while one of its models can do it.

        A ladder needs its last step: without it, answers would stand that are not sure enough.
        """
        if self.ladder is not None and (why := self.dead.get(self.ladder.rungs[-1].binding.key)):
            return why
        return "; ".join(self.dead.values()) if len(self.dead) == len(self.bindings) else None

    def purpose_of(self, item: QueuedItem) -> Purpose:
        """What calls for an item are paid for: what its job is for, or a climb from its start."""
        start = item.start_tier or self.job.tier
        climbed = self.job.purpose is Purpose.ANSWER and self.queue != start
        return Purpose.ESCALATION if climbed else self.job.purpose

    def lot(self, result_key: bytes, model: str) -> Draw | None:
        """The lot of an answer that is about to be stored: whether it is drawn for checking."""
        if self.sampling is None:
            return None
        self._answered[model] += 1
        # Those of other processes come on top: the store counts as long as this lane alone cannot tell.
        may_be_first = self._answered[model] <= self.sampling.at_least
        return self.sampling.lot(self.job.id, result_key, is_first=may_be_first)

    def stop(self, binding: Binding, reason: str) -> None:
        """Send nothing more to a model: no call can succeed until somebody acts."""
        self.dead[binding.key] = reason

    def next_rung(self) -> str | None:
        """The tier above this one on the job's ladder, or None."""
        ladder = list(self.job.ladder)
        if self.ladder is not None or self.job.pinned_model is not None or self.tier not in ladder:
            return None
        above = ladder[ladder.index(self.tier) + 1 :]
        return above[0] if above else None

    def note_request_error(self, error: str) -> bool:
        """Count a request error; whether it came so often in a row that the lane must stop."""
        self._repeated = self._repeated + 1 if error == self._last_error else 1
        self._last_error = error
        limit = IDENTICAL_ERRORS_LIMIT_AFTER_SUCCESS if self._has_worked else IDENTICAL_ERRORS_LIMIT
        return self._repeated >= limit

    def note_success(self) -> None:
        """Forget earlier request errors."""
        self._repeated = 0
        self._has_worked = True


class NoLaneError(Exception):
    """A lane has to be made first, which may take seconds.

    Attributes:
        job: whose.
        tier: on which.
        learns: whether it is the one that learns about a cheaper model.
    """

    def __init__(self, job: Job, tier: str, *, learns: bool = False) -> None:
        super().__init__(f"job {job.id} on {tier}")
        self.job = job
        self.tier = tier
        self.learns = learns


class LaneFactory:
    """Makes lanes and keeps them for the life of an engine.

    Args:
        catalog: models and tiers.
        get_provider: the pooled client of a provider, by name.
        account_of: a name for the account behind a provider, by the provider's name.
        is_usable: whether a model's provider has what it needs (a key, or needs none).
        load_task: the task's code for its own validators, or None where it cannot be loaded.
        timeout_s: wall-clock limit of one call.
        place_of: where a model answers, for jobs whose documents may not go everywhere.
        load_ladder: a learned ladder by its id.
    """

    def __init__(
        self,
        catalog: Catalog,
        get_provider: Callable[[str], Provider],
        account_of: Callable[[str], str],
        is_usable: Callable[[Model], bool],
        load_task: Callable[[TaskSpec], Task | None],
        timeout_s: float,
        place_of: Callable[[Model], Place] | None = None,
        load_ladder: Callable[[int], LadderPolicy] | None = None,
    ) -> None:
        self._catalog = catalog
        self._get_provider = get_provider
        self._account_of = account_of
        self._staffing = Staffing(catalog, is_usable, place_of)
        self._load_task = load_task
        self._timeout_s = timeout_s
        self._load_ladder = load_ladder
        self._lanes: dict[tuple[int, str, bool], Lane] = {}

    def lane(self, job: Job, tier: str, *, learns: bool = False) -> Lane:
        """The lane of a job on a tier; ``learns``: the one that learns about a cheaper model.

        Raises:
            ConfigurationError: if no model of the tier can be used.
        """
        known = self._lanes.get((job.id, tier, learns))
        if known is None:
            known = self._lanes[job.id, tier, learns] = self._make(job, tier, learns=learns)
        return known

    def made(self, job: Job, tier: str, *, learns: bool = False) -> Lane:
        """``lane``, but quick.

        Raises:
            NoLaneError: if it has to be made first.
        """
        known = self._lanes.get((job.id, tier, learns))
        if known is None:
            raise NoLaneError(job, tier, learns=learns)
        return known

    def forget(self, job_id: int, tier: str | None = None) -> None:
        """Drop a job's lanes, or those of one tier, with what stopped them."""
        for key in [key for key in self._lanes if key[0] == job_id and tier in {None, key[1]}]:
            del self._lanes[key]

    def _make(self, job: Job, tier: str, *, learns: bool) -> Lane:
        spec = TaskSpec.from_json(job.spec)
        if job.ladder_policy_id is not None:
            return self._with_ladder(job, spec, tier, job.ladder_policy_id)
        staff = self._staffing.of(job, tier, learns=learns)
        bindings = tuple(self._bind(job, spec, model) for model in staff.models)
        parser = AnswerParser(spec, self._load_task(spec))
        sampling = Sampling.of(job)
        if learns and sampling is not None and sampling.judge is not None:
            sampling = replace(sampling, share=1.0)  # what is not looked at teaches nothing
        router = self._router(job, spec) if tier == job.tier and not learns else None
        return Lane(job, spec, staff.tier, bindings, parser, sampling=sampling, queue=tier, router=router)

    def _router(self, job: Job, spec: TaskSpec) -> EntryRouter | None:
        """Who is asked where a job's documents start; None: nobody, or none of its models can be used."""
        asking = router_task(spec)
        rungs = open_routes(spec, job.tier, job.ladder) if may_choose_entry(job) else {}
        if asking is None or not rungs:
            return None
        try:
            models = usable_models(self._catalog, asking.tier, None, self._staffing.is_usable)
        except ConfigurationError:
            return None
        bindings = tuple(self._bind(job, asking, model, routes=True) for model in models)
        return EntryRouter(Lane(job, asking, asking.tier, bindings, RouteParser(asking)), rungs)

    def _with_ladder(self, job: Job, spec: TaskSpec, queue: str, ladder_id: int) -> Lane:
        assert self._load_ladder is not None
        policy = self._load_ladder(ladder_id)
        task = self._load_task(spec)
        rungs = []
        for step in policy.steps:
            [model] = usable_models(self._catalog, queue, step.model, self._staffing.is_usable)
            rungs.append(Rung(self._bind(job, spec, model), tier_of(self._catalog, model.name)))
        return Lane(
            job,
            spec,
            rungs[0].tier,
            tuple(rung.binding for rung in rungs),
            AnswerParser(spec, task),
            sampling=Sampling.of(job),
            queue=queue,
            climbs=True,
            ladder=Ladder(
                policy,
                tuple(rungs),
                Verifier(job.id, task) if policy.verifies else None,
                self._judge(job, spec, queue, policy.judge) if policy.judge is not None else None,
            ),
        )

    def _judge(self, job: Job, spec: TaskSpec, queue: str, name: str) -> RungJudge:
        """Who looks at answers before they stand. It is not told a right answer, also where one is known."""
        [model] = usable_models(self._catalog, queue, name, self._staffing.is_usable)
        tier = tier_of(self._catalog, name)
        judging = judge_spec(replace(spec, judged=False), tier)
        binding = replace(self._bind(job, judging, model), logprobs=False)
        return RungJudge(Lane(job, judging, tier, (binding,), AnswerParser(judging), climbs=True))

    def _bind(self, job: Job, spec: TaskSpec, model: Model, *, routes: bool = False) -> Binding:
        info = self._catalog.providers[model.provider]
        held = not routes and "schema" in model.abilities
        return Binding(
            spec=spec,
            model=model,
            provider=self._get_provider(model.provider),
            kind=info.kind,
            account=self._account_of(model.provider),
            timeout_s=self._timeout_s,
            logprobs="logprobs" in model.abilities and _learns_or_climbs(job),
            routes=routes,
            schema_bytes=schema_bytes_as_sent(info, spec.schema) if held else 0,
        )


def _learns_or_climbs(job: Job) -> bool:
    """Whether log-probabilities are of use: to calibrate a ladder with, or to climb one by."""
    return job.purpose is Purpose.GOLDEN or job.ladder_policy_id is not None


def load_document(item: QueuedItem, images: Sequence[Image]) -> Document:
    """The document of a leased item."""
    return Document(hash=item.document_hash, text=text_of(item.body), images=tuple(images))


def read_images(store: Store, item: QueuedItem) -> tuple[Image, ...]:
    """The pages or the picture of an item's document of images."""
    with store.read() as connection:
        return images_of(connection, item.document_hash)


def read_parts(store: Store, lane: Lane, keys: Sequence[bytes]) -> dict[bytes, Any]:
    """The answers for parts of a document that are stored already, by key."""
    names = [binding.model.name for binding in lane.bindings]
    with store.read() as connection:
        ids = find_results(connection, keys, names, lane.job.refresh_key)
        outputs = read_outputs(connection, list(ids.values()))
    return {key: orjson.loads(outputs[result_id]) for key, result_id in ids.items()}


def read_steps(store: Store, lane: Lane, keys: Sequence[bytes]) -> dict[bytes, StepAnswer]:
    """The answers that a document bought on the steps of its lane's ladder before, by key."""
    names = [binding.model.name for binding in lane.bindings]
    with store.read() as connection:
        return read_step_answers(connection, keys, names, lane.job.refresh_key)
