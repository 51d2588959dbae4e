"""What to do about a failure: a pure function of its class and of what was tried before."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Final

from batcher.domain import FailureClass

BACKOFF_BASE_S: Final = 0.5
BACKOFF_CAP_S: Final = 60.0
"""Full jitter between 0 and min(cap, base * 2**n), as AWS's architecture blog recommends (2015)."""

BACKOFF_LEAST_S: Final = 0.1
BACKOFF_GROWTH: Final = 1.2
"""Jitter is added to this many times the first gap between two calls: the queue for a rate limit is a part of
that gap, and jitter alone would now and then make the next one shorter."""

PATIENCE: Final = 10
"""How many times more rate limits and capacity answers than other failures an item bears."""

TAKEN_AT_THEIR_WORD: Final = 3
LONGEST_DOUBT_S: Final = 300.0
LONGEST_TOLD_S: Final = 86_400.0
"""So many rate limits and capacity answers are waited out as they ask. When yet another follows, waiting as
asked does not heal them: from then on the wait doubles as well, up to so long. A wait of up to a day that a
vendor asks for is begun while there is time left for a call: a daily limit is no fault of the item."""

_WAITED_OUT: Final = frozenset({FailureClass.RATE_LIMITED, FailureClass.OVERLOADED})
_RETRIED: Final = _WAITED_OUT | {FailureClass.TRANSIENT, FailureClass.UNKNOWN_OUTCOME}


@dataclass(frozen=True, slots=True)
class Retry:
    """Call again with the same request after ``delay_s`` seconds."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Repair:
    """Call again and show the model what was wrong with its answer."""


@dataclass(frozen=True, slots=True)
class Enlarge:
    """Call again with a larger output limit."""


@dataclass(frozen=True, slots=True)
class Split:
    """Cut the document into smaller parts."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """This model will not answer: climb the ladder if there is a rung, else dead letter."""

    may_climb: bool


@dataclass(frozen=True, slots=True)
class StopLane:
    """No call of this lane can succeed until somebody acts: give every item back."""


Decision = Retry | Repair | Enlarge | Split | GiveUp | StopLane


@dataclass(frozen=True, slots=True)
class History:
    """What was tried for one answer so far.

    Attributes:
        failures: calls that failed otherwise than by a rate limit or for want of capacity.
        waits: calls that failed so.
        repairs: answers sent back with what is wrong with them.
        enlargements: larger output limits tried.
        elapsed_s: time on the wire, backing off and shut out by circuits. The queue for our own rate limit is
            not in it: a long one is no reason to give up.
        gap_s: between the first failure that named no time to wait and the call that followed it.
    """

    failures: int = 0
    waits: int = 0
    repairs: int = 0
    enlargements: int = 0
    elapsed_s: float = 0.0
    gap_s: float = 0.0

    def after(self, failure: FailureClass) -> History:
        """The history with one more failure."""
        if failure in _WAITED_OUT:
            return replace(self, waits=self.waits + 1)
        return replace(self, failures=self.failures + 1)


@dataclass(frozen=True, slots=True)
class RetryLimits:
    """How long to try: calls for one answer, and seconds (``History.elapsed_s``)."""

    max_attempts: int
    max_elapsed_s: float


def decide(
    failure: FailureClass, history: History, limits: RetryLimits, *, retry_after_s: float | None = None
) -> Decision:
    """Decide what to do next.

    Args:
        failure: the class of the latest failure.
        history: everything tried so far, the latest failure included.
        limits: when to stop trying.
        retry_after_s: how long the vendor asked to wait.
    """
    if failure is FailureClass.ACCOUNT:
        return StopLane()
    if failure in _RETRIED:
        return _retry(history, limits, retry_after_s)
    if failure is FailureClass.TOO_LONG:
        return Split()
    exhausted = history.failures >= limits.max_attempts
    if failure is FailureClass.TRUNCATED and history.enlargements == 0 and not exhausted:
        return Enlarge()
    if failure is FailureClass.INVALID_OUTPUT and history.repairs == 0 and not exhausted:
        return Repair()
    return GiveUp(may_climb=failure is not FailureClass.BAD_REQUEST)


def backoff_s(history: History, retry_after_s: float | None) -> float:
    """Seconds to wait: what the vendor asks and a little more, else exponential backoff with full jitter."""
    tried = history.failures + history.waits
    if not retry_after_s:
        least = max(BACKOFF_LEAST_S, BACKOFF_GROWTH * min(history.gap_s, LONGEST_DOUBT_S))
        return least + random.uniform(0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0**tried))
    told = retry_after_s + random.uniform(0, min(1.0, 0.1 * retry_after_s))
    if history.waits <= TAKEN_AT_THEIR_WORD:
        return told
    return max(told, random.uniform(0.5, 1.0) * min(LONGEST_DOUBT_S, BACKOFF_BASE_S * 2.0**tried))


def _retry(history: History, limits: RetryLimits, retry_after_s: float | None) -> Decision:
    delay_s = backoff_s(history, retry_after_s)
    too_many = history.failures >= limits.max_attempts or history.waits >= limits.max_attempts * PATIENCE
    left_s = limits.max_elapsed_s - history.elapsed_s
    too_late = left_s < 0 or retry_after_s > LONGEST_TOLD_S if retry_after_s else delay_s > left_s
    return GiveUp(may_climb=False) if too_many or too_late else Retry(delay_s)
