"""The vendors' prompt caches: which prefix of a prompt was there before.

OpenAI, Groq and their like cache by themselves, from 1,024 tokens on, in steps of 128; the prefix here is
everything before the last message. Anthropic caches what a ``cache_control`` mark closes, and charges for
writing. An entry exists once its first answer is there.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Final

import orjson

from batcher.simulator.prices import Tokens
from batcher.simulator.requests import ANTHROPIC, MISTRAL, TOGETHER, Call

_LEAST_TOKENS: Final = 1_024
_STEP_TOKENS: Final = 128
_SHORT_S: Final = 300.0
_LONG_S: Final = 3_600.0
_MOST_ENTRIES: Final = 10_000


class PromptCache:
    """Prefixes by account and model, with the time until which each is kept."""

    def __init__(self) -> None:
        self._until: OrderedDict[tuple[str, str, bytes], float] = OrderedDict()

    def read(self, call: Call, account: str, used: Tokens, token_bytes: float, now: float) -> Tokens:
        """The same tokens with their cached and written parts filled in."""
        prefix, lasts_s = _prefix(call)
        tokens = int(len(prefix) // token_bytes)
        if call.vendor != ANTHROPIC:
            tokens = tokens // _STEP_TOKENS * _STEP_TOKENS
        tokens = min(tokens, used.input)
        if tokens < _LEAST_TOKENS:
            return used
        if self._until.get(_key(call, account, prefix), 0.0) > now:
            return replace(used, cached=tokens)
        if call.vendor != ANTHROPIC:
            return used
        if lasts_s == _LONG_S:
            return replace(used, cache_write_1h=tokens)
        return replace(used, cache_write=tokens)

    def remember(self, call: Call, account: str, now: float) -> None:
        """Keep the prefix of a call that has been answered."""
        prefix, lasts_s = _prefix(call)
        if not prefix:
            return
        key = _key(call, account, prefix)
        self._until[key] = now + lasts_s
        self._until.move_to_end(key)
        if len(self._until) > _MOST_ENTRIES:
            self._until.popitem(last=False)


def _key(call: Call, account: str, prefix: bytes) -> tuple[str, str, bytes]:
    return account, f"{call.vendor} {call.model}", blake2b(prefix, digest_size=16).digest()


def _prefix(call: Call) -> tuple[bytes, float]:
    """The bytes that can come from the cache, and how long they are kept."""
    if call.vendor in {TOGETHER, MISTRAL}:
        return b"", 0.0
    if call.vendor != ANTHROPIC:
        messages = call.body["messages"]
        return (orjson.dumps(messages[:-1]) if len(messages) > 1 else b""), _SHORT_S
    blocks = _blocks(call.body)
    marks = [place for place, block in enumerate(blocks) if isinstance(block.get("cache_control"), dict)]
    if "cache_control" in call.body:
        marks = [len(blocks) - 1]
    if not marks:
        return b"", 0.0
    control = blocks[marks[-1]].get("cache_control") or call.body.get("cache_control") or {}
    texts = [
        orjson.dumps({name: value for name, value in block.items() if name != "cache_control"})
        for block in blocks[: marks[-1] + 1]
    ]
    return b"".join(texts), _LONG_S if control.get("ttl") == "1h" else _SHORT_S


def _blocks(body: Any) -> list[dict[str, Any]]:
    contents = [body.get("system"), *(message.get("content") for message in body["messages"])]
    blocks: list[dict[str, Any]] = []
    for content in contents:
        if isinstance(content, str):
            blocks.append({"type": "text", "text": content})
        elif isinstance(content, list):
            blocks += [block for block in content if isinstance(block, dict)]
    return blocks
