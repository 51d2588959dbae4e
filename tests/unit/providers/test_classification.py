# ruff: noqa: E501 - one case a line
"""Facts of the vendors' error answers, each in its vendor's shape (DESIGN: the failure table)."""

from __future__ import annotations

import aiohttp
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.domain import FailureClass as F
from batcher.providers.classification import classify_answer
from batcher.providers.transport_errors import classify_exception


def openai(message: str, kind: str = "invalid_request_error", code: str | None = None) -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def claude(kind: str, message: str = "said", **details: str) -> dict[str, object]:
    return {"type": "error", "error": {"type": kind, "message": message, "details": details or None}}


CASES: list[tuple[str, int, object, dict[str, str], F]] = [
    ("openai key", 401, openai("Incorrect API key", code="invalid_api_key"), {}, F.ACCOUNT),
    ("openai quota", 429, openai("quota", "insufficient_quota", "insufficient_quota"), {}, F.ACCOUNT),
    ("openai credit", 429, openai("x", "insufficient_quota", "credit_balance_exhausted"), {}, F.ACCOUNT),
    ("openai project cap", 429, openai("x", "insufficient_quota", "project_spend_limit_exceeded"), {}, F.ACCOUNT),
    ("openai tpm", 429, openai("Rate limit reached", "tokens", "rate_limit_exceeded"), {}, F.RATE_LIMITED),
    ("openai one request above tpm", 429, openai("Request too large for m on TPM", "tokens"), {}, F.TOO_LONG),
    ("groq tpm", 429, openai("Rate limit reached for m on tokens per minute (TPM): Limit 6000, Used 5990, Requested"
     " 1,200. Please try again in 11.9s.", "tokens"), {}, F.RATE_LIMITED),
    ("groq one request above tpm", 429, openai("Rate limit reached for m on tokens per minute (TPM): Limit 6,000,"
     " Used 0, Requested 20000. Please try again in 2m20s.", "tokens"), {}, F.TOO_LONG),
    ("openai flex", 429, openai("Resource Unavailable", "x", "resource_unavailable"), {}, F.OVERLOADED),
    ("openai model", 404, openai("The model does not exist", code="model_not_found"), {}, F.BAD_REQUEST),
    ("openai schema", 400, openai("Invalid schema for response_format"), {}, F.BAD_REQUEST),
    ("openai long", 400, openai("too long", code="context_length_exceeded"), {}, F.TOO_LONG),
    ("openai flagged", 400, openai("Your prompt was flagged", code="invalid_prompt"), {}, F.REFUSED),
    ("openai server", 500, openai("The server had an error", "server_error"), {}, F.TRANSIENT),
    ("openai overloaded", 503, openai("The engine is overloaded"), {}, F.OVERLOADED),
    ("azure filter", 400, openai("filtered", code="content_filter"), {}, F.REFUSED),
    ("claude overloaded", 529, claude("overloaded_error"), {}, F.OVERLOADED),
    ("claude overloaded with another status", 500, claude("overloaded_error"), {}, F.OVERLOADED),
    ("claude rate", 429, claude("rate_limit_error"), {}, F.RATE_LIMITED),
    ("claude ramp", 429, claude("rate_limit_error", error_code="ramp_limit_exceeded"), {}, F.RATE_LIMITED),
    ("claude spend", 429, claude("rate_limit_error", error_code="enforced_spend_limit_reached"), {}, F.ACCOUNT),
    ("claude contract", 429, claude("rate_limit_error", error_code="contract_spend_limit_reached"), {}, F.ACCOUNT),
    ("claude linked", 402, claude("x", error_code="linked_organization_spend_limit_reached"), {}, F.ACCOUNT),
    ("claude credit as 400", 400, claude("invalid_request_error", "Your credit balance is too low"), {}, F.ACCOUNT),
    ("claude permission", 403, claude("permission_error"), {}, F.ACCOUNT),
    ("claude long", 400, claude("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"), {}, F.TOO_LONG),
    ("claude too large", 413, claude("request_too_large"), {}, F.TOO_LONG),
    ("claude output limit", 400, claude("x", "max_tokens: 9 > 8, the maximum allowed number"), {}, F.BAD_REQUEST),
    ("claude timeout", 504, claude("timeout_error"), {}, F.TRANSIENT),
    ("together dynamic", 429, openai("slow down", "dynamic_request_limited"), {}, F.RATE_LIMITED),
    ("together capacity", 503, openai("The server is overloaded"), {}, F.OVERLOADED),
    ("together long", 422, openai("`inputs` tokens + `max_new_tokens` must be <= 8193"), {}, F.TOO_LONG),
    ("together credit", 402, openai("Credit limit exceeded", "credit_limit"), {}, F.ACCOUNT),
    ("mistral key", 401, {"detail": "Unauthorized"}, {}, F.ACCOUNT),
    ("mistral rate", 429, {"object": "error", "message": "Rate limit exceeded", "code": "1300"}, {}, F.RATE_LIMITED),
    ("mistral capacity", 429, {"message": "Service tier capacity exceeded for this model."}, {}, F.OVERLOADED),
    ("gemini key as 400", 400, {"error": {"code": 400, "message": "API key not valid."}}, {}, F.ACCOUNT),
    ("gemini list", 429, [{"error": {"code": 429, "message": "q", "status": "RESOURCE_EXHAUSTED"}}], {}, F.RATE_LIMITED),
    ("gemini long", 400, {"error": {"message": "The input token count (9) exceeds the maximum"}}, {}, F.TOO_LONG),
    ("xai key as 400", 400, {"code": "invalid-argument", "error": "Incorrect API key provided"}, {}, F.ACCOUNT),
    ("openrouter upstream", 429, {"error": {"message": "Provider returned error", "code": 429,
     "metadata": {"raw": "m is temporarily rate-limited upstream"}}}, {}, F.OVERLOADED),
    ("openrouter moderation", 403, {"error": {"message": "Input was flagged", "code": 403}}, {}, F.REFUSED),
    ("groq own check", 400, openai("Failed to generate JSON", code="json_validate_failed"), {}, F.INVALID_OUTPUT),
    ("llama.cpp long", 400, {"error": {"message": "the request exceeds the available context size",
     "type": "exceed_context_size_error", "code": 400}}, {}, F.TOO_LONG),
    ("vllm long", 400, {"object": "error", "message": "This model's maximum context length is 4096"}, {}, F.TOO_LONG),
    ("proxy page", 502, "<html><h1>502 Bad Gateway</h1></html>", {}, F.TRANSIENT),
    ("request timeout", 408, "", {}, F.TRANSIENT),
    ("conflict", 409, "", {}, F.TRANSIENT),
    ("told to retry", 400, openai("odd"), {"x-should-retry": "true"}, F.TRANSIENT),
    ("told not to retry", 500, openai("odd"), {"x-should-retry": "false"}, F.BAD_REQUEST),
    ("wrong url", 301, "", {"location": "https://example.org"}, F.BAD_REQUEST),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "status", "body", "headers", "expected"), CASES, ids=[case[0] for case in CASES]
)
def test_class(name: str, status: int, body: object, headers: dict[str, str], expected: F) -> None:
    raw = body.encode() if isinstance(body, str) else orjson.dumps(body)
    assert classify_answer(status, headers, raw).failure is expected


@pytest.mark.parametrize(
    ("status", "body", "billed"),
    [
        (400, openai("bad"), False),
        (429, openai("slow down"), False),
        (500, openai("The server had an error"), False),
        (529, claude("overloaded_error"), False),
        (503, "", False),
        (500, "<html>oops</html>", None),
        (502, openai("bad gateway"), None),
        (504, claude("timeout_error"), None),
        (408, "", None),
        (524, "<html>a timeout occurred</html>", None),
        (400, openai("made, then refused", code="json_validate_failed"), None),
    ],
)
def test_only_what_is_certainly_free_is_called_free(status: int, body: object, billed: bool | None) -> None:
    raw = body.encode() if isinstance(body, str) else orjson.dumps(body)
    assert classify_answer(status, {}, raw).billed is billed


def test_what_an_error_tells() -> None:
    error = classify_answer(
        429,
        {"retry-after": "3", "x-ratelimit-limit-requests": "5", "content-type": "x"},
        orjson.dumps(claude("rate_limit_error", "slow down", error_code="ramp_limit_exceeded")),
        request_id="req_1",
    )
    assert (error.status, error.code, error.retry_after_s) == (429, "ramp_limit_exceeded", 3.0)
    assert (error.message, error.request_id) == ("slow down", "req_1")
    assert error.headers == {"retry-after": "3", "x-ratelimit-limit-requests": "5"}


@given(st.integers(300, 599), st.binary(max_size=300))
def test_no_body_breaks_it(status: int, body: bytes) -> None:
    error = classify_answer(status, {}, body)
    assert error.failure in set(F)
    assert len(error.message) <= 500


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["error", "message", "code", "type", "details", "metadata"]), inner
            )
        ),
        max_leaves=12,
    )
)
def test_no_json_breaks_it(body: object) -> None:
    try:
        raw = orjson.dumps(body)
    except TypeError:
        return
    assert classify_answer(400, {}, raw).status == 400


def test_a_disconnect_is_unknown_although_the_sdks_call_it_a_connect_timeout() -> None:
    wrapped = RuntimeError("Connection error.")
    wrapped.__cause__ = TimeoutError("connect timeout")
    wrapped.__cause__.__cause__ = aiohttp.ServerDisconnectedError()
    error = classify_exception(wrapped)
    assert (error.failure, error.billed) == (F.UNKNOWN_OUTCOME, None)


def test_what_never_left_costs_nothing() -> None:
    wrapped = RuntimeError("Connection error.")
    wrapped.__cause__ = aiohttp.ConnectionTimeoutError("connect")
    error = classify_exception(wrapped)
    assert (error.failure, error.billed) == (F.TRANSIENT, False)
