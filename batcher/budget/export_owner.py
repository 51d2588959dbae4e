"""Whose export it is: providers are told apart by the models that batcher called at them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, select

from batcher.budget.comparison import names_models
from batcher.budget.vendor_export import Export
from batcher.budget.vendor_models import VendorModels
from batcher.catalog.models import Catalog
from batcher.errors import UsageError
from batcher.store.tables import attempts

Callers = Mapping[str, Mapping[str, str]]
"""By an export's name of a model: at which providers batcher called it, and its id there."""

_MOST_NAMED: Final = 3


def read_callers(connection: Connection, catalog: Catalog, export: Export) -> Callers:
    """Where batcher called the models that an export names; those that it never called are not there."""
    callers: dict[str, dict[str, str]] = defaultdict(dict)
    for provider, called in _called(connection).items():
        models = VendorModels(catalog, provider, called)
        ids = {models.id_of(name) for name in called}
        for name in _names(export):
            if (found := models.find(name)) in ids and found is not None:
                callers[name][provider] = found
    return dict(callers)


def choose_provider(connection: Connection, catalog: Catalog, export: Export, given: str | None) -> str:
    """Whose export it is.

    Raises:
        UsageError: if nobody can tell, if it has models of several providers, or ``given`` is no provider
            with calls.
    """
    called = _called(connection)
    listed = ", ".join(sorted(called)) or "none yet"
    if given is not None:
        if given not in called:
            raise UsageError(f"The ledger has no calls of provider {given!r}. It has calls of: {listed}")
        return given
    if export.vendor in called:
        return export.vendor
    callers = read_callers(connection, catalog, export)
    possible = [name for name in called if all(name in providers for providers in callers.values())]
    if not possible:
        providers = sorted({name for providers in callers.values() for name in providers})
        raise UsageError(
            f"The export has lines of several providers: {models_at(callers)}. Compare with one at a time:"
            f" {', then '.join(f'--provider {name}' for name in providers)}"
        )
    matches = {name: _count_known(VendorModels(catalog, name, called[name]), export) for name in possible}
    best = [name for name in possible if matches[name] == max(matches.values()) > 0]
    if len(best) != 1:
        raise UsageError(f"Whose export is it? Say --provider NAME. The ledger has calls of: {listed}")
    return best[0]


def called_elsewhere(callers: Callers, export: Export, provider: str) -> Callers:
    """The models of an export that batcher called only at other providers.

    Raises:
        UsageError: if there are some, and the provider's own lines cannot be told from theirs.
    """
    own = {name: providers for name, providers in callers.items() if provider in providers}
    elsewhere = {name: providers for name, providers in callers.items() if name not in own}
    if not elsewhere:
        return {}
    if not own:
        raise UsageError(
            f"The export has no model that batcher called at {provider}, but lines of {models_at(elsewhere)}."
            " Name whose export it is with --provider"
        )
    has = f"The export also has lines of {models_at(elsewhere)}"
    if not names_models(export):
        raise UsageError(f"{has}, and lines that name no model. Give an export of {provider}'s lines alone")
    shared = {name: providers for name, providers in own.items() if len(providers) > 1}
    if shared:
        raise UsageError(
            f"{has}, and of models that batcher called at several: {models_at(shared)}. Nobody can tell whose"
            f" these lines are. Give an export of {provider}'s lines alone"
        )
    return elsewhere


def models_at(callers: Callers) -> str:
    """For people: every provider with the models that were called at it."""
    ids: dict[str, set[str]] = defaultdict(set)
    for providers in callers.values():
        for provider, vendors_id in providers.items():
            ids[provider].add(vendors_id)
    return "; ".join(f"{provider} ({_some(sorted(ids[provider]))})" for provider in sorted(ids))


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _called(connection: Connection) -> dict[str, list[str]]:
    """The models that the ledger has calls of, by provider."""
    called: dict[str, list[str]] = defaultdict(list)
    for provider, model in connection.execute(select(attempts.c.provider, attempts.c.model).distinct()):
        called[provider].append(model)
    return dict(called)


def _names(export: Export) -> set[str]:
    return {line.model for line in export.lines if line.model}


def _count_known(models: VendorModels, export: Export) -> int:
    return sum(models.find(name) is not None for name in _names(export))
