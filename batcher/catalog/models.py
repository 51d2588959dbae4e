"""What batcher knows of a model, a provider and a tier."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from batcher.domain import Prices
from batcher.errors import CatalogError
from batcher.settings import Settings

ProviderKind = Literal["openai", "anthropic", "together", "local"]
OutputLimitField = Literal["max_tokens", "max_completion_tokens"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What an account may do with one model; None where nothing limits it.

    Attributes:
        rpm: requests in any 60 seconds.
        tpm: tokens in any 60 seconds, input and output together.
        rpd: requests in any 24 hours.
        concurrency: calls in flight.
        itpm: input tokens in any 60 seconds, where the vendor counts them apart.
        otpm: output tokens in any 60 seconds.
        charges_output_limit: whether a request counts with its output limit against ``tpm``, and not with
            what was written: OpenAI's rate-limit guide says so of its own API.
    """

    rpm: int | None
    tpm: int | None
    rpd: int | None = None
    concurrency: int | None = None
    itpm: int | None = None
    otpm: int | None = None
    charges_output_limit: bool = False


@dataclass(frozen=True, slots=True)
class Model:
    """One model at one provider.

    Attributes:
        name: the key in the catalogue, e.g. ``gpt-4o-mini`` or ``llama-3.3-70b@together``.
        provider: the name of its ``ProviderInfo``.
        id: the vendor's pinned id.
        prices: what the account is charged, nano-dollars per million tokens.
        context: most tokens of input and output together that a call may have.
        practical_context: input tokens past which answers degrade; longer documents are split.
        max_output: most tokens that an answer may have.
        abilities: ``schema`` (the API enforces one), ``vision``, ``batch`` (a Batch API), ``logprobs``.
        image_tokens: the most that one image can cost; 0 without vision.
        reasoning_beyond_limit: the most tokens of thought in a call that the output limit does not cover.
        takes_temperature: whether its API takes a temperature; some refuse every request that names one.
        price_percent: what the account pays of the list prices; ``prices`` are what it pays.
        limits: what the account may do.
        data: where document text goes, in words.
        source: where the prices were read.
        as_of: when, YYYY-MM-DD; "" if a user's own price carries no date.
        extra: further fields of the request body.
    """

    name: str
    provider: str
    id: str
    prices: Prices
    context: int
    practical_context: int
    max_output: int
    abilities: frozenset[str]
    image_tokens: int
    limits: Limits
    data: str
    source: str
    as_of: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    reasoning_beyond_limit: int = 0
    takes_temperature: bool = True
    price_percent: int = 100


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """An endpoint. A key is never kept here, only the name of the variable that holds it.

    Attributes:
        name: e.g. ``together``.
        kind: which SDK speaks to it.
        base_url: where it answers, in the form its SDK wants; None for the SDK's default, or for ``local``.
        base_url_env: the variable that moves it, stronger than ``base_url``; None if there is none.
        api_key_env: the variable that holds the key; None if the endpoint needs none.
        output_limit_field: how the endpoint spells the output limit.
        price_percent: what the account pays here of list prices; None if nobody said.
    """

    name: str
    kind: ProviderKind
    base_url: str | None
    base_url_env: str | None
    api_key_env: str | None
    output_limit_field: OutputLimitField
    price_percent: int | None = None


@dataclass(frozen=True)
class Catalog:
    """Every model, tier and provider in force.

    Attributes:
        models: by name, built-in ones first.
        tiers: names of models, first choice first, by tier, cheapest tier first.
        providers: by name.
        unpriced: what to say about models that are described but have no price, or can cost more than it, by
            name.
    """

    models: dict[str, Model]
    tiers: dict[str, tuple[str, ...]]
    providers: dict[str, ProviderInfo]
    unpriced: dict[str, str] = field(default_factory=dict)

    def model(self, name: str) -> Model:
        """The model of that name.

        Raises:
            CatalogError: if there is none, with names close to it; if it has no price, with the lines to add.
        """
        found = self.models.get(name)
        if found is not None:
            return found
        if name in self.unpriced:
            raise CatalogError(self.unpriced[name])
        from batcher.catalog.missing import blank_lines, lines_for_unknown

        similar = self._similar(name)
        known = lines_for_unknown(name, self.providers)
        hint = known or ("See: batcher models list" if similar else blank_lines(name, self.providers))
        raise CatalogError(" ".join(part for part in (f"There is no model {name!r}.", similar, hint) if part))

    def tier(self, name: str) -> tuple[Model, ...]:
        """The models of a tier, first choice first.

        Raises:
            CatalogError: if there is no such tier, or one of its models has no price.
        """
        if name not in self.tiers:
            raise CatalogError(
                f"There is no tier {name!r}. Tiers: {', '.join(self.tiers)}."
                " Add one under [tiers] in batcher.toml"
            )
        return tuple(self.model(model) for model in self.tiers[name])

    def _similar(self, name: str) -> str:
        """``Did you mean ...?`` with names, vendors' ids and names without their provider in mind, or ""."""
        wanted = name.lower()
        names = [key for key in self.models if key.lower().split("@")[0] == wanted]
        by_alias = {model.id.lower(): model.name for model in self.models.values()}
        by_alias.update({key.lower(): key for key in self.models})
        names += [by_alias[close] for close in difflib.get_close_matches(wanted, by_alias, n=3, cutoff=0.6)]
        names = list(dict.fromkeys(names))[:4]
        return f"Did you mean {' or '.join(names)}?" if names else ""


def load_catalog(settings: Settings) -> Catalog:
    """The built-in catalogue with the user's tables laid over it.

    Args:
        settings: its ``models``, ``tiers``, ``providers`` and ``local_models``.

    Raises:
        CatalogError: if a table of the user's makes no sense; the message names it.
    """
    from batcher.catalog.loading import build_catalog

    return build_catalog(settings)
