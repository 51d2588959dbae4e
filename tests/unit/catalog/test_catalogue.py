from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batcher.catalog.comparison import check_prices
from batcher.catalog.models import Catalog, Limits, load_catalog
from batcher.catalog.vendor_prices import PriceList
from batcher.domain import Prices
from batcher.errors import CatalogError
from batcher.settings import Settings, load_settings

PRICED = {"provider": "vllm", "id": "m", "input": 0.1, "output": 0.2, "context": 8000}


def with_models(**tables: dict[str, Any]) -> Catalog:
    return load_catalog(Settings(models=tables))


def from_toml(tmp_path: Path, text: str) -> Catalog:
    path = tmp_path / "batcher.toml"
    path.write_text(text, encoding="utf-8")
    return load_catalog(load_settings(path))


@pytest.fixture(scope="module")
def built_in() -> Catalog:
    return load_catalog(Settings())


def test_money_is_exact(built_in: Catalog) -> None:
    assert built_in.model("gpt-4o-mini").prices == Prices(
        input_nusd=150_000_000,
        output_nusd=600_000_000,
        cached_nusd=75_000_000,
        cache_write_nusd=150_000_000,
        batch_percent=50,
    )
    assert built_in.model("claude-haiku-4-5").prices.cache_write_nusd == 1_250_000_000


def test_every_built_in_model_is_complete(built_in: Catalog) -> None:
    assert set(built_in.tiers) == {"local", "economy", "standard", "premium"}
    assert 20 <= len(built_in.models) <= 30
    assert built_in.unpriced == {}
    for name, model in built_in.models.items():
        assert model.name == name
        assert not model.id.endswith("latest"), name
        assert model.practical_context <= model.context, name
        assert model.data, name
        assert model.source, name
        assert model.as_of <= datetime.now(UTC).date().isoformat(), name
        assert ("vision" in model.abilities) == (model.image_tokens > 0), name
        if model.provider != "local":
            assert model.limits.rpm, name
            assert model.limits.tpm, name
            assert model.prices.output_nusd > 0, name
        json.dumps(model.extra)


def test_every_tier_can_be_used(built_in: Catalog) -> None:
    for tier in built_in.tiers:
        assert [model.name for model in built_in.tier(tier)] == list(built_in.tiers[tier])
    assert built_in.tier("economy")[0].name == "llama-3.3-70b@together"
    assert [model.prices.output_nusd for model in built_in.tier("local")] == [0, 0]
    assert {"groq", "ollama", "vllm"} < set(built_in.providers)
    assert built_in.providers["openai"].output_limit_field == "max_completion_tokens"


def test_no_built_in_price_differs_from_genai_prices(built_in: Catalog) -> None:
    report = check_prices(built_in, PriceList.bundled(), datetime.now(UTC).date())
    assert report.unknown == ()
    assert report.compared == len(built_in.models) - 2
    pinned_to_this_release = PriceList.bundled().source == "genai-prices 0.2.3"
    assert not pinned_to_this_release or report.differences == ()


def test_the_most_that_openrouter_may_choose_is_the_price(built_in: Catalog) -> None:
    model = built_in.model("llama-3.3-70b@openrouter")
    most = model.extra["provider"]["max_price"]
    assert Decimal(str(most["prompt"])) * 10**9 == model.prices.input_nusd == model.prices.cached_nusd
    assert Decimal(str(most["completion"])) * 10**9 == model.prices.output_nusd


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("gpt-4o-mni", "gpt-4o-mini"),
        ("GPT-4o-mini", "gpt-4o-mini"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("llama-3.3-70b", "llama-3.3-70b@groq"),
    ],
)
def test_an_unknown_model_names_close_ones(built_in: Catalog, name: str, meant: str) -> None:
    with pytest.raises(CatalogError, match="Did you mean") as error:
        built_in.model(name)
    assert meant in str(error.value)


def test_a_model_known_to_the_price_list_comes_with_the_lines_to_add(
    built_in: Catalog, tmp_path: Path
) -> None:
    with pytest.raises(CatalogError) as error:
        built_in.model("gpt-5.2")
    lines = str(error.value).partition("batcher.toml:\n")[2]
    added = from_toml(tmp_path, lines).model("gpt-5.2")
    assert added.prices.input_nusd == 1_750_000_000
    assert added.prices.output_nusd == 14_000_000_000
    assert added.provider == "openai"
    assert added.as_of == datetime.now(UTC).date().isoformat()


def test_a_model_that_nobody_knows_comes_with_lines_to_fill_in(built_in: Catalog) -> None:
    with pytest.raises(CatalogError) as error:
        built_in.model("zzz/unheard of")
    assert '[models."zzz/unheard of"]' in str(error.value)
    assert "context = ..." in str(error.value)


def test_a_model_without_a_price_is_refused_with_the_lines_to_add(tmp_path: Path) -> None:
    described = '[models.mine]\nprovider = "openai"\nid = "gpt-5.2"\ncontext = 1000\n'
    catalog = from_toml(tmp_path, described)
    assert "mine" not in catalog.models
    with pytest.raises(CatalogError) as error:
        catalog.model("mine")
    lines = str(error.value).partition("batcher.toml:\n")[2]
    assert from_toml(tmp_path, described + lines).model("mine").prices.output_nusd == 14_000_000_000


def test_a_model_of_ones_own_machine_needs_a_price_too() -> None:
    catalog = load_catalog(Settings(models={"mine": {"provider": "vllm", "id": "m", "context": 1000}}))
    with pytest.raises(CatalogError, match=r"input = 0\.0  # your own machine"):
        catalog.model("mine")


def test_a_tier_with_an_unpriced_model_is_refused_when_it_is_used() -> None:
    unpriced = {"provider": "vllm", "id": "m", "context": 1000}
    catalog = load_catalog(Settings(models={"mine": unpriced}, tiers={"nightly": ["mine"]}))
    assert catalog.tier("economy")
    with pytest.raises(CatalogError, match="has no price"):
        catalog.tier("nightly")


def test_an_unknown_tier_names_those_there_are(built_in: Catalog) -> None:
    with pytest.raises(CatalogError, match="local, economy, standard, premium"):
        built_in.tier("luxury")


def test_a_new_price_drops_the_discounts_of_the_old_one() -> None:
    prices = with_models(**{"gpt-4o": {"input": 1.1}}).model("gpt-4o").prices
    assert prices == Prices(1_100_000_000, 10_000_000_000, 1_100_000_000, 1_100_000_000, 100)


def test_limits_of_ones_own_leave_the_price_alone(built_in: Catalog) -> None:
    model = with_models(**{"gpt-4o": {"rpm": 10_000, "concurrency": 9}}).model("gpt-4o")
    assert model.limits == Limits(rpm=10_000, tpm=30_000, concurrency=9, charges_output_limit=True)
    assert model.prices == built_in.model("gpt-4o").prices
    assert model.source == built_in.model("gpt-4o").source


@pytest.mark.parametrize("own", [{"itpm": 50_000}, {"otpm": 8_000}, {"itpm": 50_000, "otpm": 8_000}])
def test_limits_of_input_and_output_apart_replace_the_default_for_both(own: dict[str, int]) -> None:
    default = with_models().model("claude-haiku-4-5").limits
    assert default.tpm is not None
    limits = with_models(**{"claude-haiku-4-5": own}).model("claude-haiku-4-5").limits
    assert limits == replace(default, tpm=None, **own)
    both = with_models(**{"claude-haiku-4-5": {**own, "tpm": 77_000}}).model("claude-haiku-4-5").limits
    assert both == replace(default, tpm=77_000, **own)


def test_another_id_drops_the_price() -> None:
    catalog = with_models(**{"gpt-4o": {"id": "gpt-4o-2024-05-13"}})
    with pytest.raises(CatalogError, match=r"input = 5\.0"):
        catalog.model("gpt-4o")


def test_a_smaller_context_pulls_lengths_down() -> None:
    model = with_models(**{"gpt-4o": {"context": 4000}}).model("gpt-4o")
    assert (model.context, model.practical_context, model.max_output) == (4000, 4000, 4000)


def test_what_is_not_said_of_a_new_model_is_conservative() -> None:
    model = with_models(mine=PRICED).model("mine")
    assert model.prices == Prices(100_000_000, 200_000_000, 100_000_000, 100_000_000, 100)
    assert (model.practical_context, model.max_output, model.image_tokens) == (8000, 4096, 0)
    assert model.abilities == frozenset()
    assert model.limits == Limits(None, None)
    assert (model.data, model.source, model.as_of) == ("your own machines", "batcher.toml", "")


def test_anthropic_cache_writes_cost_a_quarter_more() -> None:
    model = with_models(mine={**PRICED, "provider": "anthropic"}).model("mine")
    assert model.prices.cache_write_nusd == 125_000_000


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"input": -1}, "is no price"),
        ({"input": "cheap"}, "is no price"),
        ({"output": math.inf}, "is no price"),
        ({"output": math.nan}, "is no price"),
        ({"input": 150_000_000}, "dollars per million tokens"),
        ({"cached_input": "-0.1"}, "cached_input"),
        ({"practical_context": 9000}, "does not fit a context of 8,000"),
        ({"max_output": 8001}, "max_output"),
        ({"abilities": ["vision"]}, "image_tokens"),
        ({"image_tokens": 85}, "vision"),
        ({"as_of": "20.11.2026"}, "as_of"),
        ({"provider": "nobody"}, "names the provider 'nobody'"),
        ({"id": " "}, "has no id"),
        ({"context": None}, "has no context"),
    ],
)
def test_nonsense_is_refused_by_name(table: dict[str, Any], said: str) -> None:
    with pytest.raises(CatalogError) as error:
        with_models(mine={**PRICED, **table})
    assert said in str(error.value)
    assert "mine" in str(error.value)


def test_names_have_no_spaces() -> None:
    with pytest.raises(CatalogError, match="no spaces"):
        with_models(**{"my model": PRICED})


@pytest.mark.parametrize("models", [[], ["gpt-4o", "gpt-9"]])
def test_a_tier_of_nonsense_is_refused(models: list[str]) -> None:
    with pytest.raises(CatalogError, match=r"\[tiers\] nightly"):
        load_catalog(Settings(tiers={"nightly": models}))


def test_tiers_are_replaced_or_added(built_in: Catalog) -> None:
    catalog = load_catalog(Settings(tiers={"economy": ["gpt-4o", "gpt-4o"], "nightly": ["gpt-6-luna"]}))
    assert catalog.tiers["economy"] == ("gpt-4o",)
    assert catalog.tiers["nightly"] == ("gpt-6-luna",)
    assert catalog.tiers["premium"] == built_in.tiers["premium"]


def test_an_endpoint_in_three_lines(tmp_path: Path) -> None:
    text = '[providers.gpu1]\nbase_url = "http://gpu1:8000/v1/"\napi_key_env = ""\n'
    info = from_toml(tmp_path, text).providers["gpu1"]
    assert (info.kind, info.base_url, info.api_key_env) == ("openai", "http://gpu1:8000/v1", None)
    assert info.output_limit_field == "max_tokens"


def test_a_built_in_endpoint_can_be_moved() -> None:
    info = load_catalog(Settings(providers={"openai": {"base_url": "http://proxy/v1"}})).providers["openai"]
    assert (info.base_url, info.api_key_env) == ("http://proxy/v1", "OPENAI_API_KEY")
    assert info.output_limit_field == "max_completion_tokens"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "has no base_url"),
        ({"base_url": "gpu1:8000"}, "http://"),
        ({"base_url": "http://me:sesame@gpu1/v1"}, "api_key_env"),
    ],
)
def test_an_endpoint_of_nonsense_is_refused(table: dict[str, str], said: str) -> None:
    with pytest.raises(CatalogError, match="gpu1") as error:
        load_catalog(Settings(providers={"gpu1": table}))
    assert said in str(error.value)
    assert "sesame" not in str(error.value)


def test_a_gguf_file_leads_the_local_tier() -> None:
    catalog = load_catalog(
        Settings(
            local_models={"mine": "/m/mine.gguf", "smollm2-135m": "/m/s.gguf"}, models={"mine": {"rpm": 5}}
        )
    )
    assert catalog.tiers["local"] == ("mine", "smollm2-135m", "qwen2.5-coder-1.5b")
    model = catalog.model("mine")
    assert (model.provider, model.id, model.prices.input_nusd, model.limits.rpm) == ("local", "mine", 0, 5)


def test_a_gguf_file_cannot_take_a_hosted_name() -> None:
    with pytest.raises(CatalogError, match="hosted model"):
        load_catalog(Settings(local_models={"gpt-4o": "/m/mine.gguf"}))
