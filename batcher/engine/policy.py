"""What to do about a failure: a pure function of its class and of what was tried before."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Final

from batcher.domain import FailureClass

BACKOFF_BASE_S: Final = 0.5
BACKOFF_CAP_S: Final = 60.0
"""Full jitter between 0 and min(cap, base * 2**n), as AWS's architecture blog recommends (2015)."""

PATIENCE: Final = 10
"""How many times more rate limits and capacity answers than other failures an item bears."""

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
    """What was tried for one answer so far."""

    failures: int = 0
    waits: int = 0
    repairs: int = 0
    enlargements: int = 0
    elapsed_s: float = 0.0

    def after(self, failure: FailureClass) -> History:
        """The history with one more failure."""
        if failure in _WAITED_OUT:
            return replace(self, waits=self.waits + 1)
        return replace(self, failures=self.failures + 1)


@dataclass(frozen=True, slots=True)
class RetryLimits:
    """How long to try: calls for one answer, and seconds since the item was taken up."""

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


def backoff_s(failures: int, retry_after_s: float | None) -> float:
    """Seconds to wait: what the vendor asks and a little more, else exponential backoff with full jitter."""
    if retry_after_s is not None:
        return retry_after_s + random.uniform(0, min(1.0, 0.1 * retry_after_s))
    return random.uniform(0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0**failures))


def _retry(history: History, limits: RetryLimits, retry_after_s: float | None) -> Decision:
    delay_s = backoff_s(history.failures + history.waits, retry_after_s)
    too_many = history.failures >= limits.max_attempts or history.waits >= limits.max_attempts * PATIENCE
    if too_many or history.elapsed_s + delay_s > limits.max_elapsed_s:
        return GiveUp(may_climb=False)
    return Retry(delay_s)
