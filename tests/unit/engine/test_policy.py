"""What the engine decides about each failure class, and that trying always ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.domain import FailureClass
from batcher.engine.policy import (
    BACKOFF_CAP_S,
    LONGEST_DOUBT_S,
    PATIENCE,
    TAKEN_AT_THEIR_WORD,
    Enlarge,
    GiveUp,
    History,
    Repair,
    Retry,
    RetryLimits,
    Split,
    StopLane,
    backoff_s,
    decide,
)

LIMITS = RetryLimits(max_attempts=3, max_elapsed_s=3600)


def first(failure: FailureClass) -> History:
    return History().after(failure)


@pytest.mark.parametrize(
    ("failure", "decision"),
    [
        (FailureClass.RATE_LIMITED, Retry),
        (FailureClass.OVERLOADED, Retry),
        (FailureClass.TRANSIENT, Retry),
        (FailureClass.UNKNOWN_OUTCOME, Retry),
        (FailureClass.ACCOUNT, StopLane),
        (FailureClass.BAD_REQUEST, GiveUp),
        (FailureClass.TOO_LONG, Split),
        (FailureClass.TRUNCATED, Enlarge),
        (FailureClass.INVALID_OUTPUT, Repair),
        (FailureClass.REFUSED, GiveUp),
    ],
)
def test_the_first_failure_of_each_class(failure: FailureClass, decision: type) -> None:
    assert isinstance(decide(failure, first(failure), LIMITS), decision)


def test_every_class_has_a_decision() -> None:
    for failure in FailureClass:
        assert decide(failure, first(failure), LIMITS) is not None


@pytest.mark.parametrize(
    "failure", [FailureClass.INVALID_OUTPUT, FailureClass.REFUSED, FailureClass.TRUNCATED]
)
def test_what_a_better_model_could_do_may_climb(failure: FailureClass) -> None:
    tried = replace(first(failure), repairs=1, enlargements=1)
    assert decide(failure, tried, LIMITS) == GiveUp(may_climb=True)


def test_a_wrong_request_is_wrong_on_every_rung() -> None:
    assert decide(FailureClass.BAD_REQUEST, first(FailureClass.BAD_REQUEST), LIMITS) == GiveUp(
        may_climb=False
    )


def test_rate_limits_do_not_use_up_the_attempts_but_are_finite_too() -> None:
    patient = History(waits=LIMITS.max_attempts * PATIENCE - 1)
    assert isinstance(decide(FailureClass.RATE_LIMITED, patient, LIMITS, retry_after_s=1), Retry)
    spent = History(waits=LIMITS.max_attempts * PATIENCE)
    assert decide(FailureClass.RATE_LIMITED, spent, LIMITS, retry_after_s=1) == GiveUp(may_climb=False)


def test_a_wait_past_the_elapsed_limit_is_not_begun() -> None:
    late = History(failures=1, elapsed_s=LIMITS.max_elapsed_s)
    assert decide(FailureClass.TRANSIENT, late, LIMITS) == GiveUp(may_climb=False)


def test_a_daily_limit_is_waited_out_once_and_a_wait_beyond_a_day_is_none() -> None:
    seven_hours = decide(FailureClass.RATE_LIMITED, History(waits=1), LIMITS, retry_after_s=25_200)
    assert isinstance(seven_hours, Retry)
    again = History(waits=2, elapsed_s=seven_hours.delay_s)
    assert decide(FailureClass.RATE_LIMITED, again, LIMITS, retry_after_s=25_200) == GiveUp(may_climb=False)
    assert decide(FailureClass.RATE_LIMITED, History(waits=1), LIMITS, retry_after_s=90_000) == GiveUp(
        may_climb=False
    )


@given(st.lists(st.sampled_from(list(FailureClass)), max_size=200))
def test_no_sequence_of_failures_is_tried_for_ever(failures: list[FailureClass]) -> None:
    """A split or a stop ends this answer; whatever else comes, the calls are bounded."""
    history, calls = History(), 0
    for failure in failures:
        calls += 1
        history = history.after(failure)
        decision = decide(failure, history, LIMITS, retry_after_s=0)
        if isinstance(decision, Repair):
            history = replace(history, repairs=1)
        elif isinstance(decision, Enlarge):
            history = replace(history, enlargements=1)
        elif not isinstance(decision, Retry):
            break
    assert calls <= LIMITS.max_attempts * (PATIENCE + 1) + 2


@given(st.integers(0, 50), st.integers(0, 50), st.one_of(st.none(), st.floats(0, 10_000)))
def test_a_wait_is_never_shorter_than_asked_and_never_negative(
    failures: int, waits: int, asked: float | None
) -> None:
    wait = backoff_s(History(failures=failures, waits=waits), asked)
    if not asked:
        assert 0 < wait <= BACKOFF_CAP_S + 1
    elif waits <= TAKEN_AT_THEIR_WORD:
        assert asked <= wait <= asked + 1
    else:
        assert asked <= wait <= max(asked + 1, LONGEST_DOUBT_S)


@given(st.integers(1, 5), st.floats(0, 250))
def test_a_backoff_is_longer_than_the_first_gap_whatever_that_was(failures: int, gap_s: float) -> None:
    assert backoff_s(History(failures=failures, gap_s=gap_s), None) > 1.1 * gap_s


def test_rate_limits_that_go_on_for_half_an_hour_are_sat_out_in_few_calls() -> None:
    """An outage that is longer than its 429s say: one second each time."""
    history, waited_s = History(), 0.0
    while waited_s < 1800:
        history = history.after(FailureClass.RATE_LIMITED)
        decision = decide(
            FailureClass.RATE_LIMITED, replace(history, elapsed_s=waited_s), LIMITS, retry_after_s=1
        )
        assert isinstance(decision, Retry)
        waited_s += decision.delay_s
    assert history.waits <= 25
