"""Fixtures of simulated time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.unit.limits.simulated_time import LoopClock, run_in_simulated_time


@pytest.fixture
def clock() -> LoopClock:
    return LoopClock()


@pytest.fixture
def simulate() -> Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]:
    return run_in_simulated_time
