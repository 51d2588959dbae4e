"""What a process sees go wrong while it calls models: counted in memory, call by call, for two rules.

A worker process counts its own calls. The answers of a model are counted in windows of 50, and each window is
held against all before it; failed calls are counted by the minute.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from batcher.alerts.book import Alert, Rule
from batcher.domain import FailureClass, Purpose

WINDOW_ANSWERS: Final = 50
LEAST_FALL: Final = 0.15
SURE_Z: Final = 5.0
"""A window is worse when its share lies 15 points and five standard errors below. By chance alone a model
that is as good as before looks so in one window of 8,000 at most (exact binomial, any share)."""

SPIKE_MINUTES: Final = 5
LEAST_CALLS: Final = 10
LEAST_CALLS_BEFORE: Final = 20
SPIKE_FACTOR: Final = 3.0
SHARE_WITHOUT_BEFORE: Final = 0.5
"""With nothing to compare with, half of the calls must fail."""

_MINUTE_S: Final = 60.0

_VALID: Final = "ok"
_NOT_VALID: Final = frozenset({FailureClass.INVALID_OUTPUT, FailureClass.TRUNCATED})
_ERRORS: Final = frozenset(
    {
        FailureClass.OVERLOADED,
        FailureClass.TRANSIENT,
        FailureClass.UNKNOWN_OUTCOME,
        FailureClass.ACCOUNT,
        FailureClass.BAD_REQUEST,
    }
)
_ANSWERED: Final = frozenset({_VALID, FailureClass.REFUSED, FailureClass.TOO_LONG}) | _NOT_VALID
"""A rate limit is neither: it is waited out, and says nothing of the vendor's health."""


@dataclass(slots=True)
class Share:
    """So many of so many."""

    hits: int = 0
    total: int = 0

    @property
    def share(self) -> float:
        """Between 0 and 1; 0 of nothing."""
        return self.hits / self.total if self.total else 0.0

    def add(self, other: Share) -> None:
        """Count another one in."""
        self.hits += other.hits
        self.total += other.total

    def __str__(self) -> str:
        return f"{self.share:.0%} ({self.hits:,} of {self.total:,})"


@dataclass(slots=True)
class _Answers:
    """First answers of one model in one job: how many fit the schema. The last two are for the next look."""

    window: Share = field(default_factory=Share)
    before: Share = field(default_factory=Share)
    lowest: Share | None = None
    fallen: tuple[Share, Share] | None = None


@dataclass(slots=True)
class _Calls:
    """Calls of one model: how many failed, by the minute; older minutes are added up."""

    minutes: deque[tuple[int, Share]] = field(default_factory=deque)
    before: Share = field(default_factory=Share)
    classes: Counter[str] = field(default_factory=Counter)


class Rates:
    """The counts of one process. Calls are recorded in one thread and looked at in another.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: dict[tuple[int, str], _Answers] = {}
        self._calls: dict[str, _Calls] = {}
        self._moved_at = clock()

    def record(self, job_id: int, model: str, purpose: Purpose, outcome: str) -> None:
        """Count a call that has ended. ``outcome`` is ``ok`` or a failure class."""
        with self._lock:
            self._moved_at = self._clock()
            if purpose is Purpose.ANSWER and (outcome == _VALID or outcome in _NOT_VALID):
                _count_answer(self._answers.setdefault((job_id, model), _Answers()), outcome == _VALID)
            if outcome in _ERRORS or outcome in _ANSWERED:
                calls = self._calls.setdefault(model, _Calls())
                _count_call(calls, int(self._moved_at // _MINUTE_S), outcome)

    def quiet_s(self) -> float:
        """Seconds since the last call ended, or since the start."""
        return self._clock() - self._moved_at

    def find(self, valid_floor: float, error_share: float) -> list[Alert]:
        """What is worth an alert since the last look.

        Args:
            valid_floor: the least share of a window's answers that fit the schema.
            error_share: the least share of failed calls that is a spike.
        """
        with self._lock:
            invalid = [
                alert
                for (job_id, model), answers in self._answers.items()
                if (alert := _invalid_rate(job_id, model, answers, valid_floor)) is not None
            ]
            for answers in self._answers.values():
                answers.lowest = answers.fallen = None
            minute = int(self._clock() // _MINUTE_S)
            return invalid + list(_spikes(self._calls, minute, error_share))


def _count_answer(answers: _Answers, is_valid: bool) -> None:
    answers.window.add(Share(is_valid, 1))
    if answers.window.total < WINDOW_ANSWERS:
        return
    window, answers.window = answers.window, Share()
    if answers.lowest is None or window.share < answers.lowest.share:
        answers.lowest = window
    if answers.before.total >= WINDOW_ANSWERS and _has_fallen(window, answers.before):
        answers.fallen = window, Share(answers.before.hits, answers.before.total)
    else:
        # What is worse than before is no measure for what comes after it.
        answers.before.add(window)


def _has_fallen(now: Share, before: Share) -> bool:
    return before.share - now.share >= LEAST_FALL and _differ(now, before)


def _differ(one: Share, other: Share) -> bool:
    """Whether two shares are ``SURE_Z`` standard errors apart, by the earlier one's spread.

    The earlier share is moved off 0 and 1 by half a count (Agresti and Coull): 100 % of 50 is not certainty.
    """
    share = (other.hits + 0.5) / (other.total + 1)
    spread = math.sqrt(share * (1 - share) * (1 / one.total + 1 / other.total))
    return abs(one.share - other.share) >= SURE_Z * spread


def _count_call(calls: _Calls, minute: int, outcome: str) -> None:
    failed = outcome in _ERRORS
    if not calls.minutes or calls.minutes[-1][0] != minute:
        calls.minutes.append((minute, Share()))
        _forget_old(calls, minute)
    calls.minutes[-1][1].add(Share(failed, 1))
    if failed:
        calls.classes[outcome] += 1


def _forget_old(calls: _Calls, minute: int) -> None:
    while calls.minutes and calls.minutes[0][0] <= minute - SPIKE_MINUTES:
        calls.before.add(calls.minutes.popleft()[1])


def _invalid_rate(job_id: int, model: str, answers: _Answers, floor: float) -> Alert | None:
    if answers.fallen is not None:
        window, before = answers.fallen
        what = f"fell from {before} to {window}"
    elif answers.lowest is not None and answers.lowest.share < floor:
        what = f"is {answers.lowest}, below the {floor:.0%} of alert_valid_floor"
    else:
        return None
    return Alert(
        Rule.INVALID_RATE,
        f"job:{job_id}/{model}",
        f"Job {job_id}: fewer answers of {model} fit the schema",
        f"The share of first answers that fit {what}. What does not fit is repaired or climbs, at a cost.\n"
        f"See what the answers lack: batcher status {job_id}",
    )


def _spikes(by_model: dict[str, _Calls], minute: int, error_share: float) -> Iterator[Alert]:
    for model, calls in by_model.items():
        _forget_old(calls, minute)
        recent = Share()
        for _, counted in calls.minutes:
            recent.add(counted)
        if recent.total >= LEAST_CALLS and _is_spike(recent, calls.before, error_share):
            classes = ", ".join(f"{name} {count:,}" for name, count in calls.classes.most_common())
            before = f", before {calls.before}" if calls.before.total else ""
            yield Alert(
                Rule.ERROR_SPIKE,
                f"model:{model}",
                f"Many calls to {model} fail",
                f"Of the calls of the last {SPIKE_MINUTES} minutes {recent} failed{before}. "
                f"Failures of this run: {classes}.",
            )


def _is_spike(recent: Share, before: Share, least_share: float) -> bool:
    if before.total < LEAST_CALLS_BEFORE:
        return recent.share >= max(least_share, SHARE_WITHOUT_BEFORE)
    is_far_above = recent.share >= SPIKE_FACTOR * before.share and _differ(recent, before)
    return recent.share >= least_share and is_far_above
