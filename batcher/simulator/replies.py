"""Good answers in each vendor's words: OpenAI's chat completions and its relatives, Anthropic's messages."""

from __future__ import annotations

from typing import Any, Final

from batcher.simulator.prices import Tokens
from batcher.simulator.requests import ANTHROPIC, GROQ, MISTRAL, TOGETHER, Call

FINISHES: Final = frozenset({"", "length", "refused", "filtered", "unknown"})
"""How an answer can end; "" is well."""

_OPENAI_FINISH: Final = {
    "": "stop",
    "length": "length",
    "refused": "stop",
    "filtered": "content_filter",
    "unknown": "eos",
}
_CLAUDE_FINISH: Final = {
    "": "end_turn",
    "length": "max_tokens",
    "refused": "refusal",
    "filtered": "refusal",
    "unknown": "eos",
}
NULL_MESSAGE: Final = "null message"
"""Stands for an answer whose message is null."""


def answer_body(call: Call, text: str, finish: str, used: Tokens, number: int, now: float) -> dict[str, Any]:
    """A 200 body in the words of the vendor that was called.

    Args:
        call: the request.
        text: the answer, or ``NULL_MESSAGE``.
        finish: one of ``FINISHES``.
        used: its tokens.
        number: of the request, for ids.
        now: Unix seconds.
    """
    if call.vendor == ANTHROPIC:
        return _claude_message(call.model, text, finish, used, number)
    return {
        "id": f"chatcmpl-{number:08d}",
        "object": "chat.completion",
        "created": int(now),
        "model": call.model,
        "choices": [
            {
                "index": 0,
                "message": _message(call.vendor, text, finish),
                "logprobs": None,
                "finish_reason": _OPENAI_FINISH[finish],
            }
        ],
        "usage": _usage(call.vendor, used),
    }


def _message(vendor: str, text: str, finish: str) -> dict[str, Any] | None:
    if text == NULL_MESSAGE:
        return None
    refused = finish == "refused"
    message: dict[str, Any] = {"role": "assistant", "content": None if refused else text}
    if vendor in {TOGETHER, MISTRAL}:
        message["tool_calls"] = [] if vendor == TOGETHER else None
    if refused or vendor not in {TOGETHER, GROQ, MISTRAL}:
        message["refusal"] = text if refused else None
    return message


def _usage(vendor: str, used: Tokens) -> dict[str, Any]:
    """OpenAI counts cached tokens in ``prompt_tokens``; Together and Mistral do not tell them."""
    usage: dict[str, Any] = {
        "prompt_tokens": used.input,
        "completion_tokens": used.output,
        "total_tokens": used.input + used.output,
    }
    if vendor in {TOGETHER, MISTRAL}:
        return usage
    if vendor == GROQ:
        usage |= {"queue_time": 0.01, "prompt_time": 0.003, "completion_time": 0.06, "total_time": 0.063}
        if used.cached:
            usage["prompt_tokens_details"] = {"cached_tokens": used.cached}
        return usage
    details = {"cached_tokens": used.cached, "audio_tokens": 0}
    if used.cache_write:
        details["cache_write_tokens"] = used.cache_write
    usage["prompt_tokens_details"] = details
    usage["completion_tokens_details"] = {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    }
    return usage


def _claude_message(model: str, text: str, finish: str, used: Tokens, number: int) -> dict[str, Any]:
    """Anthropic's ``input_tokens`` leave out what was read from or written to the cache."""
    empty = not text or text == NULL_MESSAGE
    message: dict[str, Any] = {
        "id": f"msg_{number:08d}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [] if empty else [{"type": "text", "text": text}],
        "stop_reason": _CLAUDE_FINISH[finish],
        "stop_sequence": None,
        "usage": {
            "input_tokens": used.input - used.cached - used.cache_write - used.cache_write_1h,
            "cache_creation_input_tokens": used.cache_write + used.cache_write_1h,
            "cache_read_input_tokens": used.cached,
            "cache_creation": {
                "ephemeral_5m_input_tokens": used.cache_write,
                "ephemeral_1h_input_tokens": used.cache_write_1h,
            },
            "output_tokens": used.output,
            "service_tier": "standard",
        },
    }
    if finish in {"refused", "filtered"}:
        message["stop_details"] = {"type": "refusal", "category": "simulated", "explanation": text}
    return message


def model_list(vendor: str, models: tuple[str, ...]) -> Any:
    """The model list in the vendor's shape: Together's is bare."""
    if vendor == ANTHROPIC:
        rows = [
            {"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"}
            for name in models
        ]
        ends = {"first_id": models[0] if models else None, "last_id": models[-1] if models else None}
        return {"data": rows, "has_more": False, **ends}
    listed = [
        {"id": name, "object": "model", "created": 1_767_225_600, "owned_by": vendor} for name in models
    ]
    return listed if vendor == TOGETHER else {"object": "list", "data": listed}
