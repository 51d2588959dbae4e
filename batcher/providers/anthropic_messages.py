"""Anthropic's Messages API, through the anthropic SDK."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final

import anthropic
import httpx2

from batcher.domain import Finish, Message, Usage
from batcher.providers.base import ChatRequest, Completion
from batcher.providers.classification import rate_headers
from batcher.providers.schemas import ANTHROPIC, SchemaCache, rewritten
from batcher.providers.sdk_call import (
    CONNECT_TIMEOUT_S,
    Answer,
    SdkProvider,
    checked_usage,
    count,
    misshapen,
    pool_limits,
    with_extra,
)

_LENGTH_WORDS: Final = frozenset({"max_tokens", "model_context_window_exceeded"})


class AnthropicMessages(SdkProvider):
    """One Anthropic account.

    Args:
        base_url: where it answers, with or without ``/v1``; None is Anthropic.
        api_key: the account's key.
        max_connections: calls in flight at most.
    """

    def __init__(self, base_url: str | None, api_key: str, *, max_connections: int) -> None:
        timeout = httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S)
        http_client = anthropic.DefaultAioHttpClient(
            limits=pool_limits(httpx2.Limits, max_connections), timeout=timeout
        )
        client = anthropic.AsyncAnthropic(
            api_key=api_key,
            base_url=base_url.rstrip("/").removesuffix("/v1") if base_url else "https://api.anthropic.com",
            max_retries=0,
            timeout=timeout,
            http_client=http_client,
        )
        super().__init__(
            client,
            http_client,
            chat_path="/v1/messages",
            models_path="/v1/models",
            secrets=(api_key,),
        )
        self._schemas = SchemaCache(lambda schema: rewritten(schema, ANTHROPIC))

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": request.model_id,
            "max_tokens": request.max_output_tokens,
            "messages": [_message(message) for message in request.messages if message.role != "system"],
        }
        system = "\n\n".join(message.text for message in request.messages if message.role == "system")
        if system:
            body["system"] = system
        if request.temperature is not None:
            body["temperature"] = request.temperature
        schema = (
            self._schemas.get(request.schema)
            if request.schema is not None and request.enforce_schema
            else None
        )
        if schema is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema.json}}
        return with_extra(body, request.extra)

    def _read(self, answer: Answer, request: ChatRequest) -> Completion:  # noqa: ARG002 - the base class's signature
        blocks = answer.value.get("content")
        if not isinstance(blocks, list):
            raise misshapen(answer, "without an answer in it", self._secrets)
        text = "".join(
            block["text"]
            for block in blocks
            if isinstance(block, Mapping)
            and block.get("type") == "text"
            and isinstance(block.get("text"), str)
        )
        word = str(answer.value.get("stop_reason") or "")
        finish = Finish.LENGTH if word in _LENGTH_WORDS else Finish.STOP
        if word == "refusal":
            details = answer.value.get("stop_details")
            explained = details.get("explanation") if isinstance(details, Mapping) else None
            text, finish = text or str(explained or ""), Finish.REFUSED
        return Completion(
            text=text,
            finish=finish,
            usage=read_usage(answer.value.get("usage")),
            request_id=answer.request_id,
            headers=rate_headers(answer.headers),
            served_model=str(answer.value.get("model") or ""),
        )


def _message(message: Message) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.text}
    blocks: list[dict[str, Any]] = [
        {
            "type": "image",
            "source": {
                "type": "base64",
                "media_type": image.mime,
                "data": b64encode(image.data).decode("ascii"),
            },
        }
        for image in message.images
    ]
    if message.text:
        blocks.append({"type": "text", "text": message.text})
    return {"role": message.role, "content": blocks}


def read_usage(usage: Any) -> Usage | None:
    """Token counts, or None where there are none. ``input_tokens`` leaves the cached parts out: add them."""
    if not isinstance(usage, Mapping) or not isinstance(usage.get("input_tokens"), int | float):
        return None
    cached = count(usage.get("cache_read_input_tokens"))
    written = count(usage.get("cache_creation_input_tokens"))
    details = usage.get("output_tokens_details")
    details = details if isinstance(details, Mapping) else {}
    return checked_usage(
        inputs=count(usage["input_tokens"]) + cached + written,
        cached=cached,
        written=written,
        outputs=count(usage.get("output_tokens")),
        reasoning=count(details.get("thinking_tokens")),
    )
