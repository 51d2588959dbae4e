"""What the engine decides about each failure class, and that trying always ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.domain import FailureClass
from batcher.engine.policy import (
    BACKOFF_CAP_S,
    PATIENCE,
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
    assert decide(FailureClass.RATE_LIMITED, History(waits=1), LIMITS, retry_after_s=3601) == GiveUp(
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


@given(st.integers(0, 500), st.one_of(st.none(), st.floats(0, 10_000)))
def test_a_wait_is_never_shorter_than_asked_and_never_negative(failures: int, asked: float | None) -> None:
    wait = backoff_s(failures, asked)
    if asked is None:
        assert 0 <= wait <= BACKOFF_CAP_S
    else:
        assert asked <= wait <= asked + 1
