"""A lane: one job's work on one tier, bound to the model that does it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from batcher.catalog.models import Catalog, Model
from batcher.catalog.tokens import estimate_tokens, input_tokens_bound
from batcher.domain import Document, Image, Message
from batcher.errors import ConfigurationError
from batcher.money import worst_case_nusd
from batcher.providers.base import ChatRequest, Provider
from batcher.providers.factory import schema_bytes_as_sent
from batcher.store.ingestion import accepts_key
from batcher.store.jobs import Job
from batcher.store.leases import QueuedItem
from batcher.tasks.answers import AnswerParser
from batcher.tasks.rendering import document_messages
from batcher.tasks.spec import TaskSpec

if TYPE_CHECKING:
    from batcher.tasks.definition import Task

IDENTICAL_ERRORS_LIMIT: Final = 3
"""The same request error this many times in a row on one lane stops the lane."""


@dataclass(eq=False)
class Lane:
    """Everything that the items of one job and tier share.

    Attributes:
        schema_bytes: bytes of the schema as this provider's requests carry it, 0 where it is not enforced.
        overhead_bytes: UTF-8 bytes of a request around the document: instructions, schema, delimiters.
        overhead_tokens: their estimated tokens.
        stopped: why the lane takes no more work, or None.
    """

    job: Job
    spec: TaskSpec
    tier: str
    model: Model
    provider: Provider
    parser: AnswerParser
    timeout_s: float
    schema_bytes: int
    accepts_key: int = 0
    overhead_bytes: int = 0
    overhead_tokens: int = 0
    stopped: str | None = None
    _last_error: str = field(default="", repr=False)
    _repeated: int = 0

    def __post_init__(self) -> None:
        self.accepts_key = accepts_key(self.job.accepts)
        messages = document_messages(self.spec, Document(hash=b"", text=""), part=(999, 999))
        self.overhead_bytes = sum(len(message.text.encode()) for message in messages)
        self.overhead_tokens = (
            sum(estimate_tokens(message.text) for message in messages) + self.schema_bytes // 4
        )

    @property
    def enforces_schema(self) -> bool:
        """Whether the model's API enforces the task's schema."""
        return "schema" in self.model.abilities

    @property
    def output_tokens(self) -> int:
        """The output limit of a first call."""
        return min(self.spec.max_output_tokens, self.model.max_output)

    @property
    def document_tokens(self) -> int:
        """How many tokens of document fit into one call; longer ones are split."""
        room = min(self.model.practical_context, self.model.context - self.output_tokens)
        return room - self.overhead_tokens

    def next_rung(self) -> str | None:
        """The tier above this one on the job's ladder, or None."""
        ladder = list(self.job.ladder)
        if self.job.pinned_model is not None or self.tier not in ladder:
            return None
        above = ladder[ladder.index(self.tier) + 1 :]
        return above[0] if above else None

    def request(self, messages: Sequence[Message], max_output_tokens: int) -> ChatRequest:
        """The call that these messages make."""
        return ChatRequest(
            model_id=self.model.id,
            messages=tuple(messages),
            schema=self.spec.schema,
            schema_name=self.spec.schema_name,
            enforce_schema=self.enforces_schema,
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

        Repairs, retries and climbs reserve for themselves when they come.
        """
        parts = 1 + item.text_bytes // max(1, self.document_tokens)
        calls = 1 if parts == 1 else parts + 1
        text_bytes = item.text_bytes + calls * self.overhead_bytes
        if calls > 1:
            text_bytes += parts * self.output_tokens * 4
        bound = input_tokens_bound(text_bytes, calls * self.schema_bytes, item.image_count, self.model)
        return worst_case_nusd(bound, calls * self.output_tokens, self.model.prices)

    def note_request_error(self, error: str) -> bool:
        """Count a request error; whether it is the same one for the third time in a row."""
        self._repeated = self._repeated + 1 if error == self._last_error else 1
        self._last_error = error
        return self._repeated >= IDENTICAL_ERRORS_LIMIT

    def note_success(self) -> None:
        """Forget earlier request errors."""
        self._repeated = 0


class LaneFactory:
    """Makes lanes and keeps them for the life of an engine.

    Args:
        catalog: models and tiers.
        get_provider: the pooled client of a provider, by name.
        is_usable: whether a model's provider has what it needs (a key, or needs none).
        load_task: the task's code for its own validators, or None where it cannot be loaded.
        timeout_s: wall-clock limit of one call.
    """

    def __init__(
        self,
        catalog: Catalog,
        get_provider: Callable[[str], Provider],
        is_usable: Callable[[Model], bool],
        load_task: Callable[[TaskSpec], Task | None],
        timeout_s: float,
    ) -> None:
        self._catalog = catalog
        self._get_provider = get_provider
        self._is_usable = is_usable
        self._load_task = load_task
        self._timeout_s = timeout_s
        self._lanes: dict[tuple[int, str], Lane] = {}

    def lane(self, job: Job, tier: str) -> Lane:
        """The lane of a job on a tier.

        Raises:
            ConfigurationError: if no model of the tier can be used.
        """
        known = self._lanes.get((job.id, tier))
        if known is None:
            known = self._lanes[job.id, tier] = self._make(job, tier)
        return known

    def _make(self, job: Job, tier: str) -> Lane:
        spec = TaskSpec.from_json(job.spec)
        model = pick_model(self._catalog, tier, job.pinned_model, self._is_usable)
        enforces = "schema" in model.abilities
        info = self._catalog.providers[model.provider]
        return Lane(
            job=job,
            spec=spec,
            tier=tier,
            model=model,
            provider=self._get_provider(model.provider),
            parser=AnswerParser(spec, self._load_task(spec)),
            timeout_s=self._timeout_s,
            schema_bytes=schema_bytes_as_sent(info, spec.schema) if enforces else 0,
        )


def pick_model(
    catalog: Catalog, tier: str, pinned_model: str | None, is_usable: Callable[[Model], bool]
) -> Model:
    """The model that does a tier's work: the pinned one, else the tier's first that can be used.

    Raises:
        ConfigurationError: naming the variables to set, if none can be used.
    """
    candidates = (catalog.model(pinned_model),) if pinned_model else catalog.tier(tier)
    for model in candidates:
        if is_usable(model):
            return model
    variables = dict.fromkeys(catalog.providers[model.provider].api_key_env or "" for model in candidates)
    names = " or ".join(name for name in variables if name)
    subject = f"Model {pinned_model}" if pinned_model else f"Tier {tier}"
    raise ConfigurationError(f"{subject} needs a key: set {names}, or choose --tier local")


def load_document(item: QueuedItem, images: Sequence[Image]) -> Document:
    """The document of a leased item."""
    text = zlib.decompress(item.body).decode()
    return Document(hash=item.document_hash, text=text, images=tuple(images))
