"""The vendors' adapters over the simulator: the vendor's own bodies and words, on the loop's time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import Any, TypeVar

import pytest

from batcher.catalog.models import Catalog, load_catalog
from batcher.dispatch.virtual_time import VirtualTimeLoop
from batcher.domain import FailureClass, Finish, Message
from batcher.errors import ConfigurationError
from batcher.providers.base import ChatRequest, Completion, Provider, ProviderError
from batcher.providers.simulated import simulated_provider, simulated_vendor
from batcher.settings import Settings
from batcher.simulator.core import Simulator, SimulatorConfig

EPOCH = 2_500_000_000.0
"""Far from the clock of any machine that runs this."""

MODELS = {
    "openai": "gpt-4o-mini",
    "anthropic": "claude-haiku-4-5",
    "together": "llama-3.3-70b@together",
    "groq": "llama-3.3-70b@groq",
    "mistral": "mistral-small-4",
}
SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string", "maxLength": 40}},
    "required": ["label"],
    "additionalProperties": False,
}

T = TypeVar("T")


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(Settings.model_construct())


def with_provider(
    catalog: Catalog, name: str, simulator: Simulator, use: Callable[[Provider], Coroutine[Any, Any, T]]
) -> T:
    async def main() -> T:
        provider = simulated_provider(catalog.providers[name], simulator, EPOCH, max_connections=4)
        try:
            return await use(provider)
        finally:
            await provider.aclose()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main())


def request(catalog: Catalog, name: str, *, text: str = "Rivers.", timeout_s: float = 120.0) -> ChatRequest:
    model = catalog.models[MODELS[name]]
    return ChatRequest(
        model_id=model.id,
        messages=(Message("system", "Label it."), Message("user", text)),
        schema=SCHEMA,
        schema_name="label",
        enforce_schema="schema" in model.abilities,
        max_output_tokens=50,
        temperature=0.0,
        timeout_s=timeout_s,
        extra=model.extra,
    )


def failure(catalog: Catalog, name: str, simulator: Simulator, timeout_s: float = 120.0) -> ProviderError:
    async def use(provider: Provider) -> ProviderError:
        with pytest.raises(ProviderError) as caught:
            await provider.complete(request(catalog, name, timeout_s=timeout_s))
        return caught.value

    return with_provider(catalog, name, simulator, use)


@pytest.mark.parametrize("name", MODELS)
def test_an_answer_takes_its_time_and_is_read_and_billed_alike(catalog: Catalog, name: str) -> None:
    simulator = Simulator(SimulatorConfig(latency_s=7.5, schema=SCHEMA))

    async def use(provider: Provider) -> tuple[Completion, float]:
        return await provider.complete(request(catalog, name)), asyncio.get_running_loop().time()

    completion, seconds = with_provider(catalog, name, simulator, use)
    assert seconds == pytest.approx(7.5)
    assert completion.finish is Finish.STOP
    assert completion.text.startswith('{"label":')
    [line] = simulator.bill.lines()
    assert (line.vendor, line.sent, line.status) == (name, True, 200)
    assert (line.arrived_at, line.answered_at) == (EPOCH, EPOCH + 7.5)
    assert completion.usage is not None
    assert (completion.usage.input_tokens, completion.usage.output_tokens) == (
        line.input_tokens,
        line.output_tokens,
    )
    assert completion.request_id == line.request_id


@pytest.mark.parametrize("name", MODELS)
def test_a_limit_is_met_in_the_vendors_own_words(catalog: Catalog, name: str) -> None:
    simulator = Simulator(SimulatorConfig())
    simulator.limits.change({"vendor": name, "rpm": 60, "tpm": 1_000_000, "burst_s": 1.0})

    async def use(provider: Provider) -> tuple[Completion, ProviderError]:
        first = await provider.complete(request(catalog, name))
        with pytest.raises(ProviderError) as caught:
            await provider.complete(request(catalog, name))
        return first, caught.value

    first, error = with_provider(catalog, name, simulator, use)
    assert any("limit" in header for header in first.headers)
    assert (error.status, error.failure, error.billed) == (429, FailureClass.RATE_LIMITED, False)
    if name != "mistral":  # which alone does not say how long
        assert error.retry_after_s == pytest.approx(1.0, abs=0.1)


def test_a_wait_told_as_a_date_counts_from_the_virtual_clock(catalog: Catalog) -> None:
    simulator = Simulator()
    date = formatdate(EPOCH + 42, usegmt=True)
    simulator.faults.add([{"status": 429, "headers": {"retry-after": date}}])
    error = failure(catalog, "openai", simulator)
    assert error.retry_after_s == pytest.approx(42, abs=1)


@pytest.mark.parametrize("way", ["reset_before", "reset_after"])
def test_a_broken_connection_has_an_unknown_outcome(catalog: Catalog, way: str) -> None:
    simulator = Simulator()
    simulator.faults.add([{"kind": way}])
    error = failure(catalog, "anthropic", simulator)
    assert (error.failure, error.billed, error.status) == (FailureClass.UNKNOWN_OUTCOME, None, None)
    totals = simulator.bill.totals()
    assert (totals["calls"], totals["finished"], totals["sent"]) == (1, 1, 0)
    assert totals["billed"] == (way == "reset_after")


@pytest.mark.parametrize("fault", [{"kind": "hang"}, {"delay_s": 500.0}])
def test_a_call_ends_at_its_timeout_and_the_vendor_charges_all_the_same(
    catalog: Catalog, fault: dict[str, Any]
) -> None:
    simulator = Simulator()
    simulator.faults.add([fault])

    async def use(provider: Provider) -> tuple[FailureClass, float]:
        with pytest.raises(ProviderError) as caught:
            await provider.complete(request(catalog, "together", timeout_s=90.0))
        return caught.value.failure, asyncio.get_running_loop().time()

    assert with_provider(catalog, "together", simulator, use) == (FailureClass.UNKNOWN_OUTCOME, 90.0)
    totals = simulator.bill.totals()
    assert (totals["billed"], totals["finished"], totals["sent"]) == (1, 1, 0)


def test_every_kind_has_the_name_that_the_simulator_knows(catalog: Catalog) -> None:
    named = {name: simulated_vendor(info) for name, info in catalog.providers.items()}
    assert named["groq"] == "groq"
    assert (named["openai"], named["anthropic"], named["together"]) == ("openai", "anthropic", "together")


def test_the_local_tier_is_refused(catalog: Catalog) -> None:
    with pytest.raises(ConfigurationError, match="runs on this machine"):
        simulated_provider(catalog.providers["local"], Simulator(), EPOCH, max_connections=1)
