"""Together, through its own SDK."""

from __future__ import annotations

from typing import Any

import httpx
import together

from batcher.providers.base import ChatRequest, Completion
from batcher.providers.openai_format import chat_body, read_completion
from batcher.providers.schemas import SchemaCache, as_it_is
from batcher.providers.sdk_call import CONNECT_TIMEOUT_S, Answer, SdkProvider, pool_limits


class TogetherChat(SdkProvider):
    """One Together account.

    Args:
        base_url: where it answers, with or without its ``/v1``; None is Together.
        api_key: the account's key.
        limit_field: ``max_tokens``.
        max_connections: calls in flight at most.
    """

    def __init__(self, base_url: str | None, api_key: str, *, limit_field: str, max_connections: int) -> None:
        timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT_S)
        http_client = together.DefaultAioHttpClient(
            limits=pool_limits(httpx.Limits, max_connections), timeout=timeout
        )
        client = together.AsyncTogether(
            api_key=api_key,
            base_url=base_url.rstrip("/").removesuffix("/v1") if base_url else "https://api.together.ai",
            max_retries=0,
            timeout=timeout,
            http_client=http_client,
        )
        super().__init__(
            client,
            http_client,
            chat_path="/v1/chat/completions",
            models_path="/v1/models",
            secrets=(api_key,),
        )
        self._limit_field = limit_field
        self._whole = SchemaCache(as_it_is)

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        enforced = request.schema is not None and request.enforce_schema
        schema = self._whole.get(request.schema) if enforced and request.schema is not None else None
        return chat_body(request, self._limit_field, schema, strict=False)

    def _read(self, answer: Answer, request: ChatRequest) -> Completion:  # noqa: ARG002 - the base class's signature
        return read_completion(answer, self._secrets)
