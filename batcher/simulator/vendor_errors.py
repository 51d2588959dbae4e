"""Errors in each vendor's own words and shapes.

Shapes and most texts are those of answers recorded or quoted from the vendors in 2024 to 2026 (OpenAI,
Anthropic, Together, Groq, Mistral); where none is known, the vendor's usual shape carries a plain text.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from batcher.simulator.rate_headers import go_duration
from batcher.simulator.rate_limits import DAILY, INPUT, OUTPUT, REQUESTS, Exceeded
from batcher.simulator.requests import ANTHROPIC, GROQ, MISTRAL, OPENAI, TOGETHER

_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_UNITS: Final = {
    REQUESTS: ("requests per min", "RPM", "requests per minute"),
    DAILY: ("requests per day", "RPD", "requests per day"),
    INPUT: ("input tokens per min", "ITPM", "input tokens per minute"),
    OUTPUT: ("output tokens per min", "OTPM", "output tokens per minute"),
}
_TOKEN_UNITS: Final = ("tokens per min", "TPM", "tokens per minute")


@dataclass(frozen=True, slots=True)
class VendorError:
    """An error answer: its status, its body (a JSON value, or a text as it is), and its own headers."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


def shaped(
    vendor: str, status: int, message: str, *, code: str | None = None, kind: str | None = None
) -> VendorError:
    """An error in the vendor's usual shape.

    Args:
        vendor: whose.
        status: HTTP status.
        message: what it says.
        code: the ``code`` of shapes that have one.
        kind: the ``type``; by default the usual one for the status.
    """
    kind = kind or _TYPES.get(status, "api_error")
    body: dict[str, Any]
    if vendor == ANTHROPIC:
        body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_00000000"}
    elif vendor == MISTRAL:
        body = {"object": "error", "message": message, "type": kind, "param": None, "code": code}
    else:
        body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
        if vendor == TOGETHER:
            body = {"id": "o0000000-00000000", **body}
    return VendorError(status, body)


def rate_limited(vendor: str, model: str, met: Exceeded) -> VendorError:
    """The 429 of a limit that a request met, with how long to wait in the vendor's spelling."""
    wait_s = max(met.wait_s, 0.001)
    if vendor == OPENAI and met.hopeless and met.name != REQUESTS:
        error = shaped(vendor, 429, _openai_too_large(model, met), code="rate_limit_exceeded", kind="tokens")
        return VendorError(429, error.body)
    short, letters, long = _UNITS.get(met.name, _TOKEN_UNITS)
    seconds = {"retry-after": str(math.ceil(wait_s))}
    kind = "requests" if met.name in {REQUESTS, DAILY} else "tokens"
    if vendor == ANTHROPIC:
        message = (
            f"This request would exceed the rate limit for your organization (simulated) of"
            f" {int(met.limit):,} {long}. Please reduce the prompt length or the maximum tokens requested,"
            " or try again later."
        )
        return VendorError(429, shaped(vendor, 429, message).body, seconds)
    if vendor == MISTRAL:
        error = shaped(vendor, 429, "Rate limit exceeded", code="1300", kind="rate_limited")
        return VendorError(429, {**error.body, "raw_status_code": 429}, seconds)
    if vendor == TOGETHER:
        code = f"dynamic_{kind.removesuffix('s')}_limited"
        message = f"You have reached the rate limit specific to this model {model}: {int(met.limit)} {long}."
        error = shaped(vendor, 429, message, code=code, kind=code)
        return VendorError(429, error.body, {"x-ratelimit-reset": seconds["retry-after"]})
    message = (
        f"Rate limit reached for {model} in organization org-simulated on {short} ({letters}):"
        f" Limit {int(met.limit)}, Used {int(met.used)}, Requested {int(met.requested)}."
        f" Please try again in {go_duration(wait_s)}."
    )
    error = shaped(vendor, 429, message, code="rate_limit_exceeded", kind=kind)
    if vendor == OPENAI:
        seconds["retry-after-ms"] = str(math.ceil(wait_s * 1000))
    return VendorError(429, error.body, seconds)


def _openai_too_large(model: str, met: Exceeded) -> str:
    return (
        f"Request too large for {model} in organization org-simulated on tokens per min (TPM): Limit"
        f" {int(met.limit)}, Requested {int(met.requested)}. The input or output tokens must be reduced in"
        " order to run successfully."
    )


def too_long(vendor: str, tokens: int, asked: int, context: int) -> VendorError:
    """A prompt beyond the model's context, in the vendor's words.

    Args:
        vendor: whose.
        tokens: of the prompt.
        asked: output tokens asked for.
        context: the model's limit.
    """
    if vendor == ANTHROPIC:
        return shaped(vendor, 400, f"prompt is too long: {tokens} tokens > {context} maximum")
    if vendor == TOGETHER:
        message = (
            f"Input validation error: `inputs` tokens + `max_new_tokens` must be <= {context}."
            f" Given: {tokens} `inputs` tokens and {asked} `max_new_tokens`"
        )
        return shaped(vendor, 422, message, kind="invalid_request_error")
    if vendor == GROQ:
        message = "Please reduce the length of the messages or completion."
        return shaped(vendor, 400, message, code="context_length_exceeded")
    if vendor == MISTRAL:
        message = (
            f"Prompt contains {tokens} tokens, too large for model with {context} maximum context length"
        )
        return shaped(vendor, 400, message, kind="invalid_request_error", code="3051")
    message = (
        f"This model's maximum context length is {context} tokens. However, your messages resulted in"
        f" {tokens} tokens. Please reduce the length of the messages."
    )
    return shaped(vendor, 400, message, code="context_length_exceeded")


def bad_key(vendor: str) -> VendorError:
    """An unknown key."""
    if vendor == ANTHROPIC:
        return shaped(vendor, 401, "invalid x-api-key")
    if vendor == MISTRAL:
        return VendorError(401, {"detail": "Invalid API Key"})
    message = {
        TOGETHER: "Invalid API key provided. You can find your API key at"
        " https://api.together.xyz/settings/api-keys.",
        GROQ: "Invalid API Key",
    }.get(vendor, "Incorrect API key provided. You can find your API key in the platform's settings.")
    return shaped(vendor, 401, message, code="invalid_api_key", kind="invalid_request_error")


def no_credit(vendor: str) -> VendorError:
    """An account without money: 400 at Anthropic, 429 at OpenAI, 402 elsewhere."""
    if vendor == ANTHROPIC:
        message = (
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to"
            " upgrade or purchase credits."
        )
        return shaped(vendor, 400, message)
    if vendor == OPENAI:
        message = "You exceeded your current quota, please check your plan and billing details."
        return shaped(vendor, 429, message, code="insufficient_quota", kind="insufficient_quota")
    if vendor == TOGETHER:
        message = "Credit limit exceeded. Please add credit or upgrade your plan."
        return shaped(vendor, 402, message, kind="credit_limit")
    return shaped(vendor, 402, "Insufficient credits. Please add a payment method.", kind="billing_error")


def spend_limit(vendor: str) -> VendorError:
    """A spending limit reached: a 429 that no waiting heals at Anthropic and OpenAI."""
    if vendor == ANTHROPIC:
        error = shaped(vendor, 429, "You have reached your specified API usage limits.")
        error.body["error"]["details"] = {"error_code": "enforced_spend_limit_reached"}
        return error
    if vendor == OPENAI:
        message = "You have reached your organization's monthly spending limit."
        return shaped(
            vendor, 429, message, code="organization_spend_limit_exceeded", kind="insufficient_quota"
        )
    return no_credit(vendor)


def overloaded(vendor: str) -> VendorError:
    """No capacity: 529 at Anthropic, a 429 about capacity at Mistral, 503 elsewhere."""
    if vendor == ANTHROPIC:
        return VendorError(529, shaped(vendor, 529, "Overloaded").body, {"x-should-retry": "true"})
    if vendor == MISTRAL:
        message = "Service tier capacity exceeded for this model."
        return shaped(vendor, 429, message, kind="invalid_request_error")
    message = "The model is overloaded. Please try again later."
    return shaped(vendor, 503, message, kind="service_unavailable")


def ramped_too_fast(vendor: str, wait_s: float) -> VendorError:
    """A rate that grew too fast (Anthropic's ``ramp_limit_exceeded``); a usual 429 elsewhere."""
    if vendor != ANTHROPIC:
        return told_to_wait(vendor, "", wait_s)
    error = shaped(vendor, 429, "Your organization's usage is growing too fast. Ramp up more slowly.")
    error.body["error"]["details"] = {"error_code": "ramp_limit_exceeded"}
    return VendorError(429, error.body, {"retry-after": str(math.ceil(wait_s))})


def told_to_wait(vendor: str, model: str, wait_s: float) -> VendorError:
    """A 429 of the vendor's usual kind that asks to wait so long."""
    return rate_limited(vendor, model, Exceeded(REQUESTS, 60, 60, 1, wait_s, hopeless=False))


def gateway(status: int) -> VendorError:
    """What a gateway in front of a vendor says: a page, and no word of the vendor."""
    said = {502: "Bad gateway", 504: "Gateway time-out"}.get(status, "Error")
    page = f"<html><head><title>{status} {said}</title></head><body><h1>{status} {said}</h1></body></html>"
    return VendorError(status, page, {"content-type": "text/html"})


def server_error(vendor: str) -> VendorError:
    """A 500."""
    if vendor == ANTHROPIC:
        return shaped(vendor, 500, "Internal server error")
    message = "The server had an error processing your request. Sorry about that! You can retry your request."
    return shaped(vendor, 500, message, kind="server_error")


def unknown_model(vendor: str, model: str) -> VendorError:
    """A model that the vendor does not have."""
    if vendor == ANTHROPIC:
        return shaped(vendor, 404, f"model: {model}")
    if vendor == MISTRAL:
        return shaped(vendor, 400, f"Invalid model: {model}", kind="invalid_model", code="1500")
    message = f"The model `{model}` does not exist or you do not have access to it."
    return shaped(vendor, 404, message, code="model_not_found", kind="invalid_request_error")


def blocked(vendor: str) -> VendorError:
    """A prompt that is refused before a model reads it."""
    message = "Your request was rejected: the prompt was flagged as potentially violating our usage policy."
    code = None if vendor in {ANTHROPIC, MISTRAL} else "invalid_prompt"
    return shaped(vendor, 400, message, code=code)


Said = Callable[[str, str, float], VendorError]
"""(vendor, model, seconds to wait) to an error."""

ERRORS: Final[dict[str, Said]] = {
    "rate_limited": told_to_wait,
    "ramp_limit": lambda vendor, _model, wait_s: ramped_too_fast(vendor, wait_s),
    "overloaded": lambda vendor, _model, _wait: overloaded(vendor),
    "timeout_408": lambda vendor, _model, _wait: shaped(vendor, 408, "Request timed out."),
    "conflict_409": lambda vendor, _model, _wait: shaped(vendor, 409, "The request conflicted with another."),
    "server_500": lambda vendor, _model, _wait: server_error(vendor),
    "gateway_502": lambda _vendor, _model, _wait: gateway(502),
    "gateway_504": lambda _vendor, _model, _wait: gateway(504),
    "bad_key": lambda vendor, _model, _wait: bad_key(vendor),
    "no_credit": lambda vendor, _model, _wait: no_credit(vendor),
    "spend_limit": lambda vendor, _model, _wait: spend_limit(vendor),
    "bad_parameter": lambda vendor, _model, _wait: shaped(
        vendor, 400, "Unsupported value: 'temperature' does not support 0.1 with this model."
    ),
    "unknown_model": lambda vendor, model, _wait: unknown_model(vendor, model),
    "too_long": lambda vendor, _model, _wait: too_long(vendor, 210_000, 1_000, 128_000),
    "blocked": lambda vendor, _model, _wait: blocked(vendor),
}
"""The errors that a fault can name."""
