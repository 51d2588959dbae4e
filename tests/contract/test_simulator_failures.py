"""Every failure that the simulator plays, in every vendor's words, is what batcher's adapters take it for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from batcher.catalog.models import ProviderInfo
from batcher.domain import FailureClass, Finish, Message
from batcher.providers.base import ChatRequest, Completion, Provider, ProviderError
from batcher.providers.factory import build_provider
from batcher.simulator.faults import CLASSES, KINDS
from tests.support.vendor_server import VendorServer

VENDORS = {
    "openai": ProviderInfo("openai", "openai", None, None, "K", "max_completion_tokens"),
    "anthropic": ProviderInfo("anthropic", "anthropic", None, None, "K", "max_tokens"),
    "together": ProviderInfo("together", "together", None, None, "K", "max_tokens"),
    "groq": ProviderInfo("groq", "openai", None, None, "K", "max_completion_tokens"),
    "mistral": ProviderInfo("mistral", "openai", None, None, "K", "max_tokens"),
}
ERRORS = {
    "rate_limited": FailureClass.RATE_LIMITED,
    "ramp_limit": FailureClass.RATE_LIMITED,
    "overloaded": FailureClass.OVERLOADED,
    **dict.fromkeys(CLASSES["transient"], FailureClass.TRANSIENT),
    **dict.fromkeys(("reset_before", "reset_after", "hang"), FailureClass.UNKNOWN_OUTCOME),
    **dict.fromkeys(CLASSES["account"], FailureClass.ACCOUNT),
    **dict.fromkeys(CLASSES["bad_request"], FailureClass.BAD_REQUEST),
    "too_long": FailureClass.TOO_LONG,
    "blocked": FailureClass.REFUSED,
}
ANSWERS = {
    "truncated": Finish.LENGTH,
    "refusal": Finish.REFUSED,
    "filtered": Finish.REFUSED,
    **dict.fromkeys(
        ("not_json", "wrong_schema", "fenced", "empty", "null_message", "unknown_finish"), Finish.STOP
    ),
}
UNUSABLE = frozenset({"not_json", "wrong_schema", "fenced", "empty", "null_message"})
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"label": {"type": "string"}, "score": {"type": "number"}},
    "required": ["label", "score"],
}


@pytest.fixture(params=list(VENDORS))
def vendor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def provider(vendor: str, vendor_server: VendorServer) -> AsyncIterator[Provider]:
    url = getattr(vendor_server, f"{vendor}_url")
    made = build_provider(VENDORS[vendor], "sk-simulated", url, max_connections=5)
    yield made
    await made.aclose()


async def ask(provider: Provider) -> Completion:
    request = ChatRequest(
        model_id="loopback-small",
        messages=(Message("system", "Describe."), Message("user", "The quick brown fox jumps")),
        schema=SCHEMA,
        schema_name="labels",
        enforce_schema=True,
        max_output_tokens=300,
        temperature=0.0,
        timeout_s=0.4,
    )
    return await provider.complete(request)


def test_every_way_to_fail_is_tried_here() -> None:
    assert KINDS - CLASSES.keys() == ERRORS.keys() | ANSWERS.keys()


async def test_errors(provider: Provider, vendor: str, vendor_server: VendorServer) -> None:
    for kind, failure in ERRORS.items():
        vendor_server.add_fault(kind=kind, retry_after_s=3)
        with pytest.raises(ProviderError) as caught:
            await ask(provider)
        error, line = caught.value, vendor_server.bill[-1]
        assert (kind, error.failure) == (kind, failure)
        assert (line.fault, line.vendor) == (kind, vendor)
        assert line.billed is (kind in {"reset_after", "hang"})
        assert error.billed is not False or not line.billed, "what is taken for free was not charged"
        if failure is FailureClass.RATE_LIMITED:
            assert error.retry_after_s == 3
    assert (await ask(provider)).finish is Finish.STOP


async def test_answers(provider: Provider, vendor_server: VendorServer) -> None:
    for kind, finish in ANSWERS.items():
        vendor_server.add_fault(kind=kind)
        completion, line = await ask(provider), vendor_server.bill[-1]
        assert (kind, completion.finish) == (kind, finish)
        assert line.billed
        assert completion.usage is not None
        assert (completion.usage.input_tokens, completion.usage.output_tokens) == (
            line.input_tokens,
            line.output_tokens,
        )
        if kind in UNUSABLE:
            with pytest.raises((orjson.JSONDecodeError, KeyError)):
                orjson.loads(completion.text)["label"]


async def test_a_class_shows_itself_in_all_its_ways(provider: Provider, vendor_server: VendorServer) -> None:
    vendor_server.add_fault(kind="account", times=30)
    for _ in range(30):
        with pytest.raises(ProviderError) as caught:
            await ask(provider)
        assert caught.value.failure is FailureClass.ACCOUNT
    assert {line.fault for line in vendor_server.bill} == set(CLASSES["account"])


async def test_limits_are_told_and_kept(provider: Provider, vendor_server: VendorServer) -> None:
    vendor_server.limit(rpm=3, tpm=100_000)
    completions = [await ask(provider) for _ in range(3)]
    assert all("limit" in " ".join(completion.headers) for completion in completions)
    with pytest.raises(ProviderError) as caught:
        await ask(provider)
    assert (caught.value.failure, caught.value.status) == (FailureClass.RATE_LIMITED, 429)
    assert caught.value.retry_after_s is not None
    assert 15 < caught.value.retry_after_s <= 21
    vendor_server.limit(rpm=6_000)
    vendor_server.wait_for_calls(4)


@pytest.mark.parametrize("vendor", ["openai", "groq"], indirect=True)
async def test_a_request_larger_than_a_whole_limit_is_too_long_and_no_waiting_is_asked(
    provider: Provider, vendor_server: VendorServer
) -> None:
    vendor_server.limit(tpm=5)
    with pytest.raises(ProviderError) as caught:
        await ask(provider)
    assert (caught.value.failure, caught.value.status) == (FailureClass.TOO_LONG, 429)
    assert caught.value.retry_after_s is None
