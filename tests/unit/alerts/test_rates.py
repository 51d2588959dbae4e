"""What a process counts: answers that fit in windows of 50, failed calls by the minute."""

from __future__ import annotations

import random

import pytest

from batcher.alerts.book import Alert, Rule
from batcher.alerts.rates import SPIKE_MINUTES, Rates
from batcher.domain import Purpose


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def answers(rates: Rates, valid: int, invalid: int, *, job: int = 7, model: str = "m") -> None:
    """Count so many answers that fit and that do not, evenly mixed."""
    outcomes = ["ok"] * valid + ["invalid_output"] * invalid
    random.Random(valid * 1000 + invalid).shuffle(outcomes)
    for outcome in outcomes:
        rates.record(job, model, Purpose.ANSWER, outcome)


def found(rates: Rates, floor: float = 0.5, share: float = 0.2) -> list[Alert]:
    return rates.find(floor, share)


def test_a_share_that_falls_is_told_once_with_both_shares() -> None:
    rates = Rates()
    answers(rates, 190, 10)
    assert found(rates) == []
    answers(rates, 30, 20)
    [alert] = found(rates)
    assert (alert.rule, alert.scope) == (Rule.INVALID_RATE, "job:7/m")
    assert "fell from 95% (190 of 200) to 60% (30 of 50)" in alert.body
    assert found(rates) == [], "the next look tells only what came after it"
    answers(rates, 30, 20)
    assert "fell from 95% (190 of 200)" in found(rates)[0].body, (
        "what is bad is no measure for the next window"
    )


@pytest.mark.parametrize("share", [0.98, 0.9, 0.7])
def test_a_share_that_stays_is_no_alert(share: float) -> None:
    dice, rates = random.Random(5), Rates()
    for _ in range(20_000):
        outcome = "ok" if dice.random() < share else "invalid_output"
        rates.record(1, "m", Purpose.ANSWER, outcome)
    assert found(rates, floor=0.0) == []


def test_a_share_below_the_floor_needs_no_earlier_one() -> None:
    rates = Rates()
    answers(rates, 20, 29)
    assert found(rates) == [], "no window is full yet"
    answers(rates, 0, 1)
    [alert] = found(rates)
    assert "is 40% (20 of 50), below the 50%" in alert.body


def test_jobs_and_models_are_counted_apart_and_repairs_not_at_all() -> None:
    rates = Rates()
    for _ in range(25):
        answers(rates, 1, 1, model="one")
        rates.record(7, "two", Purpose.ANSWER, "ok")
        for _ in range(4):
            rates.record(7, "two", Purpose.REPAIR, "invalid_output")
    assert found(rates, floor=0.6)[0].scope == "job:7/one"
    assert [alert.scope for alert in found(rates, floor=0.6)] == []


def test_errors_far_above_before_are_a_spike() -> None:
    clock = Clock()
    rates = Rates(clock)
    for number in range(100):
        rates.record(1, "m", Purpose.ANSWER, "transient" if number % 50 == 0 else "ok")
    clock.now += SPIKE_MINUTES * 60
    for number in range(20):
        rates.record(1, "m", Purpose.ANSWER, "overloaded" if number % 2 else "ok")
    [alert] = found(rates)
    assert (alert.rule, alert.scope) == (Rule.ERROR_SPIKE, "model:m")
    assert "50% (10 of 20) failed, before 2% (2 of 100)" in alert.body
    assert "overloaded 10, transient 2" in alert.body
    clock.now += SPIKE_MINUTES * 60
    assert found(rates) == [], "it is over"


def test_what_always_fails_so_often_is_no_spike() -> None:
    clock = Clock()
    rates = Rates(clock)
    for number in range(400):
        clock.now += 5
        rates.record(1, "m", Purpose.ANSWER, "transient" if number % 4 == 0 else "ok")
    assert found(rates) == []


def test_rate_limits_and_wrong_answers_are_no_errors() -> None:
    rates = Rates()
    for _ in range(40):
        rates.record(1, "m", Purpose.ANSWER, "rate_limited")
        rates.record(1, "n", Purpose.ANSWER, "refused")
        rates.record(1, "o", Purpose.ANSWER, "not_sent")
    assert found(rates) == []


def test_without_a_before_half_of_the_calls_must_fail() -> None:
    rates = Rates()
    for number in range(10):
        rates.record(1, "m", Purpose.ANSWER, "account" if number < 4 else "ok")
    assert found(rates) == []
    for _ in range(2):
        rates.record(1, "m", Purpose.ANSWER, "account")
    assert [alert.rule for alert in found(rates)] == [Rule.ERROR_SPIKE]


def test_quiet_is_counted_from_the_last_call() -> None:
    clock = Clock()
    rates = Rates(clock)
    clock.now += 40
    assert rates.quiet_s() == 40
    rates.record(1, "m", Purpose.ANSWER, "rate_limited")
    clock.now += 3
    assert rates.quiet_s() == 3
