"""Which models can do a tier's work."""

from __future__ import annotations

from collections.abc import Callable

from batcher.catalog.models import Catalog, Model
from batcher.catalog.privacy import Place, Privacy
from batcher.errors import ConfigurationError
from batcher.planning.naming import CUSTOM_TIER, tier_of

Usable = Callable[[Model], bool]
"""Whether a model's provider has what it needs."""

PlaceOf = Callable[[Model], Place]
"""Where a model answers."""


def usable_models(
    catalog: Catalog, tier: str, pinned_model: str | None, is_usable: Usable
) -> tuple[Model, ...]:
    """The models that can do a tier's work, first choice first: the pinned one alone, or the tier's.

    Raises:
        ConfigurationError: naming the variables to set, if none can be used.
    """
    candidates = (catalog.model(pinned_model),) if pinned_model else catalog.tier(tier)
    usable = tuple(model for model in candidates if is_usable(model))
    if usable:
        return usable
    variables = dict.fromkeys(catalog.providers[model.provider].api_key_env or "" for model in candidates)
    names = " or ".join(name for name in variables if name)
    subject = f"Model {pinned_model}" if pinned_model else f"Tier {tier}"
    raise ConfigurationError(f"{subject} needs a key: set {names}, or choose --tier local")


def pick_model(catalog: Catalog, tier: str, pinned_model: str | None, is_usable: Usable) -> Model:
    """The model that does a tier's work while nothing is wrong; see ``usable_models``."""
    return usable_models(catalog, tier, pinned_model, is_usable)[0]


def why_unserved(catalog: Catalog, tier: str, is_usable: Usable) -> str | None:
    """Why none of the work that may wait on a tier can be done here; None if some can."""
    if tier == CUSTOM_TIER and tier not in catalog.tiers:
        alone = (model for name, model in catalog.models.items() if tier_of(catalog, name) == CUSTOM_TIER)
        return None if any(map(is_usable, alone)) else "None of the models that are on no tier has a key"
    try:
        usable_models(catalog, tier, None, is_usable)
    except ConfigurationError as error:
        return str(error)
    return None


def only_allowed(is_usable: Usable, place_of: PlaceOf, privacy: Privacy | None) -> Usable:
    """Which models can be used and answer where documents may go."""
    if privacy is None or privacy is Privacy.STANDARD:
        return is_usable
    return lambda model: is_usable(model) and privacy.allows(place_of(model))
