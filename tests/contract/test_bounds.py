"""No vendor can bill more than was reserved: requests of all kinds, vendors' rules, the simulator's bill."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from sqlalchemy import update

from batcher.catalog.models import Catalog, Model, load_catalog
from batcher.catalog.tokens import IMAGE_TEMPLATE_TOKENS
from batcher.documents.corpus import Parsed, document_of_images, document_of_text
from batcher.domain import Document, Image, Message
from batcher.engine.binding import Binding
from batcher.engine.control import Ending
from batcher.engine.ingestion import ingest
from batcher.providers.factory import build_provider, schema_bytes_as_sent
from batcher.runtime import Runtime
from batcher.settings import Settings, load_settings
from batcher.simulator.prices import ModelPrice, PriceFile, Tokens
from batcher.simulator.requests import read_call
from batcher.store.tables import attempts
from batcher.tasks import Task
from batcher.tasks.rendering import document_messages, merge_messages, repair_messages, text_bytes
from batcher.tasks.scorers import exact
from tests.support.document_files import png
from tests.support.runs import make_job, rows, run, spent
from tests.support.vendor_server import VendorServer

LONG = {"id": "gemini-2.5-pro", "provider": "gemini", "input": 1.25, "output": 10, "cached_input": 0.125}
LONG |= {"long_from": 200_000, "long_input": 2.5, "long_output": 15, "long_cached_input": 0.25}
LONG |= {"context": 1_048_576, "practical_context": 300_000, "reasoning_beyond_limit": 32_768}
CATALOG = load_catalog(Settings(models={"gemini-2.5-pro": LONG}))
PRICES = PriceFile.load()
HOSTED = sorted(model.name for model in CATALOG.models.values() if model.provider != "local")
CACHELESS = ("anthropic", "together", "mistral")
"""Vendors that tell no cached tokens, or cache nothing unless they are asked to."""

PICTURE = Image("image/png", png(3, 3), 3, 3)


class Label(BaseModel):
    """A small answer, with words in its schema that grow when they are normalised."""

    label: str = Field(max_length=200, description="Ein Wort, « \ufdfa » oder ½")
    numbers: list[int] = Field(default=[], max_length=5)


TASK = Task(
    name="labels",
    version=1,
    prompt="Sag in einem Wort, worum es geht: \ufdfa." + " Be brief and precise." * 60,  # enough to be cached
    output=Label,
    scorer=exact,
    tier="economy",
    max_output_tokens=300,
    long_documents="merge",
)


@cache
def binding_of(name: str) -> Binding:
    model = CATALOG.model(name)
    info = CATALOG.providers[model.provider]
    spec = TASK.spec({})
    return Binding(
        spec=spec,
        model=model,
        schema_bytes=schema_bytes_as_sent(info, spec.schema) if "schema" in model.abilities else 0,
        provider=build_provider(info, "sk-none", None, max_connections=1),
        kind=info.kind,
        account="a",
        timeout_s=1.0,
    )


def price_of(model: Model) -> ModelPrice:
    price = PRICES.find(model.provider, model.id)
    assert price is not None, f"write the price of {model.id} into batcher/simulator/prices.toml"
    return price


letters = st.sampled_from(
    [
        *("loan ", "12.5% ", "\n\n", "{", "\x00", "Straße ", "naïve ", "ﬁnanzen ", "½ ", "™ "),
        *(
            "договор ",
            "συμφωνία ",
            "اتفاق ",
            "\ufdfa",
            "הסכם ",
            "สัญญา",
            "करार ",
            "合同条款",
            "契約ｶﾞ",
            "계약 ",
        ),
        *(
            "\U0001d160",
            "\u0344",
            "\u00e9\u0323",
            "\u1e9b\u0323",
            "🏦",
            "\U0001f468\u200d\U0001f469",
            "\ufb2c",
        ),
    ]
)
texts = st.builds(
    lambda words, free, times: ("".join(words) + free) * times,
    st.lists(letters, max_size=30),
    st.text(max_size=20),
    st.sampled_from([1, 1, 20, 2_000]),
)


@st.composite
def conversations(draw: st.DrawFn, sees: bool) -> tuple[tuple[Message, ...], int]:
    """Messages as the engine makes them, and the images in them."""
    spec = TASK.spec({})
    kind = draw(st.sampled_from(["document", "part", "merge", *(["images"] if sees else [])]))
    images = 0
    if kind == "merge":
        messages = merge_messages(spec, [{"label": draw(texts)} for _ in range(draw(st.integers(1, 4)))])
    elif kind == "images":
        images = draw(st.integers(1, 20))
        messages = document_messages(spec, Document(b"h" * 20, images=(PICTURE,) * images))
    else:
        part = (2, 3) if kind == "part" else None
        messages = document_messages(spec, Document(b"h" * 20, draw(texts)), part=part)
    if draw(st.booleans()):
        messages = repair_messages(messages, draw(texts), draw(texts))
    return messages, images


def most_input_tokens(binding: Binding, messages: tuple[Message, ...], output_tokens: int) -> int:
    """What the dearest tokenizer makes of the request's own bytes, as it stands or in a normal form.

    A token for every byte of texts and schema, what the simulator's vendors wrap around messages and schema,
    and for every image the most that the vendor's rule gives.
    """
    model = binding.model
    request = binding.request(messages, output_tokens, lambda: True)
    body = binding.provider._body(request)  # type: ignore[attr-defined]
    most = 0
    for form in (None, "NFC", "NFKC"):
        raw = orjson.dumps(_normalised(body, form))
        call = read_call(model.provider, "/chat", raw, {})
        assert not call.fault, call.fault
        assert call.max_output_tokens == output_tokens
        most = max(most, call.input_tokens(1, model.image_tokens + IMAGE_TEMPLATE_TOKENS))
    return most


def _normalised(value: Any, form: Any) -> Any:
    if isinstance(value, dict):
        return {name: _normalised(part, form) for name, part in value.items()}
    if isinstance(value, list):
        return [_normalised(part, form) for part in value]
    return unicodedata.normalize(form, value) if form and isinstance(value, str) else value


@pytest.mark.parametrize("name", HOSTED)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_usage_that_the_vendors_rules_allow_costs_more_than_the_reservation(
    name: str, data: st.DataObject
) -> None:
    binding = binding_of(name)
    model, price = binding.model, price_of(binding.model)
    messages, images = data.draw(conversations("vision" in model.abilities))
    output_tokens = data.draw(st.integers(1, model.max_output))
    reserved = binding.reservation_nusd(text_bytes(messages), images, output_tokens)
    most = most_input_tokens(binding, messages, output_tokens)
    threshold = price.long_from + 1
    inputs = data.draw(st.sampled_from(sorted({0, most, min(most, threshold), min(most, threshold - 1)})))
    cached = data.draw(st.integers(0, inputs))
    # Five-minute writes, or the vendor's only ones: batcher asks for no others.
    written = data.draw(st.integers(0, inputs - cached))
    outputs = data.draw(st.sampled_from([0, output_tokens, output_tokens + model.reasoning_beyond_limit]))
    for used in (
        Tokens(most, output_tokens + model.reasoning_beyond_limit),
        Tokens(inputs, outputs, cached, written),
        Tokens(inputs, outputs, 0, inputs),
    ):
        assert price.cost_nusd(used) <= reserved


@pytest.mark.parametrize("name", HOSTED)
def test_a_reservation_is_no_dearer_than_bytes_and_allowances_make_it(name: str) -> None:
    """A bound that is far too high would leave much of a cap unused."""
    binding = binding_of(name)
    model, price = binding.model, price_of(binding.model)
    messages = document_messages(binding.spec, Document(b"h" * 20, "The borrower repays the loan. " * 100))
    reserved = binding.reservation_nusd(text_bytes(messages), 0, 300)
    most = most_input_tokens(binding, messages, 300)
    allowed = Tokens(most + 256 + 768 + binding.schema_bytes, 300 + model.reasoning_beyond_limit)
    written = Tokens(allowed.input, allowed.output, 0, allowed.input)
    assert reserved <= max(price.cost_nusd(allowed), price.cost_nusd(written)) * 1.01 + 1


@pytest.mark.parametrize("name", HOSTED)
def test_a_temperature_goes_only_to_models_that_take_one(name: str) -> None:
    binding = binding_of(name)
    request = binding.request(document_messages(binding.spec, Document(b"h" * 20, "x")), 100, lambda: True)
    body = binding.provider._body(request)  # type: ignore[attr-defined]
    assert ("temperature" in body) is binding.model.takes_temperature


def all_vendors(
    home: Path, vendor: VendorServer, catalog: Catalog, *, store_url: str | None = None, **models: Any
) -> Runtime:
    """A runtime all of whose hosted providers are the loopback simulator, without limits."""
    home.mkdir(parents=True, exist_ok=True)
    paths = {
        "openai": "/v1",
        "anthropic": "",
        "together": "/together/v1",
        "groq": "/groq/openai/v1",
        "fireworks": "/fireworks/inference/v1",
        "gemini": "/gemini/v1beta/openai",
        "mistral": "/mistral/v1",
        "openrouter": "/openrouter/api/v1",
    }
    lines = []
    for name, path in paths.items():
        info = catalog.providers[name]
        lines += [f"{info.api_key_env}=sk-test", f"{info.base_url_env}={vendor.root_url}{path}"]
    env = home / "keys.env"
    env.write_text("\n".join(lines), encoding="utf-8")
    limits = {"rpm": 10_000_000, "tpm": 1_000_000_000, "rpd": 10_000_000}
    (home / "batcher.toml").write_text("", encoding="utf-8")
    tables = {
        name: {**(LONG if name == "gemini-2.5-pro" else {}), **limits, **models.get(name, {})}
        for name in HOSTED
    }
    config = home / "batcher.toml"
    return Runtime(load_settings(config, home=home, env_file=env, models=tables, database_url=store_url))


@pytest.fixture
def vendor() -> Iterator[VendorServer]:
    # Every byte is a token: the dearest possible tokenizer.
    with VendorServer(token_bytes=1, cache=True) as served:
        yield served


def corpus(model: Model) -> list[Parsed]:
    documents = {
        "plain": "The borrower repays the loan in 36 instalments. " * 20,
        "accents": "Der Kreditnehmer zahlt die Gebühren für das Darlehen: 50 €. " * 20,
        "ligatures": "\ufdfa ﬁ ½ " * 200,
        "japanese": "契約ｶﾞ満了した場合は、借入人は元本を返済する。" * 40,
        "notes": "\U0001d160" * 300,
        "thai": "ผู้กู้จะชำระคืนเงินกู้ " * 40,
        "not json": "This answer will be no JSON at first. " * 5,
        "cut": "This answer will be cut off. " * 5,
    }
    if model.prices.long is not None:
        documents["long"] = "The lender may assign this agreement. " * (model.prices.long_from // 30)
    return [Parsed(source, document_of_text(text)) for source, text in documents.items()]


@pytest.mark.parametrize(
    "name",
    [
        *("gpt-6-luna", "gpt-4o-mini", "claude-haiku-5-5", "claude-haiku-4-5", "llama-3.3-70b@together"),
        *("gpt-oss-20b@groq", "llama-3.1-8b@groq", "mistral-small-4", "gpt-oss-120b@fireworks"),
        *("gemini-2.5-flash-lite", "gemini-3.5-flash-lite", "gemini-2.5-pro", "llama-3.3-70b@openrouter"),
    ],
)
def test_a_run_never_settles_above_a_reservation(name: str, tmp_path: Path, vendor: VendorServer) -> None:
    vendor.add_fault(kind="not_json", contains="no JSON at first", times=1)
    vendor.add_fault(finish="length", text="{", contains="will be cut off", times=1)
    # One at a time, so that later calls find what earlier ones wrote to the cache.
    runtime = all_vendors(tmp_path / "home", vendor, CATALOG, **{name: {"concurrency": 1}})
    model = runtime.catalog.model(name)
    vendor.configure(image_tokens=model.image_tokens)
    documents = corpus(model)
    job = make_job(runtime, documents, task=TASK, model=name)
    if "vision" in model.abilities:
        documents.append(Parsed("picture", document_of_images([PICTURE])))
        ingest(runtime.store, job, documents[-1:], image_tier="economy")
    assert run(runtime, job.id) is Ending.IDLE
    made = rows(runtime, "attempts")
    assert len(made) >= len(documents) + 2
    assert all(row.state == "settled" and row.cost_nusd <= row.reserved_nusd for row in made)
    billed = [line for line in vendor.bill if line.billed]
    assert all(line.cost_nusd is not None for line in billed)
    assert spent(runtime) == sum(row.cost_nusd for row in made) == sum(line.cost_nusd or 0 for line in billed)
    for row in made:
        charged = model.prices.charged(row.input_tokens)
        assert (row.price_input_nusd, row.price_output_nusd) == (charged.input_nusd, charged.output_nusd)
        assert (row.price_cached_nusd, row.price_cache_write_nusd) == (
            charged.cached_nusd,
            charged.cache_write_nusd,
        )
    is_long = [row.input_tokens > model.prices.long_from for row in made if model.prices.long]
    assert any(is_long) == (model.prices.long is not None)
    assert sum(row.cached_tokens for row in made) > 0 or model.provider in CACHELESS
    runtime.store.close()


def test_an_hour_of_claudes_cache_is_reserved_for(tmp_path: Path, vendor: VendorServer) -> None:
    kept = {"extra": {"cache_control": {"type": "ephemeral", "ttl": "1h"}}, "concurrency": 1}
    runtime = all_vendors(tmp_path / "home", vendor, CATALOG, **{"claude-haiku-4-5": kept})
    job = make_job(runtime, corpus(runtime.catalog.model("claude-haiku-4-5")), model="claude-haiku-4-5")
    assert run(runtime, job.id) is Ending.IDLE
    made = rows(runtime, "attempts")
    assert sum(row.cache_write_tokens for row in made) > 1024
    assert spent(runtime) == vendor.totals()["cost_nusd"]
    assert all(row.cost_nusd <= row.reserved_nusd for row in made)
    runtime.store.close()


def test_an_attempt_keeps_the_prices_that_it_was_charged_at(
    tmp_path: Path, store_url: str, vendor: VendorServer
) -> None:
    own = {"per_request": 0.002, "long_from": 6000, "long_input": 0.3, "long_output": 1.2}
    runtime = all_vendors(tmp_path / "home", vendor, CATALOG, store_url=store_url, **{"mistral-small-4": own})
    job = make_job(runtime, {"short": "word " * 100, "long": "word " * 1_500}, model="mistral-small-4")
    assert run(runtime, job.id) is Ending.IDLE
    short, long = sorted(rows(runtime, "attempts"), key=lambda row: row.input_tokens)
    assert short.input_tokens <= 6000 < long.input_tokens
    assert (short.price_input_nusd, short.price_output_nusd) == (150_000_000, 600_000_000)
    assert (long.price_input_nusd, long.price_output_nusd) == (300_000_000, 1_200_000_000)
    assert short.price_request_nusd == long.price_request_nusd == 2_000_000
    assert short.cost_nusd == 2_000_000 + short.input_tokens * 150 + short.output_tokens * 600
    assert long.cost_nusd == 2_000_000 + long.input_tokens * 300 + long.output_tokens * 1_200
    assert spent(runtime) == short.cost_nusd + long.cost_nusd
    runtime.store.close()


@pytest.mark.over_reservation
def test_a_settlement_above_its_reservation_fails_a_test(
    tmp_path: Path, vendor: VendorServer, pytestconfig: pytest.Config
) -> None:
    """The fixture that watches every test finds one in the store it left, and in the log."""
    from tests.support.over_reservation import in_sqlite_files

    runtime = all_vendors(tmp_path / "home", vendor, CATALOG)
    job = make_job(runtime, {"a": "text"}, model="mistral-small-4")
    run(runtime, job.id)
    runtime.store.close()
    assert in_sqlite_files(tmp_path) == []
    with runtime.store.write() as connection:
        connection.execute(update(attempts).values(reserved_nusd=attempts.c.cost_nusd - 1))
    runtime.store.close()
    (fault,) = in_sqlite_files(tmp_path)
    assert "mistral-small-4" in fault
    assert any("over_reservation" in line for line in pytestconfig.getini("markers"))
