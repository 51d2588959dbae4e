"""OpenAI's chat completions, the format that most endpoints speak: request bodies and answers."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final

from batcher.domain import FailureClass, Finish, Message, Usage
from batcher.providers.base import ChatRequest, Completion, ProviderError
from batcher.providers.classification import rate_headers
from batcher.providers.schemas import EnforcedSchema
from batcher.providers.sdk_call import Answer, checked_usage, count, error_inside, misshapen, with_extra

_LENGTH_WORDS: Final = frozenset({"length", "max_tokens", "model_length", "error_limit"})
_REFUSED_WORDS: Final = frozenset(
    {
        *("content_filter", "content_filtered", "refusal", "safety", "recitation", "prohibited_content"),
        *("blocklist", "spii", "guardrail_intervened", "error_toxic", "sensitive"),
    }
)
"""OpenAI's word first; then what compatible endpoints pass on from Gemini, Bedrock, Cohere and Zhipu."""


def chat_body(
    request: ChatRequest, limit_field: str, schema: EnforcedSchema | None, strict: bool
) -> dict[str, Any]:
    """The request body.

    Args:
        request: the call.
        limit_field: ``max_tokens`` or ``max_completion_tokens``.
        schema: what the endpoint is to enforce, or None.
        strict: whether ``schema`` is in OpenAI's strict subset.
    """
    body: dict[str, Any] = {
        "model": request.model_id,
        "messages": [_message(message) for message in request.messages],
        limit_field: request.max_output_tokens,
    }
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.logprobs:
        body["logprobs"] = True
    if schema is not None:
        named: dict[str, Any] = {"name": request.schema_name, "schema": schema.json}
        if strict:
            named["strict"] = True
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    return with_extra(body, request.extra)


def _message(message: Message) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.text}
    parts: list[dict[str, Any]] = [
        {
            "type": "image_url",
            "image_url": {"url": f"data:{image.mime};base64,{b64encode(image.data).decode('ascii')}"},
        }
        for image in message.images
    ]
    if message.text:
        parts.insert(0, {"type": "text", "text": message.text})
    return {"role": message.role, "content": parts}


def read_completion(answer: Answer, secrets: tuple[str, ...]) -> Completion:
    """Read an answer of any endpoint that speaks this format.

    Raises:
        ProviderError: if it is no completion (``unknown_outcome``), or the endpoint says that it broke off.
    """
    choices = answer.value.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, Mapping):
        raise misshapen(answer, "without an answer in it", secrets)
    message = choice.get("message")
    message = message if isinstance(message, Mapping) else {}
    word = str(choice.get("finish_reason") or "").lower().partition(":")[0]
    if word == "error" or choice.get("error"):
        # OpenRouter: the upstream failed after it had begun to answer.
        if (inner := error_inside(answer, choice.get("error"), secrets)) is not None:
            inner.billed = None
            raise inner
        raise ProviderError(
            FailureClass.UNKNOWN_OUTCOME,
            "The model broke off with an error",
            status=200,
            billed=None,
            headers=rate_headers(answer.headers),
            request_id=answer.request_id,
        )
    refusal = message.get("refusal")
    content = message.get("content", choice.get("text"))
    text = refusal if isinstance(refusal, str) and refusal else _text(content)
    finish = Finish.STOP
    if word in _REFUSED_WORDS or text is refusal:
        finish = Finish.REFUSED
    elif word in _LENGTH_WORDS:
        finish = Finish.LENGTH
    return Completion(
        text=text,
        finish=finish,
        usage=read_usage(answer.value.get("usage")),
        request_id=answer.request_id,
        headers=rate_headers(answer.headers),
        served_model=str(answer.value.get("model") or ""),
        logprob=read_logprob(choice.get("logprobs")),
    )


def read_logprob(told: Any) -> float | None:
    """The log-probability of a whole answer, or None if it was not told for its tokens.

    Two spellings: OpenAI's list of tokens under ``content``, and the bare list ``token_logprobs`` of
    completions, which Together's hosts also use.
    """
    if not isinstance(told, Mapping):
        return None
    tokens = told.get("content")
    values = (
        [token.get("logprob") if isinstance(token, Mapping) else None for token in tokens]
        if isinstance(tokens, list)
        else told.get("token_logprobs")
    )
    if not isinstance(values, list) or not values:
        return None
    known = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    total = math.fsum(known) if len(known) == len(values) else math.nan
    return min(0.0, total) if math.isfinite(total) else None


def _text(content: Any) -> str:
    """The answer's text; some models send parts, of which the thinking ones are no answer (Mistral)."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(
            part["text"]
            for part in content
            if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)
        )
    return ""


def read_usage(usage: Any) -> Usage | None:
    """Token counts, or None where the answer has none.

    Cached tokens are a part of ``prompt_tokens``. Some endpoints (xAI, Gemini's) leave reasoning out of
    ``completion_tokens`` but not out of the total: what the total has beyond the prompt counts as output.
    """
    if not isinstance(usage, Mapping) or not isinstance(usage.get("prompt_tokens"), int | float):
        return None
    inputs = count(usage["prompt_tokens"])
    outputs = max(count(usage.get("completion_tokens")), count(usage.get("total_tokens")) - inputs)
    in_parts = usage.get("prompt_tokens_details")
    in_parts = in_parts if isinstance(in_parts, Mapping) else usage
    out_parts = usage.get("completion_tokens_details")
    out_parts = out_parts if isinstance(out_parts, Mapping) else {}
    return checked_usage(
        inputs=inputs,
        cached=count(in_parts.get("cached_tokens")),
        written=count(in_parts.get("cache_write_tokens")),
        outputs=outputs,
        reasoning=count(out_parts.get("reasoning_tokens")),
    )
