# ruff: noqa: E501 - one shape a line
"""Answers in the shapes that vendors, gateways and proxies really send, through the adapters, over real HTTP.

The facts (status, fields, spellings) are those of recorded answers and vendors' pages; the texts are our own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from batcher.catalog.models import ProviderInfo
from batcher.domain import FailureClass as F
from batcher.domain import Finish, Message, Usage
from batcher.providers.base import ChatRequest, Completion, Provider, ProviderError
from batcher.providers.factory import build_provider
from batcher.simulator.faults import Fault
from tests.support.vendor_server import VendorServer

KINDS = ("openai", "anthropic", "together")
Body = Any


@pytest.fixture
async def providers(vendor_server: VendorServer) -> AsyncIterator[dict[str, Provider]]:
    made = {
        kind: build_provider(
            ProviderInfo(kind, kind, None, None, "K", "max_tokens"),
            "sk-secret-of-the-account",
            getattr(vendor_server, f"{kind}_url"),
            max_connections=2,
        )
        for kind in KINDS
    }
    yield made
    for provider in made.values():
        await provider.aclose()


class Shapes:
    """Asks an adapter, and has the vendor answer with a given shape."""

    def __init__(self, providers: dict[str, Provider], vendor: VendorServer) -> None:
        self._providers = providers
        self._vendor = vendor

    async def completion(self, kind: str, body: Body, headers: dict[str, str] | None = None) -> Completion:
        self._vendor.on_call(lambda _: Fault(status=200, body=body, headers=headers or {}))
        request = ChatRequest("m", (Message("user", "x"),), None, "x", False, 100, 0.0, 10.0)
        return await self._providers[kind].complete(request)

    async def error(
        self, kind: str, status: int, body: Body, headers: dict[str, str] | None = None
    ) -> ProviderError:
        self._vendor.on_call(lambda _: Fault(status=status, body=body, headers=headers or {}))
        request = ChatRequest("m", (Message("user", "x"),), None, "x", False, 100, 0.0, 10.0)
        with pytest.raises(ProviderError) as caught:
            await self._providers[kind].complete(request)
        assert "sk-secret" not in caught.value.message
        return caught.value


@pytest.fixture
def shapes(providers: dict[str, Provider], vendor_server: VendorServer) -> Shapes:
    return Shapes(providers, vendor_server)


def chat(message: Any, finish: Any = "stop", **usage: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "m-2026",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27} | usage,
    }


def said(text: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, "refusal": None} | fields


def claude(content: list[Any], stop: str = "end_turn", **fields: Any) -> dict[str, Any]:
    usage = {
        "input_tokens": 20,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 7,
    }
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "m-2026", "content": content,
            "stop_reason": stop, "stop_sequence": None, "usage": usage | fields.pop("usage", {})} | fields  # fmt: skip


BLOCK = {"type": "text", "text": "yes"}
PLAIN = Usage(20, 0, 0, 7, 0)

COMPLETIONS: list[tuple[str, str, Body, str, Finish, Usage | None]] = [
    ("plain", "openai", chat(said("yes")), "yes", Finish.STOP, PLAIN),
    ("null content", "openai", chat(said(None)), "", Finish.STOP, PLAIN),
    ("no message", "openai", chat(None), "", Finish.STOP, PLAIN),
    ("eos", "together", chat(said("yes"), "eos"), "yes", Finish.STOP, PLAIN),
    ("no finish", "together", chat(said("yes"), None), "yes", Finish.STOP, PLAIN),
    ("length", "openai", chat(said("ye"), "length"), "ye", Finish.LENGTH, PLAIN),
    ("cut before a word (gemini)", "openai", chat({"role": "assistant"}, "length"), "", Finish.LENGTH, PLAIN),
    ("COMPLETE (cohere)", "openai", chat(said("yes"), "COMPLETE"), "yes", Finish.STOP, PLAIN),
    ("MAX_TOKENS (cohere)", "openai", chat(said("ye"), "MAX_TOKENS"), "ye", Finish.LENGTH, PLAIN),
    ("text completion (together)", "together", {"choices": [{"text": "ye", "finish_reason": "length"}],
     "usage": {"prompt_tokens": 20, "completion_tokens": 7}}, "ye", Finish.LENGTH, PLAIN),
    ("refusal", "openai", chat(said(None, refusal="no")), "no", Finish.REFUSED, PLAIN),
    ("filtered, no message (azure)", "openai", {"choices": [{"finish_reason": "content_filter", "index": 0,
     "content_filter_results": {"hate": {"filtered": True}}}], "usage": {"prompt_tokens": 20, "completion_tokens": 7}},
     "", Finish.REFUSED, PLAIN),
    ("filtered for a reason (gemini)", "openai", chat(said(None), "content_filter: PROHIBITED_CONTENT"), "", Finish.REFUSED, PLAIN),
    ("RECITATION (gemini)", "openai", chat(said(None), "RECITATION"), "", Finish.REFUSED, PLAIN),
    ("tool calls only", "openai", chat(said(None, tool_calls=[{"id": "c", "type": "function",
     "function": {"name": "f", "arguments": "{}"}}]), "tool_calls"), "", Finish.STOP, PLAIN),
    ("parts, thinking left out (mistral)", "openai", chat(said([{"type": "thinking", "thinking": [{"type": "text",
     "text": "hm"}]}, {"type": "text", "text": "yes"}])), "yes", Finish.STOP, PLAIN),
    ("cached", "openai", chat(said("yes"), prompt_tokens_details={"cached_tokens": 12}), "yes", Finish.STOP, Usage(20, 12, 0, 7, 0)),
    ("null details", "openai", chat(said("yes"), prompt_tokens_details=None), "yes", Finish.STOP, PLAIN),
    ("reasoning within", "openai", chat(said("yes"), completion_tokens_details={"reasoning_tokens": 5}), "yes", Finish.STOP, Usage(20, 0, 0, 7, 5)),
    ("reasoning beside (xai, gemini)", "openai", chat(said("yes"), total_tokens=90, completion_tokens_details={"reasoning_tokens": 63}),
     "yes", Finish.STOP, Usage(20, 0, 0, 70, 63)),
    ("usage null", "openai", chat(said("yes")) | {"usage": None}, "yes", Finish.STOP, None),
    ("usage with times (groq)", "openai", chat(said("yes"), queue_time=0.09, prompt_time=0.002), "yes", Finish.STOP, PLAIN),
    ("byte order mark", "openai", b'\xef\xbb\xbf{"choices":[{"message":{"content":"yes"}}]}', "yes", Finish.STOP, None),
    ("latin-1", "openai", '{"choices":[{"message":{"content":"caf\xe9"}}]}'.encode("latin-1"), "caf\xe9", Finish.STOP, None),
    ("claude", "anthropic", claude([BLOCK]), "yes", Finish.STOP, PLAIN),
    ("claude stop sequence", "anthropic", claude([BLOCK], "stop_sequence"), "yes", Finish.STOP, PLAIN),
    ("claude cut", "anthropic", claude([BLOCK], "max_tokens"), "yes", Finish.LENGTH, PLAIN),
    ("claude context full", "anthropic", claude([BLOCK], "model_context_window_exceeded"), "yes", Finish.LENGTH, PLAIN),
    ("claude refuses", "anthropic", claude([], "refusal", stop_details={"explanation": "blocked"}), "blocked", Finish.REFUSED, PLAIN),
    ("claude refuses without a word", "anthropic", claude([], "refusal"), "", Finish.REFUSED, PLAIN),
    ("claude tool use", "anthropic", claude([BLOCK, {"type": "tool_use", "id": "t", "name": "f", "input": {}}], "tool_use"),
     "yes", Finish.STOP, PLAIN),
    ("claude thinks", "anthropic", claude([{"type": "thinking", "thinking": "hm", "signature": "s"}, BLOCK]), "yes", Finish.STOP, PLAIN),
    ("claude cache", "anthropic", claude([BLOCK], usage={"cache_creation_input_tokens": 50, "cache_read_input_tokens": 30,
     "cache_creation": {"ephemeral_5m_input_tokens": 50, "ephemeral_1h_input_tokens": 0}}), "yes", Finish.STOP, Usage(100, 30, 50, 7, 0)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind", "body", "text", "finish", "usage"), COMPLETIONS, ids=[row[0] for row in COMPLETIONS]
)
async def test_answers(
    shapes: Shapes, name: str, kind: str, body: Body, text: str, finish: Finish, usage: Usage | None
) -> None:
    read = await shapes.completion(kind, body, {"x-ratelimit-limit-requests": "9"})
    assert (read.text, read.finish, read.usage) == (text, finish, usage)
    assert read.headers["x-ratelimit-limit-requests"] == "9"


STREAM = (
    b'data: {"object":"chat.completion.chunk","choices":[{"delta":{"content":"Hi"}}]}\n\ndata: [DONE]\n\n'
)
NO_ANSWERS: list[tuple[str, Body]] = [
    ("a stream", STREAM),
    ("JSON lines of a batch", b'{"custom_id":"0","result":{}}\n{"custom_id":"1","result":{}}\n'),
    ("a batch", {"id": "batch_1", "object": "batch", "status": "completed", "error": None, "errors": None}),
    ("a message batch", {"id": "msgbatch_1", "type": "message_batch", "processing_status": "ended"}),
    ("a line of a batch's output", {"custom_id": "a", "response": {"status_code": 200, "body": {}}, "error": None}),
    ("a line of a batch's errors", {"custom_id": "a", "response": None, "error": {"code": "batch_expired", "message": "late"}}),
    ("a file", {"object": "file", "id": "file-1", "purpose": "batch"}),
    ("a token count", {"input_tokens": 43}),
    ("a list", [{"choices": []}]),
    ("a number", 7),
    ("null", b"null"),
    ("nothing", b""),
    ("no choices", {"object": "chat.completion", "choices": []}),
    ("choices null", {"object": "chat.completion", "choices": None}),
    ("Gemini's own format", {"candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}]}),
    ("a login page", b"<!doctype html><title>Sign in</title><p>Please sign in</p>"),
    ("half an answer", b'{"id":"chatcmpl-1","choices":[{"message":{"content":"ye'),
    ("bytes", bytes(range(128, 256))),
]  # fmt: skip


@pytest.mark.parametrize(("name", "body"), NO_ANSWERS, ids=[row[0] for row in NO_ANSWERS])
async def test_what_is_no_answer_is_an_error_that_may_have_cost(
    shapes: Shapes, name: str, body: Body
) -> None:
    for kind in KINDS:
        error = await shapes.error(kind, 200, body)
        assert (error.failure, error.billed, error.status) == (F.UNKNOWN_OUTCOME, None, 200)
        assert error.message.startswith("HTTP 200, but ")


ERRORS_INSIDE: list[tuple[str, Body, F, bool | None]] = [
    ("no capacity upstream", {"error": {"code": 502, "message": "Provider returned error"}}, F.TRANSIENT, None),
    ("code as text", {"error": {"code": "429", "message": "slow down"}}, F.RATE_LIMITED, False),
    ("no credit", {"error": {"code": 402, "message": "Insufficient credits"}}, F.ACCOUNT, False),
    ("broken off", chat(said("ye"), "error"), F.UNKNOWN_OUTCOME, None),
    ("broken off, with why", {"choices": [{"message": said("ye"), "finish_reason": "error",
     "error": {"code": 503, "message": "overloaded"}}]}, F.OVERLOADED, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "body", "failure", "billed"), ERRORS_INSIDE, ids=[row[0] for row in ERRORS_INSIDE]
)
async def test_errors_inside_a_200(
    shapes: Shapes, name: str, body: Body, failure: F, billed: bool | None
) -> None:
    error = await shapes.error("openai", 200, body)
    assert (error.failure, error.billed) == (failure, billed)


def page(status: int, title: str) -> bytes:
    return f"<html><head><title>{title}</title><style>p {{}}</style></head><body><h1>{status}</h1></body></html>".encode()


def azure(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


ERRORS: list[tuple[str, int, Body, dict[str, str], F]] = [
    ("azure wait", 429, azure("429", "Requests have exceeded the token rate limit of your tier. Please retry after 24 seconds."), {}, F.RATE_LIMITED),
    ("azure key", 401, azure("401", "Access denied due to invalid subscription key"), {}, F.ACCOUNT),
    ("azure deployment", 404, azure("DeploymentNotFound", "The API deployment does not exist."), {}, F.BAD_REQUEST),
    ("azure path", 404, {"statusCode": 404, "message": "Resource not found"}, {}, F.BAD_REQUEST),
    ("azure filter", 400, {"error": {"code": "x", "message": "m", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, {}, F.REFUSED),
    ("azure timeout", 408, azure("Timeout", "The operation was timeout."), {}, F.TRANSIENT),
    ("bedrock throttles", 429, {"message": "Too many tokens, please wait before trying again."}, {}, F.RATE_LIMITED),
    ("bedrock throttles with 400", 400, {"message": "Rate exceeded"}, {"x-amzn-errortype": "ThrottlingException:http://internal"}, F.RATE_LIMITED),
    ("bedrock throttles in the body", 400, {"__type": "ThrottlingException", "message": "Rate exceeded"}, {}, F.RATE_LIMITED),
    ("bedrock token", 403, {"message": "The security token included in the request is expired"}, {}, F.ACCOUNT),
    ("bedrock token with 400", 400, {"message": "The security token included in the request is invalid."}, {}, F.ACCOUNT),
    ("bedrock long", 400, {"message": "Input is too long for requested model."}, {}, F.TOO_LONG),
    ("bedrock input", 400, {"message": "Malformed input request: extraneous key"}, {}, F.BAD_REQUEST),
    ("bedrock model error", 424, {"message": "The model failed", "originalStatusCode": 500}, {}, F.TRANSIENT),
    ("bedrock down", 503, {"message": "unable to process your request"}, {}, F.OVERLOADED),
    ("vertex exhausted", 429, {"error": {"code": 429, "message": "Resource exhausted.", "status": "RESOURCE_EXHAUSTED"}}, {}, F.RATE_LIMITED),
    ("vertex long", 400, {"error": {"code": 400, "message": "The input token count (12) exceeds the maximum number of tokens allowed (8).", "status": "INVALID_ARGUMENT"}}, {}, F.TOO_LONG),
    ("gemini key expired", 400, [{"error": {"code": 400, "message": "API key expired. Please renew the API key."}}], {}, F.ACCOUNT),
    ("gemini busy", 503, {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}, {}, F.OVERLOADED),
    ("cohere trial", 429, {"message": "You are using a Trial key, which is limited to 40 API calls / minute."}, {}, F.RATE_LIMITED),
    ("cohere trial is over", 429, {"message": "You are using a Trial key, which is limited to 1000 API calls / month."}, {}, F.ACCOUNT),
    ("cohere long", 400, {"error_type": "TOO_MANY_TOKENS", "message": "too many tokens: size limit exceeded by 9 tokens."}, {}, F.TOO_LONG),
    ("openrouter credit", 402, {"error": {"code": 402, "message": "This request requires more credits, or fewer max_tokens."}}, {}, F.ACCOUNT),
    ("openrouter nobody", 503, {"error": {"code": 503, "message": "No available model provider"}}, {}, F.OVERLOADED),
    ("deepinfra busy", 429, {"detail": {"error": "Model busy, retry later"}}, {}, F.OVERLOADED),
    ("deepinfra validation", 422, {"detail": [{"loc": ["body", "n"], "msg": "value error"}]}, {}, F.BAD_REQUEST),
    ("fireworks suspended", 412, {"error": {"message": "Account x is suspended, possibly due to unpaid invoices"}}, {}, F.ACCOUNT),
    ("fireworks long", 400, {"error": {"message": "The prompt is too long: 9, model maximum context length: 8"}}, {}, F.TOO_LONG),
    ("together long as 403", 403, {"error": {"message": "Input token count + max_tokens must be less than the context length"}}, {}, F.TOO_LONG),
    ("together endpoint", 400, {"error": {"message": "The dedicated endpoint is not running", "code": "dedicated_endpoint_not_running"}}, {}, F.BAD_REQUEST),
    ("groq flex", 498, {"error": {"message": "Flex tier capacity exceeded", "type": "x"}}, {}, F.OVERLOADED),
    ("groq restricted", 400, {"error": {"message": "Organization has been restricted.", "code": "organization_restricted"}}, {}, F.ACCOUNT),
    ("cerebras queue", 429, {"message": "We're experiencing high traffic right now!", "code": "queue_exceeded"}, {}, F.OVERLOADED),
    ("cerebras rate", 429, {"message": "Requests per minute limit exceeded", "code": "request_quota_exceeded"}, {}, F.RATE_LIMITED),
    ("xai credit", 403, {"code": "x", "error": "Your team has used all available credits."}, {}, F.ACCOUNT),
    ("xai long", 400, {"code": "x", "error": "This model's maximum prompt length is 8 but the request contains 9 tokens."}, {}, F.TOO_LONG),
    ("xai safety", 403, {"code": "x", "error": "Content violates usage guidelines."}, {}, F.REFUSED),
    ("deepseek credit", 402, {"error": {"message": "Insufficient Balance", "code": "invalid_request_error"}}, {}, F.ACCOUNT),
    ("nim", 403, {"type": "urn:x", "title": "Forbidden", "status": 403, "detail": "Authorization failed"}, {}, F.ACCOUNT),
    ("vllm long", 400, {"error": {"message": "This model's maximum context length is 8 tokens.", "type": "BadRequestError", "code": 400}}, {}, F.TOO_LONG),
    ("vllm model", 404, {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}, {}, F.BAD_REQUEST),
    ("vllm broke", 500, {"object": "error", "message": "", "type": "InternalServerError", "code": 500}, {}, F.TRANSIENT),
    ("llama.cpp loads", 503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, {}, F.OVERLOADED),
    ("llama.cpp long as 500", 500, {"error": {"code": 500, "message": "the request exceeds the available context size"}}, {}, F.TOO_LONG),
    ("tgi long", 422, {"error": "Input validation error: `inputs` must have less than 8 tokens. Given: 9", "error_type": "validation"}, {}, F.TOO_LONG),
    ("tgi busy", 429, {"error": "Model is overloaded", "error_type": "overloaded"}, {}, F.OVERLOADED),
    ("ollama model", 404, {"error": {"message": "model 'x' not found, try pulling it first"}}, {}, F.BAD_REQUEST),
    ("ollama broke", 500, {"error": "llama runner process has terminated"}, {}, F.TRANSIENT),
    ("ollama queue", 503, {"error": "server busy, please try again. maximum pending requests exceeded"}, {}, F.OVERLOADED),
    *((f"cloudflare {status}", status, page(status, "Origin trouble"), {}, F.TRANSIENT) for status in range(520, 527)),
    ("cloudflare rate", 429, b"error code: 1015", {}, F.RATE_LIMITED),
    ("nginx 413", 413, page(413, "Request Entity Too Large"), {}, F.TOO_LONG),
    ("nginx 414", 414, page(414, "Request-URI Too Large"), {}, F.BAD_REQUEST),
    ("nginx 431", 431, page(431, "Request Header Fields Too Large"), {}, F.BAD_REQUEST),
    ("nginx 499", 499, b"", {}, F.TRANSIENT),
    ("nginx 502", 502, page(502, "Bad Gateway"), {}, F.TRANSIENT),
    ("alb 460", 460, b"", {}, F.TRANSIENT),
    ("alb 463", 463, b"", {}, F.BAD_REQUEST),
    ("alb 464", 464, b"", {}, F.BAD_REQUEST),
    ("proxy wants a login", 407, b"", {}, F.ACCOUNT),
    ("empty 401", 401, b"", {}, F.ACCOUNT),
    ("empty 429", 429, b"", {}, F.RATE_LIMITED),
    ("empty 400", 400, b"", {}, F.BAD_REQUEST),
    ("a word", 401, b'"Unauthorized"', {}, F.ACCOUNT),
    ("quota behind a byte order mark", 429, b'\xef\xbb\xbf{"error":{"type":"insufficient_quota","message":"x"}}', {}, F.ACCOUNT),
    ("quota in UTF-16", 429, '{"error":{"type":"insufficient_quota","message":"x"}}'.encode("utf-16"), {}, F.ACCOUNT),
    ("quota in Latin-1", 429, '{"error":{"type":"insufficient_quota","message":"cr\xe9dit"}}'.encode("latin-1"), {}, F.ACCOUNT),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "status", "body", "headers", "failure"), ERRORS, ids=[row[0] for row in ERRORS]
)
async def test_errors(
    shapes: Shapes, name: str, status: int, body: Body, headers: dict[str, str], failure: F
) -> None:
    for kind in KINDS:
        error = await shapes.error(kind, status, body, headers)
        assert (error.failure, error.status) == (failure, status)
        assert error.message
        assert "<" not in error.message, "a page is shown as words"


@pytest.mark.parametrize(
    ("status", "billed"), [(424, None), (460, None), (499, None), (502, None), (520, None), (529, False)]
)
async def test_what_somebody_in_between_answers_may_have_cost(
    shapes: Shapes, status: int, billed: bool | None
) -> None:
    assert (await shapes.error("openai", status, b"")).billed is billed


async def test_the_resets_beside_a_server_error_say_nothing_about_it(shapes: Shapes) -> None:
    """They would have it called again at once."""
    headers = {"x-ratelimit-remaining-requests": "499", "x-ratelimit-reset-requests": "6ms"}
    body = {"error": {"message": "The server had an error", "type": "server_error"}}
    for status in (500, 503):
        assert (await shapes.error("openai", status, body, headers)).retry_after_s is None
    assert (await shapes.error("openai", 500, body, headers | {"retry-after": "3"})).retry_after_s == 3
    assert (await shapes.error("openai", 429, body, headers)).retry_after_s == 0.006


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Please retry after 24 seconds.", 24),
        ("Please retry after 1 second.", 1),
        ("Please try again in 50.597142857s. Visit the page", 50.597142857),
        ("Please try again in 6m0s.", 360),
        ("Please try again in 20ms.", 0.02),
        ("Please try again in 2 minutes.", 120),
        ("Please wait 20 seconds before retrying", 20),
        ("Please retry in 33.5s.", 33.5),
        ("Try again in 3 days, or 2 more", None),
        ("Please try again later", None),
    ],
)
async def test_waits_told_in_words(shapes: Shapes, message: str, seconds: float | None) -> None:
    error = await shapes.error("openai", 429, {"error": {"message": message}})
    assert error.retry_after_s == (None if seconds is None else pytest.approx(seconds))


async def test_openrouter_tells_the_reset_in_the_body(shapes: Shapes) -> None:
    headers = {"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1795176060000"}
    body = {
        "error": {
            "code": 429,
            "message": "Rate limit exceeded: free-models-per-day",
            "metadata": {"headers": headers},
        }
    }
    error = await shapes.error("openai", 429, body, {"date": "Fri, 20 Nov 2026 12:00:00 GMT"})
    assert error.retry_after_s == pytest.approx(60)
