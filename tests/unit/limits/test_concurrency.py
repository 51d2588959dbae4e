from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batcher.domain import FailureClass
from batcher.limits.clock import Clock
from batcher.limits.concurrency import AdaptiveConcurrency
from tests.unit.limits.simulated_time import LoopClock, run_in_simulated_time

Simulate = Callable[[Callable[[], Any]], Any]
KEY = "anthropic/claude"
RATE_LIMITED, OVERLOADED = FailureClass.RATE_LIMITED, FailureClass.OVERLOADED


async def fill(slots: AdaptiveConcurrency, count: int, until: asyncio.Event) -> list[asyncio.Task[None]]:
    """Callers that hold a slot until an event."""

    async def hold() -> None:
        async with slots.slot(KEY):
            await until.wait()

    tasks = [asyncio.ensure_future(hold()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


def test_no_more_in_flight_than_allowed_first_come_first_served(simulate: Simulate, clock: Clock) -> None:
    slots = AdaptiveConcurrency(3, clock)
    order: list[int] = []

    async def caller(number: int) -> None:
        async with slots.slot(KEY):
            order.append(number)
            assert slots.in_flight(KEY) <= 3
            await clock.sleep(1)

    async def main() -> float:
        start = clock.monotonic()
        await asyncio.gather(*(caller(number) for number in range(10)))
        return clock.monotonic() - start

    assert simulate(main) == pytest.approx(4)
    assert order == list(range(10))


def test_only_saturation_grows_it(simulate: Simulate, clock: Clock) -> None:
    slots = AdaptiveConcurrency(100, clock, start=4)

    async def main() -> tuple[int, int]:
        done = asyncio.Event()
        tasks = await fill(slots, 3, done)
        for _ in range(50):
            slots.record(KEY, None)
        idle = slots.limit(KEY)
        tasks += await fill(slots, 5, done)
        for _ in range(4):
            slots.record(KEY, None)
        done.set()
        await asyncio.gather(*tasks)
        return idle, slots.limit(KEY)

    assert simulate(main) == (4, 8)


def test_slots_that_wait_for_a_rate_limit_are_no_saturation(simulate: Simulate, clock: Clock) -> None:
    waits = True
    slots = AdaptiveConcurrency(100, clock, start=4, waits_elsewhere=lambda _key: waits)

    async def main() -> list[int]:
        nonlocal waits
        done = asyncio.Event()
        tasks = await fill(slots, 10, done)
        limits = []
        slots.record(KEY, None)
        limits.append(slots.limit(KEY))
        waits = False
        slots.record(KEY, None)
        limits.append(slots.limit(KEY))
        done.set()
        await asyncio.gather(*tasks)
        return limits

    assert simulate(main) == [4, 5]


def test_it_never_grows_above_its_ceiling(simulate: Simulate, clock: Clock) -> None:
    ceiling = 6
    slots = AdaptiveConcurrency(lambda _key: ceiling, clock, start=32)

    async def main() -> list[int]:
        nonlocal ceiling
        done = asyncio.Event()
        tasks = await fill(slots, 40, done)
        for _ in range(100):
            slots.record(KEY, None)
        limits = [slots.limit(KEY)]
        ceiling = 2
        limits.append(slots.limit(KEY))
        done.set()
        await asyncio.gather(*tasks)
        return limits

    assert simulate(main) == [6, 2]


def test_rate_limits_shrink_it_once_per_cooldown_and_go_on_doing_so(simulate: Simulate, clock: Clock) -> None:
    slots = AdaptiveConcurrency(100, clock, start=100)

    async def main() -> list[int]:
        done = asyncio.Event()
        tasks = await fill(slots, 200, done)
        limits = []
        for _ in range(40):
            slots.record(KEY, RATE_LIMITED)
            limits.append(slots.limit(KEY))
            await clock.sleep(1)
        done.set()
        await asyncio.gather(*tasks)
        return limits

    limits = simulate(main)
    assert limits[:15] == [80] * 15
    assert limits[15:30] == [64] * 15
    assert limits[30:] == [51] * 10


def test_a_limit_that_was_never_reached_shrinks_to_what_was(simulate: Simulate, clock: Clock) -> None:
    slots = AdaptiveConcurrency(1_000, clock, start=1_000)

    async def main() -> int:
        done = asyncio.Event()
        tasks = await fill(slots, 10, done)
        slots.record(KEY, RATE_LIMITED)
        done.set()
        await asyncio.gather(*tasks)
        return slots.limit(KEY)

    assert simulate(main) == 8


@pytest.mark.parametrize(
    "failure", [failure for failure in FailureClass if failure not in {RATE_LIMITED, OVERLOADED}]
)
def test_other_failures_change_nothing(simulate: Simulate, clock: Clock, failure: FailureClass) -> None:
    slots = AdaptiveConcurrency(50, clock, start=20)

    async def main() -> int:
        async with slots.slot(KEY):
            for _ in range(100):
                slots.record(KEY, failure)
        return slots.limit(KEY)

    assert simulate(main) == 20


def test_want_of_capacity_pauses_and_does_not_shrink(simulate: Simulate, clock: Clock) -> None:
    slots = AdaptiveConcurrency(50, clock, start=20)

    async def main() -> tuple[int, float, dict[str, str]]:
        async with slots.slot(KEY):
            slots.record(KEY, OVERLOADED, retry_after_s=7.5)
            slots.record(KEY, OVERLOADED, retry_after_s=3.0)
        start = clock.monotonic()
        waiter = asyncio.ensure_future(fill(slots, 1, done := asyncio.Event()))
        (task,) = await waiter
        said = slots.waiting()
        done.set()
        await task
        return slots.limit(KEY), clock.monotonic() - start, said

    limit, waited, said = simulate(main)
    assert limit == 20
    assert waited == pytest.approx(7.5)
    assert said == {KEY: "no capacity: trying again in 8 s"}


def test_pauses_grow_while_there_is_no_capacity_and_start_anew_after_a_success(
    simulate: Simulate, clock: Clock
) -> None:
    slots = AdaptiveConcurrency(50, clock)

    async def one(failure: FailureClass | None) -> float:
        start = clock.monotonic()
        async with slots.slot(KEY):
            slots.record(KEY, failure)
        return clock.monotonic() - start

    async def main() -> list[float]:
        return [await one(failure) for failure in [*[OVERLOADED] * 8, None, OVERLOADED, None]]

    assert simulate(main) == pytest.approx([0, 2, 4, 8, 16, 32, 60, 60, 60, 0, 2])


def test_a_waiter_says_why(simulate: Simulate, clock: Clock) -> None:
    slots = AdaptiveConcurrency(50, clock, start=2)

    async def main() -> dict[str, str]:
        done = asyncio.Event()
        tasks = await fill(slots, 3, done)
        said = slots.waiting()
        done.set()
        await asyncio.gather(*tasks)
        return said

    assert simulate(main) == {KEY: "in flight: 2 of 2 calls, to be found out (at most 50)"}
    assert slots.waiting() == {}


class Provider:
    """Serves so many calls at once and refuses the rest, as a vendor with a concurrency limit does."""

    def __init__(self, capacity: int, latency_s: float, clock: Clock) -> None:
        self.capacity = capacity
        self.latency_s = latency_s
        self.served = self.refused = 0
        self._clock = clock
        self._serving = 0

    async def call(self) -> FailureClass | None:
        if self._serving >= self.capacity:
            self.refused += 1
            await self._clock.sleep(0.05)
            return RATE_LIMITED
        self._serving += 1
        await self._clock.sleep(self.latency_s * random.uniform(0.5, 1.5))
        self._serving -= 1
        self.served += 1
        return None

    def forget(self) -> None:
        self.served = self.refused = 0


async def drive(slots: AdaptiveConcurrency, provider: Provider, callers: int) -> list[asyncio.Task[None]]:
    async def caller() -> None:
        while True:
            async with slots.slot(KEY):
                slots.record(KEY, await provider.call())

    return [asyncio.ensure_future(caller()) for _ in range(callers)]


@pytest.mark.parametrize("capacity", [8, 50, 300])
def test_it_finds_the_capacity_and_stays_near(simulate: Simulate, clock: Clock, capacity: int) -> None:
    provider = Provider(capacity, 1.0, clock)
    slots = AdaptiveConcurrency(1_000, clock)

    async def main() -> tuple[float, float]:
        tasks = await drive(slots, provider, 600)
        await clock.sleep(180)
        provider.forget()
        await clock.sleep(600)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        calls = provider.served + provider.refused
        return provider.served / (600 * capacity), provider.refused / calls

    used, refused = simulate(main)
    assert used > 0.88
    assert refused < 0.05


def test_it_follows_a_capacity_that_falls_and_rises(simulate: Simulate, clock: Clock) -> None:
    provider = Provider(100, 1.0, clock)
    slots = AdaptiveConcurrency(500, clock)

    async def main() -> list[int]:
        tasks = await drive(slots, provider, 400)
        await clock.sleep(120)
        limits = [slots.limit(KEY)]
        provider.capacity = 25
        await clock.sleep(120)
        limits.append(slots.limit(KEY))
        provider.capacity = 200
        await clock.sleep(240)
        limits.append(slots.limit(KEY))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return limits

    high, low, higher = simulate(main)
    assert 80 <= high <= 110
    assert 18 <= low <= 29
    assert 150 <= higher <= 220


def test_a_slow_provider_is_not_a_full_one(simulate: Simulate, clock: Clock) -> None:
    provider = Provider(40, 1.0, clock)
    slots = AdaptiveConcurrency(40, clock)

    async def main() -> list[int]:
        tasks = await drive(slots, provider, 60)
        await clock.sleep(60)
        limits = [slots.limit(KEY)]
        provider.latency_s = 60.0
        await clock.sleep(600)
        limits.append(slots.limit(KEY))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return limits

    assert simulate(main) == [40, 40]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 5),
            st.floats(0, 10),
            st.sampled_from([None, RATE_LIMITED, OVERLOADED, FailureClass.TRANSIENT]),
            st.none() | st.floats(0, 12),
        ),
        min_size=1,
        max_size=60,
    ),
    st.integers(1, 8),
)
def test_slots_are_never_lost_nor_given_twice(
    calls: list[tuple[float, float, FailureClass | None, float | None]], start: int
) -> None:
    """Calls are (pause before, how long, outcome, cancelled after)."""
    clock = LoopClock()
    slots = AdaptiveConcurrency(8, clock, start=start)
    under_way = 0

    async def one(seconds: float, outcome: FailureClass | None) -> None:
        nonlocal under_way
        async with slots.slot(KEY):
            under_way += 1
            try:
                assert under_way <= slots.in_flight(KEY) <= 8
                await clock.sleep(seconds)
                slots.record(KEY, outcome)
            finally:
                under_way -= 1

    async def main() -> None:
        tasks = []
        loop = asyncio.get_running_loop()
        for pause_s, seconds, outcome, cancelled_after_s in calls:
            await clock.sleep(pause_s)
            tasks.append(asyncio.ensure_future(one(seconds, outcome)))
            if cancelled_after_s is not None:
                loop.call_later(cancelled_after_s, tasks[-1].cancel)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)

    run_in_simulated_time(main)
    assert slots.in_flight(KEY) == 0
    assert slots.waiting() == {}
    assert 1 <= slots.limit(KEY) <= 8


def test_nobody_waits_for_slots_whose_holders_wait_for_something_else(
    simulate: Simulate, clock: Clock
) -> None:
    held_up = False
    slots = AdaptiveConcurrency(2, clock, waits_elsewhere=lambda _key: held_up)

    async def main() -> list[dict[str, str]]:
        nonlocal held_up
        tasks = await fill(slots, 3, done := asyncio.Event())
        said = [slots.waiting()]
        held_up = True
        said.append(slots.waiting())
        slots.record(KEY, OVERLOADED, retry_after_s=3.0)
        said.append(slots.waiting())
        done.set()
        await asyncio.gather(*tasks)
        return said

    assert simulate(main) == [
        {KEY: "in flight: 2 of 2 calls"},
        {},
        {KEY: "no capacity: trying again in 3 s"},
    ]
