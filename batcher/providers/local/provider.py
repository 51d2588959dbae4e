"""The local tier as a provider: a model server per model, then the road of every OpenAI-compatible one."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from batcher.domain import FailureClass
from batcher.errors import BatcherError, ConfigurationError
from batcher.providers.base import ChatRequest, Completion, ProviderError
from batcher.providers.local.known import KNOWN
from batcher.providers.local.options import LocalOptions
from batcher.providers.local.process import ModelServer, start_server
from batcher.providers.local.weights import NOT_INSTALLED, weights_file
from batcher.providers.openai_chat import OpenAIChat

_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


@dataclass(slots=True)
class _Running:
    """A model server, the client that speaks to it, and its free slots."""

    server: ModelServer
    chat: OpenAIChat
    slots: asyncio.Semaphore
    answered: bool = False


class LocalProvider:
    """Every model of the local tier; a model's server starts with its first call.

    Args:
        options: where weights lie and how to run them.
        limit_field: ``max_tokens``.
        max_connections: calls in flight at most.

    Raises:
        ConfigurationError: if the extra is not installed.
    """

    def __init__(self, options: LocalOptions, *, limit_field: str, max_connections: int) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise ConfigurationError(NOT_INSTALLED)
        self._options = options
        self._limit_field = limit_field
        self._max_connections = max_connections
        self._running: dict[str, _Running] = {}
        self._starting = asyncio.Lock()

    async def complete(self, request: ChatRequest) -> Completion:
        """Make one call; it waits for a slot first, and its time limit counts from there.

        Raises:
            ProviderError: for every failure, classified.
        """
        running = await self._ready(request.model_id)
        async with running.slots:
            try:
                completion = await running.chat.complete(_in_grammar(request))
            except ProviderError as error:
                if error.status is None:
                    await running.server.notice_end()
                raise
        running.answered = True
        return completion

    async def check(self) -> str:
        """Which models could be started; nothing is started."""
        names = [*KNOWN, *(name for name in self._options.files if name not in KNOWN)]
        found = []
        for name in names:
            try:
                weights_file(name, self._options)
            except ConfigurationError:
                continue
            found.append(name)
        if not found:
            raise ProviderError(
                FailureClass.BAD_REQUEST,
                "No weights on this machine. Fetch some: batcher models pull smollm2-135m",
            )
        return f"weights of {', '.join(found)}"

    async def aclose(self) -> None:
        """End every model server."""
        running, self._running = list(self._running.values()), {}
        for one in running:
            await one.chat.aclose()
            await one.server.stop()

    def process_ids(self) -> dict[str, int]:
        """The model servers' process ids by model."""
        return {name: one.server.pid for name, one in self._running.items()}

    async def _ready(self, name: str) -> _Running:
        """The model's server, started if it is not, and once more if it has died since its last answer."""
        running = self._running.get(name)
        if running is not None and running.server.running:
            return running
        async with self._starting:
            running = self._running.get(name)
            if running is not None and running.server.running:
                return running
            if running is not None:
                await self._bury(name, running)
            try:
                server = await start_server(name, weights_file(name, self._options), self._options)
            except BatcherError as error:
                raise ProviderError(FailureClass.ACCOUNT, str(error)[:500], billed=False) from error
            chat = OpenAIChat(
                server.base_url,
                server.api_key,
                limit_field=self._limit_field,
                strict=False,
                max_connections=self._max_connections,
                use_proxies=False,
            )
            self._running[name] = _Running(server, chat, asyncio.Semaphore(server.slots))
            return self._running[name]

    async def _bury(self, name: str, running: _Running) -> None:
        """Put away a server that died; one that never answered is not tried again."""
        await running.chat.aclose()
        await running.server.stop()
        if not running.answered:
            raise ProviderError(
                FailureClass.ACCOUNT,
                f"The model server of {name} dies before it answers. Its log is {running.server.log}",
                billed=False,
            )
        del self._running[name]


def _in_grammar(request: ChatRequest) -> ChatRequest:
    """The request with what runs small models best, and its schema as a grammar without optional white space.

    The server would enforce ``response_format`` too, but lets the model indent: that took 1.7 times the
    tokens and ran into the limit of 400 on 2 to 6 of 8 loan agreements, the grammar on none (SmolLM2,
    2026-11-20). llguidance takes the rule in the schema's ``x-guidance``; llama.cpp only passes it on in a
    ``grammar``.
    """
    known = KNOWN.get(request.model_id)
    extra: dict[str, Any] = dict(known.body) if known else {}
    if request.schema is not None and request.enforce_schema:
        extra["grammar"] = grammar_of(request.schema)
    return replace(request, schema=None, extra={**extra, **request.extra})


def grammar_of(schema: Mapping[str, Any]) -> str:
    """The schema as an llguidance grammar for JSON on one line."""
    return "%llguidance {}\nstart: %json " + orjson.dumps({**schema, "x-guidance": _COMPACT}).decode()
