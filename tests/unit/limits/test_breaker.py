from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from batcher.domain import FailureClass
from batcher.limits.breaker import PROBE_S, SLOW_S, Circuit, CircuitBreaker

KEY = "together/llama"
COUNTED = [FailureClass.OVERLOADED, FailureClass.TRANSIENT, FailureClass.UNKNOWN_OUTCOME]
SAY_NOTHING = [FailureClass.RATE_LIMITED, FailureClass.ACCOUNT]
HEALTHY = [None, *(failure for failure in FailureClass if failure not in {*COUNTED, *SAY_NOTHING})]


class HandClock:
    """Time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("a breaker never waits")


@pytest.fixture
def hand_clock() -> HandClock:
    return HandClock()


@pytest.fixture
def breaker(hand_clock: HandClock) -> CircuitBreaker:
    return CircuitBreaker(hand_clock, failures=3, open_s=10, longest_open_s=60)


def fail(breaker: CircuitBreaker, times: int, failure: FailureClass = FailureClass.TRANSIENT) -> None:
    for _ in range(times):
        breaker.record(KEY, failure)


def test_closed_until_enough_failures_come_in_a_row(breaker: CircuitBreaker) -> None:
    assert breaker.allows(KEY)
    fail(breaker, 2)
    breaker.record(KEY, None)
    fail(breaker, 2)
    assert breaker.state(KEY) is Circuit.CLOSED
    assert breaker.reason(KEY) == ""
    fail(breaker, 1, FailureClass.OVERLOADED)
    assert breaker.state(KEY) is Circuit.OPEN
    assert not breaker.allows(KEY)
    assert breaker.retry_in_s(KEY) == 10
    assert breaker.reason(KEY) == "circuit open for 10 s: 3 failures in a row, the last overloaded"


def test_keys_are_apart(breaker: CircuitBreaker) -> None:
    fail(breaker, 3)
    assert breaker.allows("together/other")
    assert breaker.reason("together/other") == ""


@pytest.mark.parametrize("failure", SAY_NOTHING)
def test_rate_limits_neither_open_nor_excuse(breaker: CircuitBreaker, failure: FailureClass) -> None:
    fail(breaker, 50, failure)
    assert breaker.state(KEY) is Circuit.CLOSED
    fail(breaker, 2)
    fail(breaker, 5, failure)
    fail(breaker, 1)
    assert breaker.state(KEY) is Circuit.OPEN


@pytest.mark.parametrize("failure", HEALTHY)
def test_what_a_model_says_of_a_request_shows_that_it_works(
    breaker: CircuitBreaker, failure: FailureClass | None
) -> None:
    for _ in range(20):
        fail(breaker, 2)
        breaker.record(KEY, failure)
    assert breaker.state(KEY) is Circuit.CLOSED


def test_a_row_must_be_longer_than_the_calls_are_many_that_may_still_answer(breaker: CircuitBreaker) -> None:
    for _ in range(3, 24):
        breaker.record(KEY, FailureClass.OVERLOADED, 0.01, under_way=56)
    assert breaker.state(KEY) is Circuit.CLOSED
    breaker.record(KEY, None, 3.0, under_way=55)
    for _ in range(11):
        breaker.record(KEY, FailureClass.OVERLOADED, 0.01, under_way=11)
    assert breaker.state(KEY) is Circuit.CLOSED
    breaker.record(KEY, FailureClass.OVERLOADED, 0.01, under_way=11)
    assert breaker.state(KEY) is Circuit.OPEN


def test_failures_as_slow_as_answers_count_whatever_is_under_way(breaker: CircuitBreaker) -> None:
    fast = SLOW_S - 0.1
    for took_s in (SLOW_S, SLOW_S, fast, fast):
        breaker.record(KEY, FailureClass.UNKNOWN_OUTCOME, took_s, under_way=200)
    breaker.record(KEY, None, 1.0, under_way=200)
    for took_s in (SLOW_S, fast, SLOW_S):
        breaker.record(KEY, FailureClass.UNKNOWN_OUTCOME, took_s, under_way=200)
    assert breaker.state(KEY) is Circuit.CLOSED
    breaker.record(KEY, FailureClass.UNKNOWN_OUTCOME, SLOW_S, under_way=200)
    assert breaker.state(KEY) is Circuit.OPEN


def test_openings_are_counted(breaker: CircuitBreaker, hand_clock: HandClock) -> None:
    assert breaker.openings(KEY) == 0
    fail(breaker, 3)
    hand_clock.now += 10
    assert breaker.openings(KEY) == 1
    fail(breaker, 1)
    hand_clock.now += 20
    breaker.record(KEY, None)
    assert breaker.openings(KEY) == 2


def test_one_probe_decides(breaker: CircuitBreaker, hand_clock: HandClock) -> None:
    fail(breaker, 3)
    hand_clock.now += 10
    assert breaker.state(KEY) is Circuit.HALF_OPEN
    assert breaker.retry_in_s(KEY) == 0
    assert breaker.allows(KEY)
    assert not breaker.allows(KEY)
    assert breaker.reason(KEY).startswith("circuit half-open: one call tries")
    breaker.record(KEY, None)
    assert breaker.state(KEY) is Circuit.CLOSED
    assert breaker.allows(KEY)


def test_a_failed_probe_opens_it_for_longer_up_to_a_cap(
    breaker: CircuitBreaker, hand_clock: HandClock
) -> None:
    fail(breaker, 3)
    open_for = []
    for _ in range(5):
        open_for.append(breaker.retry_in_s(KEY))
        hand_clock.now += breaker.retry_in_s(KEY)
        assert breaker.allows(KEY)
        fail(breaker, 1)
    assert open_for == [10, 20, 40, 60, 60]


def test_a_relapse_counts_as_the_same_illness(breaker: CircuitBreaker, hand_clock: HandClock) -> None:
    fail(breaker, 3)
    hand_clock.now += 10
    assert breaker.allows(KEY)
    breaker.record(KEY, None)
    hand_clock.now += 5
    fail(breaker, 3)
    assert breaker.retry_in_s(KEY) == 20
    hand_clock.now += 20
    assert breaker.allows(KEY)
    breaker.record(KEY, None)
    hand_clock.now += 1_000
    fail(breaker, 3)
    assert breaker.retry_in_s(KEY) == 10


def test_a_probe_that_was_rate_limited_gives_its_place_to_the_next(
    breaker: CircuitBreaker, hand_clock: HandClock
) -> None:
    fail(breaker, 3)
    hand_clock.now += 10
    assert breaker.allows(KEY)
    breaker.record(KEY, FailureClass.RATE_LIMITED)
    assert breaker.state(KEY) is Circuit.HALF_OPEN
    assert breaker.allows(KEY)


def test_a_probe_that_never_ends_is_given_up(breaker: CircuitBreaker, hand_clock: HandClock) -> None:
    fail(breaker, 3)
    hand_clock.now += 10
    assert breaker.allows(KEY)
    assert breaker.retry_in_s(KEY) == PROBE_S
    hand_clock.now += PROBE_S
    assert breaker.allows(KEY)


def test_calls_that_were_under_way_when_it_opened_change_nothing(
    breaker: CircuitBreaker, hand_clock: HandClock
) -> None:
    fail(breaker, 50)
    breaker.record(KEY, None)
    assert breaker.retry_in_s(KEY) == 10
    hand_clock.now += 4
    fail(breaker, 50)
    assert breaker.retry_in_s(KEY) == 6


class BreakerMachine(RuleBasedStateMachine):
    """Against a model that is told in plain words: what must hold whatever happens in whatever order."""

    FAILURES, OPEN_S, LONGEST_S = 3, 10.0, 40.0

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.breaker = CircuitBreaker(
            self.clock, failures=self.FAILURES, open_s=self.OPEN_S, longest_open_s=self.LONGEST_S
        )
        self.in_a_row = 0
        self.closed = True
        self.opened_at = 0.0
        self.probing = False

    @rule(seconds=st.integers(0, 50))
    def time_passes(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule(failure=st.sampled_from(COUNTED))
    def failed(self, failure: FailureClass) -> None:
        state = self.breaker.state(KEY)
        self.breaker.record(KEY, failure)
        self.in_a_row += 1
        if state is Circuit.HALF_OPEN or (state is Circuit.CLOSED and self.in_a_row >= self.FAILURES):
            assert self.breaker.state(KEY) is Circuit.OPEN
            assert self.OPEN_S <= self.breaker.retry_in_s(KEY) <= self.LONGEST_S
            self.closed, self.opened_at, self.probing = False, self.clock.now, False
        else:
            assert self.breaker.state(KEY) is state

    @rule(outcome=st.sampled_from(HEALTHY))
    def succeeded(self, outcome: FailureClass | None) -> None:
        state = self.breaker.state(KEY)
        self.breaker.record(KEY, outcome)
        if state is Circuit.OPEN:
            assert self.breaker.state(KEY) is Circuit.OPEN
        else:
            assert self.breaker.state(KEY) is Circuit.CLOSED
            self.closed, self.in_a_row, self.probing = True, 0, False

    @rule(outcome=st.sampled_from(SAY_NOTHING))
    def said_nothing(self, outcome: FailureClass) -> None:
        state = self.breaker.state(KEY)
        self.breaker.record(KEY, outcome)
        assert self.breaker.state(KEY) is state
        if state is Circuit.HALF_OPEN:
            self.probing = False

    @precondition(lambda self: self.breaker.state(KEY) is Circuit.HALF_OPEN)
    @rule()
    def asked_when_half_open(self) -> None:
        first = self.breaker.allows(KEY)
        assert first or self.probing
        self.probing = True
        assert not self.breaker.allows(KEY), "two probes at a time"

    @invariant()
    def it_is_what_it_says(self) -> None:
        state = self.breaker.state(KEY)
        assert (state is Circuit.CLOSED) is self.closed
        assert bool(self.breaker.reason(KEY)) is not self.closed
        if state is Circuit.CLOSED:
            assert self.breaker.allows(KEY)
            assert self.breaker.retry_in_s(KEY) == 0
        if state is Circuit.OPEN:
            assert not self.breaker.allows(KEY)
            assert self.clock.now < self.opened_at + self.LONGEST_S


BreakerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBreakerMachine = BreakerMachine.TestCase


def test_a_probe_that_was_never_made_gives_its_place_to_the_next_call(
    breaker: CircuitBreaker, hand_clock: HandClock
) -> None:
    breaker.give_back(KEY)
    fail(breaker, 3)
    hand_clock.now += 10
    assert breaker.allows(KEY)
    assert not breaker.allows(KEY)
    breaker.give_back(KEY)
    assert breaker.allows(KEY)
    breaker.record(KEY, None)
    assert breaker.state(KEY) is Circuit.CLOSED
