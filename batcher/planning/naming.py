"""What the command line names: one that does not exist is a slip of the user's, not of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from batcher.catalog.models import Catalog
from batcher.errors import CatalogError, TaskError, UsageError
from batcher.tasks.golden import Golden, load_golden

CUSTOM_TIER: Final = "custom"
"""Where a job of a pinned model works that is on no tier."""


def named_golden(path: Path) -> Golden:
    """The golden file that ``--golden`` names.

    Raises:
        UsageError: if it is not there or holds no known answers.
    """
    try:
        return load_golden(path)
    except TaskError as error:
        raise UsageError(f"--golden {error}") from error


def start_tier(catalog: Catalog, of_task: str, tier: str | None, model: str | None) -> str:
    """Where a job starts.

    Args:
        catalog: tiers and models in force.
        of_task: the task's own tier.
        tier: what ``--tier`` names.
        model: what ``--model`` names.

    Raises:
        UsageError: if tier or model were named and do not exist, or the model is not on the tier.
        CatalogError: if the task's own tier does not exist, or a model has no price.
    """
    if model is None:
        _look_up_tier(catalog, tier or of_task, is_named=tier is not None)
        return tier or of_task
    _look_up_model(catalog, model)
    holding = _tiers_with(catalog, model)
    if tier is None:
        return holding[0] if holding else CUSTOM_TIER
    if tier not in holding:
        where = f"it is on {', '.join(holding)}" if holding else "it is on no tier"
        raise UsageError(f"Model {model} is not on tier {tier} ({where}). Leave one of the two out")
    return tier


def tiers_with_queue(catalog: Catalog) -> tuple[str, ...]:
    """Where jobs may wait for workers: the catalogue's tiers, and where models work that are on none."""
    return tuple(dict.fromkeys((*catalog.tiers, CUSTOM_TIER)))


def tier_of(catalog: Catalog, model: str) -> str:
    """The first tier that a model is on, whose cap its calls stand under; ``custom`` if it is on none."""
    return next(iter(_tiers_with(catalog, model)), CUSTOM_TIER)


def _tiers_with(catalog: Catalog, model: str) -> list[str]:
    return [name for name, models in catalog.tiers.items() if model in models]


def _look_up_tier(catalog: Catalog, name: str, *, is_named: bool) -> None:
    try:
        catalog.tier(name)
    except CatalogError as error:
        if is_named and name not in catalog.tiers:
            raise UsageError(str(error)) from error
        raise


def _look_up_model(catalog: Catalog, name: str) -> None:
    try:
        catalog.model(name)
    except CatalogError as error:
        if name not in catalog.unpriced:
            raise UsageError(str(error)) from error
        raise
