"""The spellings of one answer: OpenAI chat completions (Together too), Anthropic messages, their errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from tests.support.vendor_answers import claude_schema_fault, strict_schema_fault

_OPENAI_FINISH = {"": "stop", "length": "length", "refused": "stop", "filtered": "content_filter"}
_CLAUDE_FINISH = {"": "end_turn", "length": "max_tokens", "refused": "refusal", "filtered": "refusal"}
_ERROR_TYPES = {
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
_checked_schemas: dict[tuple[bool, bytes], str] = {}


@dataclass(slots=True)
class Call:
    """One request, read: what the vendor was asked, in no vendor's words."""

    anthropic: bool
    model: str
    raw: bytes
    body: Mapping[str, Any]
    text: str
    schema: Mapping[str, Any] | None
    max_output_tokens: int | None
    fault: str
    headers: Mapping[str, str]


def read_call(path: str, raw: bytes, headers: Mapping[str, str]) -> Call:
    """Read a request body; ``fault`` is what the vendor would answer 400 with, or ""."""
    anthropic = path.endswith("/messages")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return Call(anthropic, "", raw, {}, "", None, None, "The body is not JSON.", headers)
    schema, fault = _schema_of(body, anthropic)
    limit = body.get("max_tokens", body.get("max_completion_tokens"))
    if not fault and anthropic and limit is None:
        fault = "max_tokens: Field required"
    if not fault and not body.get("messages"):
        fault = "messages: at least one message is required"
    return Call(anthropic, body.get("model", ""), raw, body, _last_text(body), schema, limit, fault, headers)


def _schema_of(body: Mapping[str, Any], anthropic: bool) -> tuple[Mapping[str, Any] | None, str]:
    if anthropic:
        schema = ((body.get("output_config") or {}).get("format") or {}).get("schema")
        strict = schema is not None
    else:
        wrapper = (body.get("response_format") or {}).get("json_schema") or {}
        schema, strict = wrapper.get("schema"), bool(wrapper.get("strict"))
    if not strict or schema is None:
        return schema, ""
    key = (anthropic, orjson.dumps(schema))
    if key not in _checked_schemas:
        _checked_schemas[key] = (claude_schema_fault if anthropic else strict_schema_fault)(schema)
    return schema, _checked_schemas[key]


def _last_text(body: Mapping[str, Any]) -> str:
    messages = body.get("messages") or [{}]
    content = messages[-1].get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content)


def answer_body(call: Call, text: str, finish: str, usage: tuple[int, int], number: int) -> dict[str, Any]:
    """A 200 body in the words of the vendor that was called."""
    tokens_in, tokens_out = usage
    if call.anthropic:
        return {
            "id": f"msg_{number:08d}",
            "type": "message",
            "role": "assistant",
            "model": call.model,
            "content": [{"type": "text", "text": text}] if text else [],
            "stop_reason": _CLAUDE_FINISH[finish],
            "stop_sequence": None,
            "usage": {
                "input_tokens": tokens_in,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": tokens_out,
                "service_tier": "standard",
            },
        }
    refused = finish == "refused"
    return {
        "id": f"chatcmpl-{number:08d}",
        "object": "chat.completion",
        "created": 1_795_000_000,
        "model": call.model,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": None if refused else text,
                    "refusal": text if refused else None,
                },
                "logprobs": None,
                "finish_reason": _OPENAI_FINISH[finish],
            }
        ],
        "usage": {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def error_body(anthropic: bool, status: int, message: str, code: str | None = None) -> dict[str, Any]:
    """An error body in the vendor's words."""
    kind = _ERROR_TYPES.get(status, "api_error")
    if anthropic:
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_error"}
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
