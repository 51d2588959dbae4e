"""Whether a call without an answer may have cost something: it did not if it was seen not to leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
import pytest

from batcher.domain import FailureClass, Message
from batcher.providers.base import ChatRequest, ProviderError
from batcher.providers.fence import leave
from batcher.providers.openai_chat import OpenAIChat

ANSWER = orjson.dumps({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]})


@dataclass
class Response:
    status_code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = ANSWER


Step = Callable[[], Awaitable[Response]]


class Line:
    """An HTTP client that does one step after the other."""

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)

    def build_request(
        self, method: str, url: str, *, content: bytes | None = None, headers: Any = None
    ) -> None:
        return None

    async def send(self, request: Any) -> Response:
        return await self._steps.pop(0)()


async def answered() -> Response:
    leave()
    return Response()


async def answered_unseen() -> Response:
    return Response()


async def stuck_before() -> Response:
    await asyncio.sleep(60)
    raise AssertionError


async def stuck_after() -> Response:
    leave()
    return await stuck_before()


async def broken_before() -> Response:
    raise aiohttp.ServerDisconnectedError


async def broken_after() -> Response:
    leave()
    raise aiohttp.ServerDisconnectedError


REQUEST = ChatRequest(
    model_id="m",
    messages=(Message("user", "x"),),
    schema=None,
    schema_name="",
    enforce_schema=False,
    max_output_tokens=5,
    temperature=None,
    timeout_s=0.05,
)


@pytest.fixture
async def provider() -> AsyncIterator[OpenAIChat]:
    made = OpenAIChat("http://127.0.0.1:9", None, limit_field="max_tokens", strict=False, max_connections=1)
    yield made
    await made.aclose()


async def outcome_after(provider: OpenAIChat, *steps: Step) -> tuple[FailureClass, bool | None]:
    """The last step's failure, after all steps before it."""
    provider.send_through(Line(*steps))
    for _ in steps[:-1]:
        await provider.complete(REQUEST)
    with pytest.raises(ProviderError) as caught:
        await provider.complete(REQUEST)
    return caught.value.failure, caught.value.billed


@pytest.mark.parametrize("step", [stuck_before, broken_before])
async def test_what_was_seen_not_to_leave_costs_nothing(provider: OpenAIChat, step: Step) -> None:
    assert await outcome_after(provider, answered, step) == (FailureClass.TRANSIENT, False)


@pytest.mark.parametrize("step", [stuck_after, broken_after])
async def test_what_left_may_have_cost_something(provider: OpenAIChat, step: Step) -> None:
    assert await outcome_after(provider, answered, step) == (FailureClass.UNKNOWN_OUTCOME, None)


@pytest.mark.parametrize("step", [stuck_before, broken_before])
async def test_nothing_is_believed_before_a_call_was_seen_to_leave(provider: OpenAIChat, step: Step) -> None:
    assert await outcome_after(provider, step) == (FailureClass.UNKNOWN_OUTCOME, None)


@pytest.mark.parametrize("before", [[answered_unseen], [answered, answered_unseen, answered]])
async def test_nothing_is_believed_of_an_sdk_whose_calls_leave_unseen(
    provider: OpenAIChat, before: list[Step]
) -> None:
    assert await outcome_after(provider, *before, stuck_before) == (FailureClass.UNKNOWN_OUTCOME, None)
