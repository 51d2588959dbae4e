"""The frozen records and enums that every part of batcher speaks in, and the legal changes of state.

Nothing here does I/O. Money is integer nano-dollars (``_nusd``), time is Unix seconds (``_at``, ``_s``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class JobState(StrEnum):
    """Where a job stands."""

    INGESTING = "ingesting"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"


class ItemStatus(StrEnum):
    """Where one document of one job stands."""

    PENDING = "pending"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


class AttemptState(StrEnum):
    """Where one call to a model stands."""

    SENDING = "sending"
    SETTLED = "settled"
    UNKNOWN = "unknown"


class LeaseState(StrEnum):
    """Where one chunk's lease stands."""

    ACTIVE = "active"
    CLOSED = "closed"
    EXPIRED = "expired"


class Purpose(StrEnum):
    """What an attempt was paid for."""

    ANSWER = "answer"
    REPAIR = "repair"
    ESCALATION = "escalation"
    JUDGE = "judge"
    GOLDEN = "golden"
    ROUTE = "route"

    @property
    def of_repair(self) -> Purpose:
        """What a repair of an answer that was asked for so is paid for.

        Judging, measuring and routing cost what all their calls cost: only the repair of an answer that the
        user gets has a purpose of its own.
        """
        return Purpose.REPAIR if self in {Purpose.ANSWER, Purpose.ESCALATION} else self


class FailureClass(StrEnum):
    """The closed set of ways in which an attempt can fail: providers classify, the engine decides."""

    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    TRANSIENT = "transient"
    UNKNOWN_OUTCOME = "unknown_outcome"
    ACCOUNT = "account"
    BAD_REQUEST = "bad_request"
    TOO_LONG = "too_long"
    TRUNCATED = "truncated"
    INVALID_OUTPUT = "invalid_output"
    REFUSED = "refused"


NOT_SENT: Final = "not_sent"
"""The outcome of an attempt that was marked and held back: it cost nothing, and is no call."""


class Finish(StrEnum):
    """Why a model stopped writing, in one vocabulary for all vendors."""

    STOP = "stop"
    LENGTH = "length"
    REFUSED = "refused"


JOB_TRANSITIONS: Final[dict[JobState, frozenset[JobState]]] = {
    JobState.INGESTING: frozenset({JobState.RUNNING, JobState.PAUSED, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.INGESTING, JobState.PAUSED, JobState.DONE, JobState.CANCELLED}),
    JobState.PAUSED: frozenset({JobState.INGESTING, JobState.RUNNING, JobState.CANCELLED}),
    JobState.DONE: frozenset({JobState.RUNNING}),
    JobState.CANCELLED: frozenset(),
}
"""Legal changes of a job's state. ``done -> running`` is ``batcher retry``."""

ITEM_TRANSITIONS: Final[dict[ItemStatus, frozenset[ItemStatus]]] = {
    ItemStatus.PENDING: frozenset(
        {ItemStatus.LEASED, ItemStatus.DONE, ItemStatus.FAILED, ItemStatus.CANCELLED}
    ),
    ItemStatus.LEASED: frozenset(
        {ItemStatus.PENDING, ItemStatus.DONE, ItemStatus.FAILED, ItemStatus.CANCELLED}
    ),
    ItemStatus.DONE: frozenset(),
    ItemStatus.FAILED: frozenset({ItemStatus.PENDING, ItemStatus.DONE}),
    ItemStatus.CANCELLED: frozenset(),
    ItemStatus.REJECTED: frozenset(),
}
"""Legal changes of an item's status. ``pending -> done`` takes another item's answer for the same key;
``failed -> done`` is a late answer, ``failed -> pending`` is ``batcher retry``."""

ATTEMPT_TRANSITIONS: Final[dict[AttemptState, frozenset[AttemptState]]] = {
    AttemptState.SENDING: frozenset({AttemptState.SETTLED, AttemptState.UNKNOWN}),
    AttemptState.UNKNOWN: frozenset({AttemptState.SETTLED}),
    AttemptState.SETTLED: frozenset(),
}
"""Legal changes of an attempt's state. ``unknown -> settled`` is a late answer or ``reconcile``."""

LEASE_TRANSITIONS: Final[dict[LeaseState, frozenset[LeaseState]]] = {
    LeaseState.ACTIVE: frozenset({LeaseState.CLOSED, LeaseState.EXPIRED}),
    LeaseState.CLOSED: frozenset(),
    LeaseState.EXPIRED: frozenset(),
}
"""Legal changes of a lease's state. ``active -> expired`` means the worker was lost."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, counted the same way for every vendor.

    Attributes:
        input_tokens: all input, cached parts included.
        cached_tokens: the part of ``input_tokens`` read from the vendor's prompt cache.
        cache_write_tokens: the part of ``input_tokens`` written to it.
        output_tokens: all billed output, reasoning included.
        reasoning_tokens: the part of ``output_tokens`` that was reasoning.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Prices:
    """What a model charges, in nano-dollars per million tokens.

    $0.15 per million tokens is 150_000_000.

    Attributes:
        input_nusd: input.
        output_nusd: output, reasoning included.
        cached_nusd: input read from the vendor's prompt cache.
        cache_write_nusd: input written to it.
        batch_percent: what a provider's Batch API charges of the list price (50 = half); 100 where no
            discount is known.
        request_nusd: for the call itself, nano-dollars, whatever its tokens.
        long: what a call with more than ``long_from`` input tokens is charged at, wholly; None where length
            does not matter.
        long_from: the most input tokens, cached ones included, that are charged at the usual prices.
    """

    input_nusd: int
    output_nusd: int
    cached_nusd: int
    cache_write_nusd: int
    batch_percent: int = 100
    request_nusd: int = 0
    long: Prices | None = None
    long_from: int = 0

    def charged(self, input_tokens: int) -> Prices:
        """The prices that a call with this much input is charged at."""
        return self.long if self.long is not None and input_tokens > self.long_from else self


@dataclass(frozen=True, slots=True)
class Image:
    """One picture or page of a document.

    Attributes:
        mime: ``image/png`` or ``image/jpeg`` (also webp and gif, as found).
        data: the encoded bytes, as they go to the model.
        width: pixels.
        height: pixels.
    """

    mime: str
    data: bytes = field(repr=False)
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Document:
    """Parsed content, named by the hash of that content.

    Attributes:
        hash: 20 bytes, BLAKE2b of the text or of the image bytes.
        text: the parsed text; empty for a document of images.
        images: the pages or the picture; empty for a text document.
    """

    hash: bytes
    text: str = field(default="", repr=False)
    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation with a model. ``role`` is ``system``, ``user`` or ``assistant``."""

    role: str
    text: str = field(repr=False)
    images: tuple[Image, ...] = ()
