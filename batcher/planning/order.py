"""What the user asks for, checked: everything that is known before the corpus is read."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from batcher.catalog.models import Catalog, Model
from batcher.documents.paths import STDIN, check_paths
from batcher.errors import CatalogError, ConfigurationError
from batcher.planning.choice import Usable, pick_model
from batcher.planning.naming import named_golden, start_tier
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


@dataclass(frozen=True, slots=True)
class Order:
    """A request that was checked: everything that is known before the corpus is read.

    Attributes:
        ladder: the rungs that have a model to use, ``tier`` the first.
        accepts: names of the models whose answers count.
        image_tier: the first rung whose model sees images, or None.
        dropped_rungs: rungs of the task's ladder left out for want of a key.
        model: the model that does the work on ``tier``.
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


def check_request(request: SubmitRequest, catalog: Catalog, is_usable: Usable) -> Order:
    """Check all that can be checked without reading the corpus.

    Raises:
        NoUsableModelError: if no tier was named and the task's own has no usable model.
        BatcherError: for anything else that is wrong, saying what.
    """
    check_paths(request.paths)
    task = load_task(request.task)
    tier = start_tier(catalog, task.tier, request.tier, request.model)
    spec = task.spec(request.params, tier=tier)
    golden = named_golden(request.golden) if request.golden else None
    try:
        model = pick_model(catalog, tier, request.model, is_usable)
    except CatalogError:
        raise
    except ConfigurationError as error:
        if request.tier is None and request.model is None:
            raise NoUsableModelError(str(error)) from error
        raise
    rungs = spec.ladder if request.model is None else (tier,)
    ladder = _usable_rungs(catalog, rungs, is_usable) if request.model is None else rungs
    return Order(
        request=request,
        task=task,
        spec=spec,
        tier=tier,
        pinned_model=request.model,
        ladder=ladder,
        accepts=_accepted(catalog, spec.ladder, request.model),
        image_tier=find_image_tier(catalog, ladder, request.model, is_usable),
        golden=golden,
        dropped_rungs=tuple(rung for rung in rungs if rung not in ladder),
        model=model,
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
        "tier": order.tier,
        "model": request.model,
        "limit": request.limit,
        "text_column": request.text_column,
        "id_column": request.id_column,
        "refresh": request.refresh,
        "once": secrets.token_hex(16) if STDIN in request.paths else "",
    }
    encoded = repr(sorted(identity.items())).encode("utf-8", "surrogateescape")
    return blake2b(encoded, digest_size=20).digest()


def _usable_rungs(catalog: Catalog, ladder: Sequence[str], is_usable: Usable) -> tuple[str, ...]:
    return tuple(rung for rung in ladder if any(is_usable(model) for model in catalog.tier(rung)))


def _accepted(catalog: Catalog, ladder: Sequence[str], pinned_model: str | None) -> tuple[str, ...]:
    """All models of the whole ladder, usable or not: a stored answer needs no key."""
    if pinned_model is not None:
        return (pinned_model,)
    return tuple(dict.fromkeys(model.name for rung in ladder for model in catalog.tier(rung)))
