"""Lays a user's tables over the built-in ones and checks the outcome."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal, InvalidOperation
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlsplit

from batcher.catalog.missing import lines_for_unpriced
from batcher.catalog.models import Catalog, Limits, Model, ProviderInfo
from batcher.catalog.surcharges import (
    cache_write_factor,
    host_of,
    least_cache_write,
    why_unbounded,
    with_bounding_fields,
)
from batcher.domain import Prices
from batcher.errors import CatalogError, ConfigurationError
from batcher.money import usd_to_nusd
from batcher.settings import ProviderSettings, Settings

ABILITIES: Final = frozenset({"schema", "vision", "batch", "logprobs"})
DEAREST_USD: Final = Decimal(10_000)
"""A price above this, per million tokens, is taken for a slip of the unit. The dearest in genai-prices 0.2.3
is $600 (o1-pro)."""
DEFAULT_MAX_OUTPUT: Final = 4096
LOCAL_DEFAULTS: Final[dict[str, Any]] = {
    "provider": "local",
    "input": 0,
    "output": 0,
    "context": 4096,
    "practical_context": 3000,
    "max_output": 1024,
    "abilities": ["schema"],
    "source": "runs on your own machine",
}
"""What is taken for granted of a GGUF file under [local_models]; a [models.NAME] table says otherwise."""

_TOKEN_FIELDS: Final = ("input", "output", "cached_input", "cache_write")
_PRICE_FIELDS: Final = (*_TOKEN_FIELDS, *(f"long_{field}" for field in _TOKEN_FIELDS), "per_request")
_COUNT_FIELDS: Final = ("context", "practical_context", "max_output")

Table = dict[str, Any]


def build_catalog(settings: Settings) -> Catalog:
    """See ``batcher.catalog.models.load_catalog``."""
    provider_tables = _read("providers.toml")
    built_in = _read("models.toml")
    providers = _providers(provider_tables, settings.providers)
    data = {name: str(table.get("data", "")) for name, table in provider_tables.items()}
    tables = _model_tables(built_in["models"], settings)
    models: dict[str, Model] = {}
    hosts = {name: _hosts(info, settings) for name, info in providers.items()}
    unpriced: dict[str, str] = {}
    for name, table in tables.items():
        _check_provider(name, table, providers)
        info = providers[table["provider"]]
        if "input" not in table or "output" not in table:
            unpriced[name] = lines_for_unpriced(name, table, info)
            continue
        models[name] = _model(name, table, info, data)
        reason = why_unbounded(info, table, hosts[table["provider"]])
        if reason is not None:
            unpriced[name] = f"The model {name!r} could cost more than is reserved for it. {reason}"
            del models[name]
    tiers = _tiers(built_in["tiers"], settings, {*models, *unpriced})
    return Catalog(models=models, tiers=tiers, providers=providers, unpriced=unpriced)


def _hosts(info: ProviderInfo, settings: Settings) -> set[str]:
    """Where a provider answers, with and without the variable that moves it."""
    try:
        moved = settings.secret(info.base_url_env) if info.base_url_env else None
    except ConfigurationError:
        moved = None  # an env_file that is not there: whoever needs the key hears of it
    return {host_of(info.base_url), host_of(moved)}


def _read(name: str) -> Table:
    text = files("batcher.catalog").joinpath(name).read_text(encoding="utf-8")
    return tomllib.loads(text, parse_float=Decimal)


def _model_tables(built_in: dict[str, Table], settings: Settings) -> dict[str, Table]:
    """Built-in tables, then [local_models], then [models], each over the former."""
    tables = {name: dict(table) for name, table in built_in.items()}
    for name in settings.local_models:
        tables.setdefault(name, {**LOCAL_DEFAULTS, "id": name})
        if tables[name]["provider"] != "local":
            raise CatalogError(f"[local_models] {name!r} is the name of a hosted model. Choose another name")
    for name, given in settings.models.items():
        if not name or not name.isprintable() or any(char.isspace() for char in name):
            raise CatalogError(f"[models] {name!r}: a model's name has no spaces")
        override = given.model_dump(exclude_none=True)
        tables[name] = _overlay(tables.get(name, {}), override)
    return tables


def _overlay(table: Table, override: Table) -> Table:
    """``override`` over ``table``. A new price drops the old one's discounts: none is assumed.

    Another provider or id drops the price altogether, a smaller context pulls the lengths under it down, and
    limits of input and output apart take the place of the one for both.
    """
    merged = dict(table)
    moved = table and any(override.get(field, table[field]) != table[field] for field in ("provider", "id"))
    if moved or "input" in override or "output" in override:
        for field in ("as_of", "batch_percent"):
            merged.pop(field, None)
        merged["source"] = "batcher.toml"
    if moved or "input" in override:
        merged.pop("cached_input", None)
        merged.pop("cache_write", None)
    if moved:
        for field in (*_PRICE_FIELDS, "long_from", "price_percent", "reasoning_beyond_limit"):
            merged.pop(field, None)
    if "context" in override:
        for field in ("practical_context", "max_output"):
            if field in merged:
                merged[field] = min(merged[field], override["context"])
    if "itpm" in override or "otpm" in override:
        merged.pop("tpm", None)
    merged.update(override)
    return merged


def _check_provider(name: str, table: Table, providers: dict[str, ProviderInfo]) -> None:
    missing = [field for field in ("provider", "id") if not str(table.get(field, "")).strip()]
    if missing:
        raise CatalogError(f"[models.{name}] has no {' and no '.join(missing)}. Add it in batcher.toml")
    if table["provider"] not in providers:
        raise CatalogError(
            f"[models.{name}] names the provider {table['provider']!r}. Known: {', '.join(providers)}."
            f" Add [providers.{table['provider']}] with its base_url to batcher.toml"
        )


def _model(name: str, table: Table, provider: ProviderInfo, data: dict[str, str]) -> Model:
    context, practical, most_output = _counts(name, table)
    abilities = frozenset(table.get("abilities", ()))
    if abilities - ABILITIES:
        raise CatalogError(f"[models.{name}] abilities: {', '.join(sorted(ABILITIES))} are known, no others")
    image_tokens = int(table.get("image_tokens", 0))
    if ("vision" in abilities) != (image_tokens > 0):
        raise CatalogError(
            f"[models.{name}] abilities with vision and image_tokens (the most that one image can cost) go"
            " together: reservations need the bound. Set both or neither in batcher.toml"
        )
    where = data.get(provider.name) or urlsplit(provider.base_url or "").hostname or ""
    return Model(
        name=name,
        provider=provider.name,
        id=str(table["id"]),
        prices=_prices(name, table, provider),
        price_percent=_percent(table, provider),
        context=context,
        practical_context=practical,
        max_output=most_output,
        abilities=abilities,
        image_tokens=image_tokens,
        limits=_limits(table, provider.name),
        data=str(table.get("data", where)),
        source=str(table.get("source", "batcher.toml")),
        as_of=_date(name, str(table.get("as_of", ""))),
        extra=with_bounding_fields(provider, table, _plain(table.get("extra", {}))),
        reasoning_beyond_limit=int(table.get("reasoning_beyond_limit", 0)),
        takes_temperature=bool(table.get("temperature", True)),
    )


def _limits(table: Table, provider: str) -> Limits:
    told = {field: table.get(field) for field in ("rpm", "tpm", "rpd", "concurrency", "itpm", "otpm")}
    return Limits(**told, charges_output_limit=provider == "openai")


def _counts(name: str, table: Table) -> tuple[int, int, int]:
    """``context``, ``practical_context`` and ``max_output``, checked."""
    if "context" not in table:
        raise CatalogError(f"[models.{name}] has no context. Add context = TOKENS in batcher.toml")
    context = int(table["context"])
    practical = int(table.get("practical_context", context))
    most_output = int(table.get("max_output", min(DEFAULT_MAX_OUTPUT, context)))
    for field, value in zip(_COUNT_FIELDS, (context, practical, most_output), strict=True):
        if value < 1 or value > context:
            raise CatalogError(
                f"[models.{name}] {field} = {value:,} does not fit a context of {context:,} tokens."
                " Mend it in batcher.toml"
            )
    return context, practical, most_output


def _prices(name: str, table: Table, provider: ProviderInfo) -> Prices:
    share = Decimal(_percent(table, provider)) / 100
    usd = {field: share * _dollars(name, field, table[field]) for field in _PRICE_FIELDS if field in table}
    write_factor = cache_write_factor(provider, table)
    batch_percent = int(table.get("batch_percent", 100))
    if not 0 <= batch_percent <= 100:
        raise CatalogError(f"[models.{name}] batch_percent = {batch_percent}: give 0 to 100 in batcher.toml")
    written = max(usd.get("cache_write", usd["input"] * write_factor), least_cache_write(table, usd["input"]))
    usual = Prices(
        input_nusd=usd_to_nusd(usd["input"]),
        output_nusd=usd_to_nusd(usd["output"]),
        cached_nusd=usd_to_nusd(usd.get("cached_input", usd["input"])),
        cache_write_nusd=usd_to_nusd(written),
        batch_percent=batch_percent,
        request_nusd=usd_to_nusd(usd.get("per_request", Decimal(0))),
    )
    if "long_from" not in table:
        stray = [field for field in table if field.startswith("long_")]
        if stray:
            raise CatalogError(
                f"[models.{name}] has {stray[0]} but no long_from: past how many input tokens?"
            )
        return usual
    long = _long_prices(name, table, usd, usual, write_factor)
    return replace(usual, long=long, long_from=int(table["long_from"]))


def _long_prices(
    name: str, table: Table, usd: Mapping[str, Decimal], usual: Prices, write_factor: Decimal
) -> Prices:
    """What a long call is charged at: never less than a short one, so that a bound is one for both."""
    missing = [field for field in ("long_input", "long_output") if field not in usd]
    if missing:
        raise CatalogError(f"[models.{name}] has long_from but no {missing[0]}. Add it in batcher.toml")
    plain = usd["long_input"]
    written = max(usd.get("long_cache_write", plain * write_factor), least_cache_write(table, plain))
    return replace(
        usual,
        input_nusd=max(usual.input_nusd, usd_to_nusd(plain)),
        output_nusd=max(usual.output_nusd, usd_to_nusd(usd["long_output"])),
        cached_nusd=max(usual.cached_nusd, usd_to_nusd(usd.get("long_cached_input", plain))),
        cache_write_nusd=max(usual.cache_write_nusd, usd_to_nusd(written)),
    )


def _percent(table: Table, provider: ProviderInfo) -> int:
    """What the account pays of the prices, percent: as the model says, else as its provider does."""
    return int(table.get("price_percent", provider.price_percent or 100))


def _dollars(name: str, field: str, value: object) -> Decimal:
    """The price, exactly: a float from a settings file counts as the digits it was written with."""
    try:
        usd = Decimal(str(value)) if not isinstance(value, bool) else Decimal("nan")
    except InvalidOperation:
        usd = Decimal("nan")
    if not usd.is_finite() or usd < 0 or usd > DEAREST_USD:
        raise CatalogError(
            f"[models.{name}] {field} = {value!r} is no price. Give dollars per million tokens, like 0.15,"
            f" at most {DEAREST_USD:,}, in batcher.toml"
        )
    return usd


def _date(name: str, text: str) -> str:
    if text:
        try:
            return date.fromisoformat(text).isoformat()
        except ValueError as error:
            raise CatalogError(f"[models.{name}] as_of = {text!r}: write it like 2026-11-20") from error
    return text


def _plain(value: Any) -> Any:
    """``value`` with floats for Decimals, because it goes into a JSON body."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _providers(tables: dict[str, Table], given: dict[str, ProviderSettings]) -> dict[str, ProviderInfo]:
    merged = {name: dict(table) for name, table in tables.items()}
    for name, settings in given.items():
        merged[name] = {**merged.get(name, {}), **settings.model_dump(exclude_none=True)}
    return {name: _provider(name, table) for name, table in merged.items()}


def _provider(name: str, table: Table) -> ProviderInfo:
    kind = table.get("kind", "openai")
    base_url = str(table.get("base_url", "")).rstrip("/") or None
    if base_url is None and kind == "openai":
        raise CatalogError(
            f"[providers.{name}] has no base_url. Add it in batcher.toml, like http://gpu1:8000/v1"
        )
    if base_url is not None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CatalogError(f"[providers.{name}] base_url is no http:// or https:// address")
        if parts.username or parts.password:
            raise CatalogError(
                f"[providers.{name}] base_url holds a user or password. Put the key into an environment"
                " variable and its name into api_key_env"
            )
    return ProviderInfo(
        name=name,
        kind=kind,
        base_url=base_url,
        base_url_env=table.get("base_url_env"),
        api_key_env=table.get("api_key_env") or None,
        output_limit_field=table.get("output_limit_field", "max_tokens"),
        price_percent=table.get("price_percent"),
    )


def _tiers(built_in: dict[str, list[str]], settings: Settings, known: set[str]) -> dict[str, tuple[str, ...]]:
    """Built-in tiers with the user's over them; a GGUF file of the user's leads the local tier."""
    own_files = [name for name in settings.local_models if name not in built_in["local"]]
    tiers = {name: list(models) for name, models in built_in.items()}
    tiers["local"] = own_files + tiers["local"]
    tiers.update(settings.tiers)
    for name, models in tiers.items():
        unknown = [model for model in models if model not in known]
        if not models or unknown:
            what = f"names {unknown[0]!r}, which is no model" if unknown else "names no model"
            raise CatalogError(
                f"[tiers] {name} {what}. See: batcher models list; add one under [models] in batcher.toml"
            )
    return {name: tuple(dict.fromkeys(models)) for name, models in tiers.items()}
