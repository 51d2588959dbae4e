"""What makes a call dearer than its tokens: it is in the reservation, or the model is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batcher.catalog.models import Catalog, load_catalog
from batcher.domain import Prices, Usage
from batcher.errors import CatalogError
from batcher.money import cost_nusd
from batcher.settings import Settings

MINE = {"id": "m", "input": 0.1, "output": 0.2, "context": 8000}
XAI = {"base_url": "https://api.x.ai/v1", "api_key_env": "XAI_API_KEY"}


def catalog_of(provider: str, providers: dict[str, Any] | None = None, **fields: Any) -> Catalog:
    table = {**MINE, "provider": provider, **fields}
    return load_catalog(Settings(models={"mine": table}, providers=providers or {}))


def why_refused(catalog: Catalog, name: str = "mine") -> str:
    assert name not in catalog.models
    with pytest.raises(CatalogError) as error:
        catalog.model(name)
    return str(error.value)


@pytest.mark.parametrize(
    ("provider", "extra"),
    [
        ("openai", {"service_tier": "priority"}),
        ("openai", {"service_tier": "auto"}),
        ("groq", {"service_tier": "performance"}),
        ("together", {"service_tier": "default"}),
        ("anthropic", {"inference_geo": "us"}),
        ("anthropic", {"speed": "fast"}),
        ("mistral", {"a_field_of_next_year": 1}),
    ],
)
def test_a_field_that_may_cost_more_needs_a_share_of_the_price(provider: str, extra: dict[str, Any]) -> None:
    said = why_refused(catalog_of(provider, extra=extra))
    assert f"extra.{next(iter(extra))}" in said
    assert "price_percent" in said
    told = catalog_of(provider, extra=extra, price_percent=110).model("mine")
    assert told.prices.input_nusd == 110_000_000
    assert told.prices.output_nusd == 220_000_000
    by_provider = catalog_of(provider, {provider: {"price_percent": 200}}, extra=extra)
    assert by_provider.model("mine").prices.output_nusd == 400_000_000


@pytest.mark.parametrize(
    ("provider", "extra"),
    [
        ("openai", {"service_tier": "flex", "reasoning_effort": "low"}),
        ("groq", {"service_tier": "on_demand"}),
        ("anthropic", {"service_tier": "standard_only", "inference_geo": "global"}),
        ("anthropic", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
        ("vllm", {"top_k": 5, "chat_template_kwargs": {"enable_thinking": False}}),
    ],
)
def test_a_field_that_costs_nothing_is_taken(provider: str, extra: dict[str, Any]) -> None:
    taken = catalog_of(provider, extra=extra).model("mine").extra
    assert {name: taken[name] for name in extra} == extra


@pytest.mark.parametrize(
    "extra",
    [
        {"n": 4},
        {"max_tokens": 100_000},
        {"max_completion_tokens": None},
        {"tools": [{"type": "web_search"}]},
        {"web_search_options": {}},
        {"models": ["openai/gpt-6-astra"]},
        {"prediction": {"type": "content", "content": "x"}},
        {"system": "a long text"},
    ],
)
def test_a_field_that_no_reservation_covers_is_refused_whatever_is_said(extra: dict[str, Any]) -> None:
    said = why_refused(catalog_of("openai", extra=extra, price_percent=100))
    assert f"extra.{next(iter(extra))}" in said
    assert "Take it out" in said


def test_what_costs_nothing_may_say_anything() -> None:
    catalog = catalog_of("vllm", input=0, output=0, extra={"n": 2, "my_engine_field": True})
    assert catalog.model("mine").extra["n"] == 2


def test_openai_is_told_to_charge_the_list_price() -> None:
    """A project may be set to priority, which ``auto`` follows."""
    catalog = load_catalog(Settings())
    openai = [model for model in catalog.models.values() if model.provider == "openai"]
    assert {model.extra["service_tier"] for model in openai} == {"default"}
    assert catalog_of("openai").model("mine").extra == {"service_tier": "default"}


def test_a_region_of_openai_costs_more(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("OPENAI_BASE_URL=https://eu.api.openai.com/v1\n", encoding="utf-8")
    moved = load_catalog(Settings(env_file=env_file))
    assert "price_percent = 110" in why_refused(moved, "gpt-6-luna")
    assert moved.tiers["economy"]
    assert moved.model("claude-haiku-4-5")
    configured = {"openai": {"base_url": "https://us.api.openai.com/v1"}}
    assert "us.api.openai.com" in why_refused(load_catalog(Settings(providers=configured)), "gpt-4o")
    configured["openai"]["price_percent"] = 110  # type: ignore[assignment]
    prices = load_catalog(Settings(providers=configured)).model("gpt-6-luna").prices
    assert prices.charged(300_000).input_nusd == 220_000_000


@pytest.mark.parametrize(
    ("provider", "providers"), [("gemini", {}), ("openrouter", {}), ("xai", {"xai": XAI})]
)
def test_thought_that_the_limit_may_not_cover_must_be_told(provider: str, providers: dict[str, Any]) -> None:
    said = why_refused(catalog_of(provider, providers))
    assert "reasoning_beyond_limit" in said
    told = catalog_of(provider, providers, reasoning_beyond_limit=5_000).model("mine")
    assert told.reasoning_beyond_limit == 5_000
    for off in (
        {"reasoning_effort": "none"},
        {"thinking": {"type": "disabled"}},
        {"reasoning": {"effort": "none"}},
    ):
        assert catalog_of(provider, providers, extra=off).model("mine").reasoning_beyond_limit == 0
    thinking = {"reasoning": {"effort": "high"}}
    assert "reasoning_beyond_limit" in why_refused(catalog_of(provider, providers, extra=thinking))


def test_every_built_in_model_says_what_its_limit_covers() -> None:
    catalog = load_catalog(Settings())
    assert catalog.unpriced == {}
    beyond = {
        name: model.reasoning_beyond_limit
        for name, model in catalog.models.items()
        if model.reasoning_beyond_limit
    }
    assert beyond == {"gemini-3.5-flash-lite": catalog.model("gemini-3.5-flash-lite").max_output}
    assert catalog.model("gemini-2.5-flash-lite").extra["reasoning_effort"] == "none"


def test_models_that_refuse_a_temperature_say_so() -> None:
    """The vendors' migration guides: Claude 5.5, Gemini 3.5 Flash-Lite."""
    models = load_catalog(Settings()).models
    without = {name for name, model in models.items() if not model.takes_temperature}
    assert without == {"claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5", "gemini-3.5-flash-lite"}
    assert not catalog_of("openai", temperature=False).model("mine").takes_temperature


def test_openrouter_may_choose_no_dearer_host_than_the_price() -> None:
    fields = {"reasoning_beyond_limit": 0, "per_request": 0.01}
    model = catalog_of("openrouter", extra={"provider": {"sort": "price"}}, **fields).model("mine")
    most = {"prompt": 0.1, "completion": 0.2, "request": 0.01}
    assert model.extra["provider"] == {"sort": "price", "max_price": most}
    cheaper = {"provider": {"max_price": {"prompt": 0.05}}}
    routing = catalog_of("openrouter", extra=cheaper, **fields).model("mine").extra["provider"]
    assert routing["max_price"] == {**most, "prompt": 0.05}
    dearer = {"provider": {"max_price": {"completion": 0.21}}}
    assert "above output" in why_refused(catalog_of("openrouter", extra=dearer, **fields))
    seeing = catalog_of("openrouter", abilities=["vision"], image_tokens=1000, **fields).model("mine")
    assert seeing.extra["provider"]["max_price"]["image"] == 0.0


@pytest.mark.parametrize(
    ("provider", "model", "factor"),
    [
        ("anthropic", "claude-next", 1.25),
        ("openai", "gpt-4o-2024-11-20", 1),
        ("openai", "gpt-5", 1),
        ("openai", "gpt-5.4-mini", 1),
        ("openai", "gpt-5.6-sol", 1.25),
        ("openai", "gpt-7", 1.25),
        ("openrouter", "openai/gpt-7", 1.25),
        ("groq", "m", 1),
    ],
)
def test_what_a_cache_write_costs_where_nobody_says(provider: str, model: str, factor: float) -> None:
    prices = catalog_of(provider, id=model, reasoning_beyond_limit=0).model("mine").prices
    assert prices.cache_write_nusd == factor * prices.input_nusd


def test_a_cache_kept_for_an_hour_costs_twice_the_input() -> None:
    hour = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    for told in ({}, {"cache_write": 0.125}):
        prices = catalog_of("anthropic", extra=hour, **told).model("mine").prices
        assert prices.cache_write_nusd == 2 * prices.input_nusd
    long = catalog_of("anthropic", extra=hour, long_from=1000, long_input=0.3, long_output=1).model("mine")
    assert long.prices.charged(1001).cache_write_nusd == 600_000_000
    dearer = catalog_of("anthropic", extra=hour, cache_write=0.5).model("mine")
    assert dearer.prices.cache_write_nusd == 500_000_000
    assert "Set cache_write" in why_refused(catalog_of("groq", extra=hour))


def test_long_calls_of_ones_own_model() -> None:
    model = catalog_of("vllm", long_from=4000, long_input=0.2, long_output=0.3, cached_input=0.01).model(
        "mine"
    )
    assert model.prices == Prices(
        100_000_000, 200_000_000, 10_000_000, 100_000_000,
        long=Prices(200_000_000, 300_000_000, 200_000_000, 200_000_000), long_from=4000,
    )  # fmt: skip


def test_a_long_call_is_never_cheaper_than_a_short_one() -> None:
    catalog = load_catalog(Settings(models={"gpt-6-luna": {"input": 0.5, "output": 0.6}}))
    prices = catalog.model("gpt-6-luna").prices
    long = prices.charged(272_001)
    assert (long.input_nusd, long.output_nusd) == (500_000_000, 750_000_000)
    assert long.cache_write_nusd == prices.cache_write_nusd == 625_000_000


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"long_input": 0.2}, "no long_from"),
        ({"long_from": 100, "long_input": 0.2}, "no long_output"),
        ({"long_from": 100, "long_output": 0.2}, "no long_input"),
        ({"long_from": 100, "long_input": "dear", "long_output": 0.2}, "is no price"),
        ({"per_request": -1}, "per_request"),
    ],
)
def test_nonsense_about_prices_is_refused_by_name(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(CatalogError, match="mine") as error:
        catalog_of("vllm", **fields)
    assert said in str(error.value)


def test_a_price_for_the_request_itself() -> None:
    prices = catalog_of("vllm", per_request="0.012").model("mine").prices
    assert prices.request_nusd == 12_000_000
    assert cost_nusd(Usage(), prices) == 12_000_000


def test_another_id_drops_what_was_known_of_long_calls() -> None:
    moved = {"id": "gpt-4o-2024-11-20", "input": 2.5, "output": 10}
    assert load_catalog(Settings(models={"gpt-6-luna": moved})).model("gpt-6-luna").prices.long is None
