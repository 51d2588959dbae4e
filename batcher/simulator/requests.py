"""Reading a request: which vendor is meant, what is asked, how long it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import orjson

from batcher.simulator.outlines import schema_of_outline
from batcher.simulator.schema_rules import claude_schema_fault, schema_fault, strict_schema_fault
from batcher.simulator.told_limits import with_told_limits

OPENAI: Final = "openai"
ANTHROPIC: Final = "anthropic"
TOGETHER: Final = "together"
GROQ: Final = "groq"
MISTRAL: Final = "mistral"

_BASES: Final = {
    "": ("", "/v1"),
    ANTHROPIC: ("/anthropic/v1",),
    TOGETHER: ("/together", "/together/v1"),
    GROQ: ("/openai/v1", "/groq/openai/v1"),
    MISTRAL: ("/mistral/v1",),
    "fireworks": ("/fireworks/inference/v1",),
    "gemini": ("/gemini/v1beta/openai",),
    "openrouter": ("/openrouter/api/v1",),
}
"""Where each vendor answers. ``/openai/v1`` is Groq's own spelling; under ``/v1`` the path's end, the headers
and the model tell OpenAI, Anthropic, Together and Mistral apart."""

_JSON_SCHEMA_SAID: Final = "JSON Schema"
_MESSAGE_TOKENS: Final = 4
"""What a chat template puts around one message."""

_SCHEMA_TOKENS: Final = 60
"""What a vendor writes around a schema that it enforces: a guess at a sentence or two."""

_MOST_KNOWN: Final = 512
_known_schemas: dict[tuple[bool, bool, bytes], tuple[str, Mapping[str, Any]]] = {}


@dataclass(frozen=True, slots=True)
class Route:
    """What a path means: a vendor ("" if the request must tell) and ``chat`` or ``models``."""

    vendor: str
    kind: str


def _routes() -> dict[str, Route]:
    routes = {}
    for vendor, bases in _BASES.items():
        for base in bases:
            routes[f"{base}/models"] = Route(vendor, "models")
            if vendor != ANTHROPIC:
                routes[f"{base}/chat/completions"] = Route(vendor, "chat")
            if vendor in {"", ANTHROPIC}:
                routes[f"{base}/messages"] = Route(ANTHROPIC, "chat")
    return routes


ROUTES: Final = _routes()
"""Every path that is served, and what it means."""


@dataclass(slots=True)
class Call:
    """One request, read: what the vendor was asked, in no vendor's words.

    Attributes:
        vendor: whose API was called; decides the words of the answer.
        path: where it came in.
        model: the model id, "" if the body names none.
        raw: the body as it came.
        body: the same, read; empty if it is not JSON.
        headers: names in lower case, or a mapping that does not mind.
        text: the text of the last message.
        schema: what the answer must fit, as it came, or None.
        heeded: the same with the limits that its descriptions tell.
        max_output_tokens: the output limit asked for, or None.
        fault: what the vendor would answer 400 with, or "".
        prompt_bytes: UTF-8 bytes of all texts and of the schema to enforce.
        messages: how many messages, the system prompt included.
        images: how many images.
        enforced: whether the vendor was told to enforce ``schema``.
        fallback_schema: what to answer by without a schema of its own.
        digest: 64 bits of the body's hash.
    """

    vendor: str
    path: str
    model: str
    raw: bytes
    headers: Mapping[str, str]
    digest: int
    body: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    schema: Mapping[str, Any] | None = None
    heeded: Mapping[str, Any] | None = None
    max_output_tokens: int | None = None
    fault: str = ""
    prompt_bytes: int = 0
    messages: int = 0
    images: int = 0
    enforced: bool = False
    fallback_schema: Mapping[str, Any] | None = None

    @property
    def anthropic(self) -> bool:
        """Whether it is in Anthropic's format."""
        return self.vendor == ANTHROPIC

    @property
    def key(self) -> str:
        """The account's key, from either of the headers that vendors take it in; "" if there is none."""
        bearer = self.headers.get("authorization", "").removeprefix("Bearer ").strip()
        return self.headers.get("x-api-key") or bearer

    def input_tokens(self, token_bytes: float, image_tokens: int) -> int:
        """How many tokens the prompt counts.

        Args:
            token_bytes: bytes per token.
            image_tokens: tokens per image.
        """
        texts = int(-(-self.prompt_bytes // token_bytes))
        schema = _SCHEMA_TOKENS if self.enforced else 0
        return texts + schema + _MESSAGE_TOKENS * self.messages + image_tokens * self.images


def read_call(vendor: str, path: str, raw: bytes, headers: Mapping[str, str]) -> Call:
    """Read a request; whatever is wrong with it stands in ``fault``.

    Args:
        vendor: whose API was called.
        path: where it came in.
        raw: the body.
        headers: as they came.
    """
    digest = int.from_bytes(blake2b(raw, digest_size=8).digest(), "big")
    call = Call(vendor, path, "", raw, headers, digest)
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        call.fault = "We could not parse the JSON body of your request."
        return call
    call.body = body
    call.model = str(body.get("model") or "")
    limit = body.get("max_tokens", body.get("max_completion_tokens"))
    call.max_output_tokens = limit if isinstance(limit, int) and not isinstance(limit, bool) else None
    call.fault = _fault_of(call, body)
    if not call.fault:
        _measure(call, body)
        _read_schema(call, body)
    return call


def _fault_of(call: Call, body: Mapping[str, Any]) -> str:
    limit = call.max_output_tokens
    if not call.model:
        return "model: Field required" if call.anthropic else "you must provide a model parameter"
    if (limit is None and call.anthropic) or (limit is not None and limit < 1):
        return "max_tokens: Field required" if limit is None else "max_tokens: must be at least 1"
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return "messages: at least one message is required"
    if not all(isinstance(message, dict) for message in messages):
        return "messages: every message must be an object"
    return "stream: this simulator does not stream" if body.get("stream") else ""


def _measure(call: Call, body: Mapping[str, Any]) -> None:
    contents = [message.get("content") for message in body["messages"]]
    if body.get("system"):
        contents.insert(0, body["system"])
    for content in contents:
        texts, images = _texts(content)
        call.text = " ".join(texts)
        call.prompt_bytes += sum(map(_byte_count, texts))
        call.images += images
    call.messages = len(contents)


def _texts(content: Any) -> tuple[list[str], int]:
    """The texts of one message's content, and how many images it has."""
    if isinstance(content, str):
        return [content], 0
    parts = [part for part in content or () if isinstance(part, dict)] if isinstance(content, list) else []
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    return texts, sum(part.get("type") in {"image", "image_url"} for part in parts)


def _byte_count(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _read_schema(call: Call, body: Mapping[str, Any]) -> None:
    if call.anthropic:
        schema = _below(body, "output_config", "format", "schema")
        strict = schema is not None
    else:
        schema = _below(body, "response_format", "json_schema", "schema")
        strict = bool(_below(body, "response_format", "json_schema", "strict"))
    if not isinstance(schema, dict):
        call.schema = call.heeded = _schema_in_the_prompt(body)
        return
    spelled = orjson.dumps(schema)
    call.prompt_bytes += len(spelled)
    call.enforced = True
    call.schema = schema
    known = (call.anthropic, strict, spelled)
    if known not in _known_schemas:
        if len(_known_schemas) >= _MOST_KNOWN:
            _known_schemas.clear()
        check = claude_schema_fault if call.anthropic else strict_schema_fault
        fault = schema_fault(schema) or (check(schema) if strict else "")
        _known_schemas[known] = (fault, schema if fault else with_told_limits(schema))
    call.fault, call.heeded = _known_schemas[known]


def _below(body: Any, *names: str) -> Any:
    for name in names:
        body = body.get(name) if isinstance(body, dict) else None
    return body


def _schema_in_the_prompt(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A schema that the first message or the system prompt spells out or tells in words."""
    first = body.get("system") or body["messages"][0].get("content")
    for text in _texts(first)[0]:
        if (outline := schema_of_outline(text)) is not None:
            return outline
        said = text.find(_JSON_SCHEMA_SAID)
        start = text.find("{", said) if said >= 0 else -1
        if start < 0:
            continue
        for end in (len(text), text.find("\n", start)):
            try:
                schema = orjson.loads(text[start:end])
            except orjson.JSONDecodeError:
                continue
            if isinstance(schema, dict):
                return schema
    return None
