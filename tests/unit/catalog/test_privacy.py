"""Where a model answers, and which places a task's privacy allows."""

from __future__ import annotations

import dataclasses
import tomllib
from importlib.resources import files

import pytest

from batcher.catalog.models import Catalog, load_catalog
from batcher.catalog.privacy import VENDORS, Place, Privacy, place_of
from batcher.settings import ModelSettings, ProviderSettings, Settings


def catalog_with(base_url: str, **model: str) -> Catalog:
    """The built-in catalogue with a model of one's own at ``base_url``."""
    own = ModelSettings(provider="gpu", id="llama", input=0, output=0, context=32_000, **model)
    return load_catalog(
        Settings.model_construct(models={"own": own}, providers={"gpu": ProviderSettings(base_url=base_url)})
    )


@pytest.mark.parametrize(
    ("base_url", "data", "place"),
    [
        ("http://127.0.0.1:8000/v1", None, Place.MACHINE),
        ("http://localhost:8000/v1", None, Place.MACHINE),
        ("http://[::1]:8000/v1", None, Place.MACHINE),
        ("http://gpu1:8000/v1", None, Place.NETWORK),
        ("http://10.1.2.3/v1", None, Place.NETWORK),
        ("http://192.168.7.7/v1", "a box under the desk", Place.NETWORK),
        ("http://llm.corp.internal/v1", None, Place.NETWORK),
        ("https://llm.example.com/v1", None, Place.VENDOR),
        ("https://8.8.8.8/v1", None, Place.VENDOR),
        ("https://llm.example.com/v1", "your own machines", Place.DECLARED),
    ],
)
def test_an_endpoint_of_ones_own_is_known_by_its_address(
    base_url: str, data: str | None, place: Place
) -> None:
    catalog = catalog_with(base_url, **({"data": data} if data else {}))
    assert place_of(catalog.models["own"], catalog.providers["gpu"]) is place


def test_every_provider_of_the_catalogue_with_a_key_is_a_vendor() -> None:
    tables = tomllib.loads(files("batcher.catalog").joinpath("providers.toml").read_text("utf-8"))
    assert {name for name, table in tables.items() if "api_key_env" in table} == VENDORS


def test_a_vendor_stays_one_behind_a_gateway_and_vllm_moved_out_is_one() -> None:
    catalog = catalog_with("http://gpu1/v1")
    gateway = "http://127.0.0.1:4000/v1"
    openai = catalog.providers["openai"]
    assert place_of(catalog.models["gpt-4o"], openai, gateway) is Place.VENDOR
    local = catalog.models["smollm2-135m"]
    assert place_of(local, catalog.providers["local"]) is Place.MACHINE
    served = dataclasses.replace(catalog.models["own"], provider="vllm", data="your own machines")
    assert place_of(served, catalog.providers["vllm"]) is Place.MACHINE
    assert place_of(served, catalog.providers["vllm"], "https://rented.example.com/v1") is Place.VENDOR


@pytest.mark.parametrize(
    ("privacy", "places"),
    [
        (Privacy.STANDARD, set(Place)),
        (Privacy.STRICT, {Place.MACHINE, Place.NETWORK, Place.DECLARED}),
        (Privacy.AIR_GAPPED, {Place.MACHINE, Place.NETWORK}),
    ],
)
def test_what_privacy_allows(privacy: Privacy, places: set[Place]) -> None:
    assert {place for place in Place if privacy.allows(place)} == places
