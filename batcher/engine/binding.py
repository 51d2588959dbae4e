"""A model bound to a task: what a request to it looks like, what fits into it and what it can cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from batcher.catalog.models import Model
from batcher.catalog.tokens import estimate_tokens, input_tokens_bound
from batcher.domain import Document, Message, Usage
from batcher.money import worst_case_nusd
from batcher.providers.base import ChatRequest, Provider
from batcher.store.leases import QueuedItem
from batcher.tasks.rendering import document_messages, text_overhead_bytes
from batcher.tasks.spec import TaskSpec


@dataclass(eq=False)
class Binding:
    """One model that can do a lane's work.

    Attributes:
        spec: the task, as the job stores it.
        model: the model.
        provider: the client of its account.
        kind: which SDK speaks to it: vendors count tokens against limits each in their own way.
        timeout_s: wall-clock limit of a call.
        schema_bytes: bytes of the schema as this provider's requests carry it, 0 where it is not enforced.
        overhead_bytes: UTF-8 bytes of a request around the document: instructions, schema, delimiters.
        overhead_tokens: their estimated tokens.
    """

    spec: TaskSpec
    model: Model
    provider: Provider
    kind: str
    timeout_s: float
    schema_bytes: int
    overhead_bytes: int = field(init=False)
    overhead_tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.overhead_bytes = text_overhead_bytes(self.spec)
        messages = document_messages(self.spec, Document(hash=b"", text=""), part=(999, 999))
        told = sum(estimate_tokens(message.text) for message in messages)
        self.overhead_tokens = told + self.schema_bytes // 4

    @property
    def key(self) -> str:
        """What limits, slots and circuits are kept by."""
        return self.model.name

    @property
    def output_tokens(self) -> int:
        """The output limit of a first call."""
        return min(self.spec.max_output_tokens, self.model.max_output)

    @property
    def document_tokens(self) -> int:
        """How many tokens of document fit into one call; longer ones are split."""
        room = min(self.model.practical_context, self.model.context - self.output_tokens)
        return room - self.overhead_tokens

    def request(self, messages: Sequence[Message], max_output_tokens: int) -> ChatRequest:
        """The call that these messages make."""
        return ChatRequest(
            model_id=self.model.id,
            messages=tuple(messages),
            schema=self.spec.schema,
            schema_name=self.spec.schema_name,
            enforce_schema="schema" in self.model.abilities,
            max_output_tokens=max_output_tokens,
            temperature=self.spec.temperature,
            timeout_s=self.timeout_s,
            extra=self.model.extra,
        )

    def reservation_nusd(self, text_bytes: int, image_count: int, max_output_tokens: int) -> int:
        """The most that a call with this much in its messages can cost (DESIGN decision 5)."""
        bound = input_tokens_bound(text_bytes, self.schema_bytes, image_count, self.model)
        return worst_case_nusd(bound, max_output_tokens, self.model.prices)

    def item_reservation_nusd(self, item: QueuedItem) -> int:
        """What to reserve for an item when its chunk is leased: its first calls, all parts and the merge.

        Repairs, retries, climbs and other models reserve for themselves when they come.
        """
        parts = 1 + item.text_bytes // max(1, self.document_tokens)
        calls = 1 if parts == 1 else parts + 1
        text_bytes = item.text_bytes + calls * self.overhead_bytes
        if calls > 1:
            text_bytes += parts * self.output_tokens * 4
        bound = input_tokens_bound(text_bytes, calls * self.schema_bytes, item.image_count, self.model)
        return worst_case_nusd(bound, calls * self.output_tokens, self.model.prices)

    def counted_input_tokens(self, usage: Usage) -> int:
        """A call's input as limits count it: Anthropic and Groq leave out what was read from their caches."""
        if self.kind == "anthropic" or self.model.provider == "groq":
            return usage.input_tokens - usage.cached_tokens
        return usage.input_tokens
