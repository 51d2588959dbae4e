"""The last look before a call leaves: after the connection is there, before its first byte, on every SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from batcher.catalog.models import ProviderInfo
from batcher.domain import Message
from batcher.providers.base import ChatRequest, NotSentError, Provider
from batcher.providers.factory import build_provider
from tests.support.vendor_server import VendorServer

KINDS = {
    "openai": ProviderInfo("openai", "openai", None, None, "K", "max_completion_tokens"),
    "together": ProviderInfo("together", "together", None, None, "K", "max_tokens"),
    "anthropic": ProviderInfo("anthropic", "anthropic", None, None, "K", "max_tokens"),
}


class Leave:
    """Answers as told, and notes how often it was asked."""

    def __init__(self, *, given: bool) -> None:
        self.given = given
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.given


def request(may_leave: Leave, text: str = "The quick brown fox") -> ChatRequest:
    return ChatRequest(
        model_id="loopback-small",
        messages=(Message("user", text),),
        schema=None,
        schema_name="",
        enforce_schema=False,
        max_output_tokens=50,
        temperature=None,
        timeout_s=10,
        may_leave=may_leave,
    )


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def provider_at(kind: str, root_url: str) -> AsyncIterator[Provider]:
    path = {"openai": "/v1", "together": "/together/v1", "anthropic": ""}[kind]
    made = build_provider(KINDS[kind], "sk-test", f"{root_url}{path}", max_connections=4)
    try:
        yield made
    finally:
        await made.aclose()


async def test_a_call_without_leave_makes_its_connection_and_sends_no_byte(kind: str) -> None:
    received: list[bytes] = []
    gone = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read())
        writer.close()
        gone.set()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    leave = Leave(given=False)
    async with server, provider_at(kind, f"http://127.0.0.1:{port}") as provider:
        with pytest.raises(NotSentError, match="lease"):
            await provider.complete(request(leave))
        await asyncio.wait_for(gone.wait(), 10)
    assert received == [b""]
    assert leave.asked == 1


async def test_leave_is_asked_for_on_connections_used_before_and_the_next_call_is_well(
    kind: str, vendor_server: VendorServer
) -> None:
    async with provider_at(kind, vendor_server.root_url) as provider:
        first, late, last = Leave(given=True), Leave(given=False), Leave(given=True)
        await provider.complete(request(first, "one"))
        with pytest.raises(NotSentError):
            await provider.complete(request(late, "two"))
        completion = await provider.complete(request(last, "three"))
    assert completion.usage is not None
    assert [line.billed for line in vendor_server.bill] == [True, True]
    assert (first.asked, late.asked, last.asked) == (1, 1, 1)


async def test_calls_under_way_at_once_each_ask_for_their_own(kind: str, vendor_server: VendorServer) -> None:
    leaves = [Leave(given=number % 2 == 0) for number in range(20)]
    async with provider_at(kind, vendor_server.root_url) as provider:
        outcomes = await asyncio.gather(
            *(provider.complete(request(leave, f"text {leave.given}")) for leave in leaves),
            return_exceptions=True,
        )
    assert [isinstance(outcome, NotSentError) for outcome in outcomes] == [
        not leave.given for leave in leaves
    ]
    assert len(vendor_server.bill) == 10
