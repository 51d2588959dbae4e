"""Which models are measured beside each other, and how a cap is shared among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from batcher.catalog.models import Catalog
from batcher.errors import CatalogError, ConfigurationError
from batcher.planning.choice import Usable, usable_models
from batcher.planning.naming import start_tier
from batcher.planning.order import Order, SubmitRequest, check_request
from batcher.settings import QualitySettings
from batcher.tasks.registry import load_task

Key = TypeVar("Key")


def candidate_orders(
    request: SubmitRequest,
    models: Sequence[str],
    tiers: Sequence[str],
    catalog: Catalog,
    is_usable: Usable,
    *,
    judge_own: bool = False,
) -> list[Order]:
    """One checked request for each model to measure: those named, and the usable ones of the tiers named.

    Args:
        request: what all have in common.
        models: names of models.
        tiers: names of tiers; without any, and without models, those of the task's ladder.
        catalog: models and tiers in force.
        is_usable: which models there are keys for.
        judge_own: whether a model may judge its own answers.

    Raises:
        UsageError: if something was named that does not exist.
        ConfigurationError: if a named model, all of a named tier or all of the ladder lack their keys.
    """
    task = load_task(request.task)
    found: dict[str, str | None] = dict.fromkeys(models)
    for tier in tiers:
        start_tier(catalog, task.tier, tier, None)
        for model in usable_models(catalog, tier, None, is_usable):
            found.setdefault(model.name, tier)
    if not models and not tiers:
        found = dict(_of_ladder(task.ladder, catalog, is_usable))
    in_order = [name for name in catalog.models if name in found]
    names = [*in_order, *(name for name in found if name not in in_order)]
    # Who judges is the task's own: a judge of the settings is for answers that are drawn.
    quality = QualitySettings(judge_own=judge_own)
    return [
        check_request(replace(request, model=name, tier=found[name]), catalog, is_usable, quality)
        for name in names
    ]


def _of_ladder(ladder: Sequence[str], catalog: Catalog, is_usable: Usable) -> Iterator[tuple[str, str]]:
    """The usable models of the ladder's tiers, each with the first of them that holds it."""
    seen: set[str] = set()
    why: ConfigurationError | None = None
    for tier in ladder:
        try:
            models = usable_models(catalog, tier, None, is_usable)
        except CatalogError:
            raise
        except ConfigurationError as error:
            why = why or error
            continue
        for model in models:
            if model.name not in seen:
                seen.add(model.name)
                yield model.name, tier
    if not seen and why is not None:
        raise why


def share_cap(cap_nusd: int, worst_nusd: Mapping[Key, int]) -> dict[Key, int]:
    """Caps that together never exceed one: the cheapest models first get what they can need at the worst.

    Args:
        cap_nusd: what all may cost together, nano-dollars.
        worst_nusd: what each can cost at the worst.

    Returns:
        The cap of each. Where there is not enough, those that need more than an equal share get equal ones.
    """
    left, caps = max(0, cap_nusd), dict[Key, int]()
    waiting = sorted(worst_nusd, key=lambda key: worst_nusd[key])
    for place, key in enumerate(waiting):
        caps[key] = min(worst_nusd[key], left // (len(waiting) - place))
        left -= caps[key]
    return caps
