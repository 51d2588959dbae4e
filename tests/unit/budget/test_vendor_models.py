"""Which model a vendor's name means."""

from __future__ import annotations

import pytest

from batcher.budget.vendor_models import VendorModels
from batcher.catalog.models import Catalog, load_catalog
from batcher.settings import ModelSettings, Settings


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    own = ModelSettings(provider="openai", id="gpt-4o-mini-2030-01-01", input=1, output=1, context=1000)
    return load_catalog(Settings.model_construct(models={"my-mini": own}))


@pytest.mark.parametrize(
    ("provider", "spelling", "vendors_id"),
    [
        ("openai", "gpt-4.1-mini-2025-04-14", "gpt-4.1-mini-2025-04-14"),
        ("openai", "gpt-4.1-mini", "gpt-4.1-mini-2025-04-14"),
        ("openai", "my-mini", "gpt-4o-mini-2030-01-01"),
        ("openai", "gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
        ("anthropic", "Claude Haiku 4.5", "claude-haiku-4-5-20251001"),
        ("anthropic", "claude-sonnet-4-6", "claude-sonnet-4-6"),
        ("together", "Llama 3.3 70B Instruct Turbo", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        ("together", "llama-3.3-70b", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        ("groq", "llama-3.3-70b", "llama-3.3-70b-versatile"),
        ("openai", "gone-model", "gone-model"),
        ("openai", "dall-e-3", None),
        ("openai", "", None),
    ],
)
def test_a_name_is_found(catalog: Catalog, provider: str, spelling: str, vendors_id: str | None) -> None:
    models = VendorModels(catalog, provider, ["gone-model"])
    assert models.find(spelling) == vendors_id


def test_a_name_that_could_mean_two_models_means_neither() -> None:
    def own(vendors_id: str) -> ModelSettings:
        return ModelSettings(provider="openai", id=vendors_id, input=1, output=1, context=1000)

    catalog = load_catalog(
        Settings.model_construct(models={"a": own("house-1-2030-01-01"), "b": own("house-1-2031-01-01")})
    )
    models = VendorModels(catalog, "openai", [])
    assert models.find("house-1") is None
    assert models.find("house-1-2031-01-01") == "house-1-2031-01-01"
    assert models.id_of("a") == "house-1-2030-01-01"
