"""What the user asks for, checked: everything that is known before the corpus is read."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path

from batcher.catalog.models import Catalog, Model
from batcher.documents.corpus import check_columns
from batcher.documents.paths import STDIN, check_paths
from batcher.domain import Purpose
from batcher.errors import CatalogError, ConfigurationError
from batcher.planning.choice import Usable, pick_model
from batcher.planning.entry import EntryRules, entry_rules
from batcher.planning.naming import named_golden, start_tier
from batcher.planning.sampling import plan_sampling
from batcher.quality.sampling import Sampling
from batcher.routing.ladder.policy import LadderPolicy
from batcher.routing.state import Routing
from batcher.routing.wish import RouteWish
from batcher.settings import QualitySettings
from batcher.tasks.definition import Task
from batcher.tasks.golden import Golden
from batcher.tasks.registry import load_task
from batcher.tasks.spec import TaskSpec


class NoUsableModelError(ConfigurationError):
    """No tier and no model was named, and the task's own tier has no model that can be used."""


@dataclass(frozen=True, slots=True)
class SubmitRequest:
    """What the user asks for; None where nothing was said."""

    paths: Sequence[str]
    task: str
    params: Mapping[str, str] = field(default_factory=dict)
    tier: str | None = None
    model: str | None = None
    limit: int | None = None
    refresh: bool = False
    max_cost_nusd: int | None = None
    golden: Path | None = None
    text_column: str | None = None
    id_column: str | None = None
    priority: int | None = None
    purpose: Purpose = Purpose.ANSWER
    sample: float | None = None
    judge: str | None = None
    route: RouteWish = field(default_factory=RouteWish)


@dataclass(frozen=True, slots=True)
class Order:
    """A request that was checked: everything that is known before the corpus is read.

    Attributes:
        ladder: the rungs that have a model to use, ``tier`` the first.
        accepts: names of the models whose answers count.
        image_tier: the first rung whose model sees images, or None.
        dropped_rungs: rungs of the task's ladder left out for want of a key.
        model: the model that does the work on ``tier``.
        sampling: how its answers are drawn for checking, and who judges them.
        routing: how the model is chosen by its accuracy; None: it is not.
        stages: the steps before the last, in order, each as if it were asked for alone.
        ladder_policy_id: the learned ladder that its documents climb; None: none.
        learned: that ladder.
        entry: rules for where its documents start; None: there are none, or something else decides.
    """

    request: SubmitRequest
    task: Task
    spec: TaskSpec
    tier: str
    pinned_model: str | None
    ladder: tuple[str, ...]
    accepts: tuple[str, ...]
    image_tier: str | None
    golden: Golden | None
    dropped_rungs: tuple[str, ...]
    model: Model
    sampling: Sampling | None = None
    routing: Routing | None = None
    stages: tuple[Order, ...] = ()
    ladder_policy_id: int | None = None
    learned: LadderPolicy | None = None
    entry: EntryRules | None = None

    @property
    def steps(self) -> tuple[Order, ...]:
        """All steps, in order: the last is the order itself."""
        return (*self.stages, self)

    @property
    def first(self) -> Order:
        """The step that reads the corpus."""
        return self.steps[0]

    @property
    def whole_ladder(self) -> tuple[str, ...]:
        """The ladder as the task states it, from its cheapest rung."""
        steps = {stage.name: stage.ladder for stage in self.task.before}
        return steps.get(self.spec.stage, self.task.ladder)

    @property
    def queue(self) -> str:
        """The tier that the documents wait on at first."""
        return self.tier if self.routing is None else self.routing.queue


def check_request(
    request: SubmitRequest, catalog: Catalog, is_usable: Usable, quality: QualitySettings | None = None
) -> Order:
    """Check all that can be checked without reading the corpus.

    Args:
        request: what the user asks for.
        catalog: tiers and models.
        is_usable: whether a model can be called.
        quality: what the settings say of checking; None: their defaults.

    Raises:
        NoUsableModelError: if no tier was named and the task's own has no usable model.
        BatcherError: for anything else that is wrong, saying what.
    """
    check_paths(request.paths)
    check_columns(request.paths, request.text_column, request.id_column)
    task = load_task(request.task)
    tier = start_tier(catalog, task.tier, request.tier, request.model)
    golden = named_golden(request.golden) if request.golden else None
    found = _step(request, task, task.spec(request.params, tier=tier), catalog, is_usable)
    sampling = plan_sampling(
        task,
        catalog,
        is_usable,
        quality or QualitySettings(),
        purpose=request.purpose,
        sample=request.sample,
        judge=request.judge,
    )
    stages = _stages(request, task, catalog, is_usable)
    return replace(found, golden=golden, sampling=sampling, stages=stages)


def _stages(request: SubmitRequest, task: Task, catalog: Catalog, is_usable: Usable) -> tuple[Order, ...]:
    """The steps before the last. A tier or a model that the request names is for all of them."""

    def start(own: str) -> str:
        return start_tier(catalog, own, request.tier, request.model)

    specs = task.stage_specs(request.params, start=start)
    return tuple(_step(request, task, spec, catalog, is_usable) for spec in specs)


def _step(request: SubmitRequest, task: Task, spec: TaskSpec, catalog: Catalog, is_usable: Usable) -> Order:
    """One step of a request, checked."""
    tier = spec.tier
    if spec.router is not None:
        catalog.tier(spec.router.tier)
    try:
        model = pick_model(catalog, tier, request.model, is_usable)
    except CatalogError:
        raise
    except ConfigurationError as error:
        if request.tier is None and request.model is None:
            raise NoUsableModelError(str(error)) from error
        raise
    rungs = spec.ladder if request.model is None else (tier,)
    ladder = usable_rungs(catalog, rungs, is_usable) if request.model is None else rungs
    return Order(
        request=request,
        task=task,
        spec=spec,
        tier=tier,
        pinned_model=request.model,
        ladder=ladder,
        accepts=accepted_models(catalog, spec.ladder, request.model),
        image_tier=find_image_tier(catalog, ladder, request.model, is_usable),
        golden=None,
        dropped_rungs=tuple(rung for rung in rungs if rung not in ladder),
        model=model,
        entry=entry_rules(catalog, spec, ladder, request.model, is_usable),
    )


def find_image_tier(
    catalog: Catalog, ladder: Sequence[str], pinned_model: str | None, is_usable: Usable
) -> str | None:
    """The first rung whose model sees images, or None."""
    for rung in ladder:
        try:
            model = pick_model(catalog, rung, pinned_model, is_usable)
        except ConfigurationError:
            continue
        if "vision" in model.abilities:
            return rung
    return None


def corpus_key(order: Order) -> bytes:
    """What tells one request from another: 20 bytes. Standard input never equals another one."""
    request = order.request
    identity = {
        "paths": sorted(os.path.abspath(path) for path in request.paths),  # noqa: PTH100 - keeps any bytes
        "task": order.spec.fingerprint.hex(),
        "tier": order.queue,
        "model": request.model,
        "limit": request.limit,
        "text_column": request.text_column,
        "id_column": request.id_column,
        "refresh": request.refresh,
        "once": secrets.token_hex(16) if STDIN in request.paths else "",
    }
    if request.purpose is not Purpose.ANSWER:
        # Answers that were corrected since are another request: scores rest on them.
        rows = "" if order.golden is None else repr(order.golden.rows)
        answers = blake2b(rows.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
        identity |= {"purpose": request.purpose.value, "golden": answers}
    if order.ladder_policy_id is not None:
        identity["ladder"] = order.ladder_policy_id
    if order.stages:
        steps = [(step.spec.fingerprint.hex(), step.tier, step.spec.hands_over) for step in order.stages]
        identity["stages"] = repr(steps)
    encoded = repr(sorted(identity.items())).encode("utf-8", "surrogateescape")
    return blake2b(encoded, digest_size=20).digest()


def usable_rungs(catalog: Catalog, ladder: Sequence[str], is_usable: Usable) -> tuple[str, ...]:
    """The rungs that have a model to use."""
    return tuple(rung for rung in ladder if any(is_usable(model) for model in catalog.tier(rung)))


def accepted_models(catalog: Catalog, ladder: Sequence[str], pinned_model: str | None) -> tuple[str, ...]:
    """The models whose stored answers count: all of the ladder, usable or not, or the pinned one."""
    if pinned_model is not None:
        return (pinned_model,)
    return tuple(dict.fromkeys(model.name for rung in ladder for model in catalog.tier(rung)))
