"""How long a run bears with a store that is away."""

from __future__ import annotations

import math
import threading
import time

import pytest

from batcher.engine.patience import Patience
from batcher.errors import DependencyError, StoreAwayError


class Flaky:
    """Fails so many times before it answers."""

    def __init__(self, failures: float, error: type[DependencyError] = StoreAwayError) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self, answer: str) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error("away")
        return answer


def test_what_failed_is_done_again_until_it_is_done() -> None:
    patience, flaky = Patience(math.inf), Flaky(3)
    assert patience.back_for_s() == math.inf
    assert patience.keep(flaky, "there") == "there"
    assert flaky.calls == 4
    assert patience.trouble is None
    assert patience.back_for_s() < 5


def test_a_short_absence_is_not_counted() -> None:
    patience = Patience(math.inf, long_s=60)
    assert patience.keep(Flaky(1), "there") == "there"
    assert patience.back_for_s() == math.inf


def test_it_ends_when_its_time_is_over() -> None:
    patience, flaky = Patience(0.25), Flaky(math.inf)
    started = time.monotonic()
    with pytest.raises(StoreAwayError):
        patience.keep(flaky, "never")
    assert time.monotonic() - started < 5
    assert flaky.calls >= 2
    assert patience.trouble == "away"


def test_it_ends_at_once_when_it_is_told_to() -> None:
    patience, flaky = Patience(math.inf), Flaky(math.inf)
    failed: list[bool] = []

    def wait() -> None:
        with pytest.raises(StoreAwayError):
            patience.keep(flaky, "never")
        failed.append(True)

    waiting = threading.Thread(target=wait)
    waiting.start()
    while flaky.calls < 2:
        time.sleep(0.001)
    patience.end()
    waiting.join(10)
    assert failed


def test_what_no_waiting_mends_is_raised_at_once() -> None:
    flaky = Flaky(1, DependencyError)
    with pytest.raises(DependencyError):
        Patience(math.inf).keep(flaky, "never")
    assert flaky.calls == 1
