"""OpenAI, and every endpoint that speaks its chat completions, through the openai SDK."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx2
import openai

from batcher.domain import Finish
from batcher.providers.base import ChatRequest, Completion
from batcher.providers.openai_format import chat_body, read_completion
from batcher.providers.schemas import OPENAI, SchemaCache, as_it_is, rewritten, without_added_nulls
from batcher.providers.sdk_call import CONNECT_TIMEOUT_S, Answer, SdkProvider, pool_limits

_NO_KEY = "none"
"""What endpoints without keys get; the SDK insists on one."""


class OpenAIChat(SdkProvider):
    """One OpenAI-compatible endpoint.

    Args:
        base_url: where it answers, with its ``/v1``; None is OpenAI.
        api_key: None for endpoints that need none.
        limit_field: ``max_tokens`` or ``max_completion_tokens``.
        strict: whether it takes OpenAI's strict schemas; others get the whole schema.
        max_connections: calls in flight at most.
        use_proxies: whether the proxies of the environment apply (never for a server of our own).
    """

    def __init__(
        self,
        base_url: str | None,
        api_key: str | None,
        *,
        limit_field: str,
        strict: bool,
        max_connections: int,
        use_proxies: bool = True,
    ) -> None:
        timeout = httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S)
        # Only OpenAI itself is told the organisation and project of the environment.
        left_out: Any = {"OpenAI-Organization": openai.omit, "OpenAI-Project": openai.omit}
        http_client = openai.DefaultAioHttpClient(
            limits=pool_limits(httpx2.Limits, max_connections), timeout=timeout, trust_env=use_proxies
        )
        client = openai.AsyncOpenAI(
            api_key=api_key or _NO_KEY,
            base_url=base_url or "https://api.openai.com/v1",
            max_retries=0,
            timeout=timeout,
            default_headers=None if strict else left_out,
            http_client=http_client,
        )
        super().__init__(
            client,
            http_client,
            chat_path="/chat/completions",
            models_path="/models",
            secrets=(api_key,) if api_key else (),
        )
        self._limit_field = limit_field
        self._strict = SchemaCache(lambda schema: rewritten(schema, OPENAI) if strict else None)
        self._whole = SchemaCache(as_it_is)

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        if request.schema is None or not request.enforce_schema:
            return chat_body(request, self._limit_field, None, strict=False)
        strict = self._strict.get(request.schema)
        return chat_body(
            request, self._limit_field, strict or self._whole.get(request.schema), strict=strict is not None
        )

    def _read(self, answer: Answer, request: ChatRequest) -> Completion:
        completion = read_completion(answer, self._secrets)
        if request.schema is None or not request.enforce_schema or completion.finish is not Finish.STOP:
            return completion
        strict = self._strict.get(request.schema)
        if strict is None or not strict.nulls_added:
            return completion
        return replace(completion, text=without_added_nulls(completion.text, request.schema))
