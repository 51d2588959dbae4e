"""One call to a model: what is asked, and what its answer or its failure means for the books."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from batcher.domain import NOT_SENT, AttemptState, FailureClass, Finish, Message, Purpose
from batcher.engine.binding import Binding
from batcher.engine.marks import Mark
from batcher.money import cost_nusd
from batcher.providers.base import Completion, ProviderError
from batcher.store.attempts import NewResult, Settlement
from batcher.tasks.answers import InvalidAnswerError

if TYPE_CHECKING:
    from batcher.engine.lane import Lane

_ERROR_LENGTH: Final = 500


@dataclass(frozen=True, slots=True)
class Ask:
    """One answer to get.

    Attributes:
        key: what it is stored and found by.
        part: which part of a long document it is for, from 1; 0 for the whole.
        messages: the conversation that asks for it.
        image_count: images in it.
    """

    key: bytes
    part: int
    messages: tuple[Message, ...] = field(repr=False)
    image_count: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt at an answer. A repair has more messages than its ask, a retry after a cut more tokens.

    ``tier`` is the one whose cap it stands under.
    """

    ask: Ask
    binding: Binding
    messages: tuple[Message, ...] = field(repr=False)
    output_tokens: int
    purpose: Purpose
    tier: str


@dataclass(frozen=True, slots=True)
class Valid:
    """The call brought a valid answer."""

    settlement: Settlement
    result: NewResult
    answer: Any = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Fault:
    """The call brought none. ``text`` is what the model wrote, if it wrote anything."""

    settlement: Settlement
    failure: FailureClass
    error: str
    text: str = field(default="", repr=False)
    retry_after_s: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def not_sent(mark: Mark, why: str) -> Settlement:
    """A call that was marked and held back: it costs nothing."""
    return Settlement(mark.attempt_id, AttemptState.SETTLED, 0, NOT_SENT, error=why)


def fault_of_error(mark: Mark, error: ProviderError, latency_s: float) -> Fault:
    """A call without a completion costs nothing if that is proven, else it stays booked at its worst case."""
    proven = error.billed is False
    text = error.message[:_ERROR_LENGTH]
    settlement = Settlement(
        attempt_id=mark.attempt_id,
        state=AttemptState.SETTLED if proven else AttemptState.UNKNOWN,
        cost_nusd=0 if proven else mark.reserved_nusd,
        outcome=error.failure.value,
        status_code=error.status,
        error=text,
        request_id=error.request_id,
        latency_s=latency_s,
    )
    return Fault(settlement, error.failure, text, "", error.retry_after_s, error.headers)


def read_completion(
    lane: Lane, mark: Mark, key: bytes, completion: Completion, latency_s: float
) -> Valid | Fault:
    """Price a completion and check its answer. One without usage stays booked at its worst case."""
    settlement = Settlement(
        attempt_id=mark.attempt_id,
        state=AttemptState.UNKNOWN,
        cost_nusd=mark.reserved_nusd,
        outcome="ok",
        status_code=200,
        request_id=completion.request_id,
        latency_s=latency_s,
        logprob=completion.logprob,
    )
    if completion.usage is not None:
        usage = completion.usage
        charged = mark.prices.charged(usage.input_tokens)
        settlement = replace(
            settlement,
            state=AttemptState.SETTLED,
            cost_nusd=cost_nusd(usage, mark.prices),
            usage=usage,
            prices=None if charged is mark.prices else charged,
        )
    try:
        answer = _validated(lane, completion)
    except _InvalidError as error:
        text = error.reason[:_ERROR_LENGTH]
        failed = replace(settlement, outcome=error.failure.value, error=text)
        return Fault(failed, error.failure, text, completion.text, headers=completion.headers)
    lane.note_success()
    result = NewResult(
        attempt_id=mark.attempt_id,
        result_key=key,
        model=mark.model,
        refresh_key=lane.job.refresh_key,
        tier=mark.tier,
        output=orjson.dumps(answer).decode(),
    )
    return Valid(settlement, result, answer, completion.headers)


class _InvalidError(Exception):
    def __init__(self, failure: FailureClass, reason: str) -> None:
        super().__init__(reason)
        self.failure = failure
        self.reason = reason


def _validated(lane: Lane, completion: Completion) -> Any:
    if completion.finish is Finish.REFUSED:
        raise _InvalidError(FailureClass.REFUSED, completion.text or "the model refused")
    try:
        return lane.parser.parse(completion.text)
    except InvalidAnswerError as error:
        if completion.finish is Finish.LENGTH:
            why = "the answer was cut off at the output limit"
            raise _InvalidError(FailureClass.TRUNCATED, why) from error
        raise _InvalidError(FailureClass.INVALID_OUTPUT, error.reason) from error
