"""How a task fits a model: what goes into one call, and what a call can cost at most."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from batcher.catalog.models import Model
from batcher.catalog.tokens import estimate_tokens, input_tokens_bound
from batcher.domain import Document
from batcher.money import worst_case_nusd
from batcher.store.leases import QueuedItem
from batcher.tasks.rendering import document_messages, text_overhead_bytes
from batcher.tasks.spec import TaskSpec

LEAST_OUTPUT_TOKENS: Final = 64
BYTES_PER_TOKEN: Final = 4
"""Of English prose; vendors' own rule of thumb."""


@dataclass(eq=False)
class Fit:
    """A task on a model.

    Attributes:
        spec: the task, as the job stores it.
        model: the model.
        schema_bytes: bytes of the schema as the provider's requests carry it, 0 where it is not enforced.
        overhead_bytes: UTF-8 bytes of a request around the document: instructions, schema, delimiters.
        overhead_tokens: their estimated tokens.
    """

    spec: TaskSpec
    model: Model
    schema_bytes: int
    overhead_bytes: int = field(init=False)
    overhead_tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.overhead_bytes = text_overhead_bytes(self.spec)
        messages = document_messages(self.spec, Document(hash=b"", text=""), part=(999, 999))
        told = sum(estimate_tokens(message.text) for message in messages)
        self.overhead_tokens = told + self.schema_bytes // BYTES_PER_TOKEN

    @property
    def output_tokens(self) -> int:
        """The output limit of a first call: the task's, but at most half of what a small context leaves."""
        half = (self.model.context - self.overhead_tokens) // 2
        return min(self.spec.max_output_tokens, self.model.max_output, max(LEAST_OUTPUT_TOKENS, half))

    @property
    def document_tokens(self) -> int:
        """How many tokens of document fit into one call; longer ones are split."""
        room = min(self.model.practical_context, self.model.context - self.output_tokens)
        return room - self.overhead_tokens

    def reservation_nusd(self, text_bytes: int, image_count: int, max_output_tokens: int) -> int:
        """The most that a call with this much in its messages can cost (DESIGN decision 5)."""
        bound = input_tokens_bound(text_bytes, self.schema_bytes, image_count, self.model)
        return worst_case_nusd(bound, self.output_tokens_bound(max_output_tokens), self.model.prices)

    def output_tokens_bound(self, max_output_tokens: int, calls: int = 1) -> int:
        """The most output tokens that calls with this limit can be billed for, reasoning included."""
        return calls * (max_output_tokens + self.model.reasoning_beyond_limit)

    def item_reservation_nusd(self, item: QueuedItem) -> int:
        """What to reserve for an item when its chunk is leased: its first calls, all parts and the merge.

        Repairs, retries, climbs and other models reserve for themselves when they come.
        """
        return self.first_calls_nusd(item.text_bytes, item.image_count)

    def first_calls_nusd(self, text_bytes: int, image_count: int) -> int:
        """What to reserve for the first calls of one document.

        Args:
            text_bytes: what ``money.most_tokens`` makes of its text.
            image_count: its pictures or pages.
        """
        parts = 1 + text_bytes // max(1, self.document_tokens)
        calls = 1 if parts == 1 else parts + 1
        sent_bytes = text_bytes + calls * self.overhead_bytes
        if calls > 1:
            sent_bytes += parts * self.output_tokens * BYTES_PER_TOKEN
        schema_bytes = calls * self.schema_bytes
        bound = input_tokens_bound(sent_bytes, schema_bytes, image_count, self.model, calls=calls)
        return worst_case_nusd(
            bound,
            self.output_tokens_bound(self.output_tokens, calls),
            self.model.prices,
            calls=calls,
            longest_input=-(-bound // calls),
        )
