from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batcher.catalog.models import Limits
from batcher.limits.base import Limiter
from batcher.limits.clock import Clock, SystemClock
from batcher.limits.memory import MemoryLimiter
from tests.unit.limits.simulated_time import LoopClock, run_in_simulated_time

Simulate = Callable[[Callable[[], Any]], Any]
KEY = "together/llama"


def limiter(clock: Clock, **limits: int | None) -> MemoryLimiter:
    return MemoryLimiter({KEY: Limits(**{"rpm": None, "tpm": None, **limits})}, clock)


async def admitted_at(limiter: Limiter, amounts: list[int], clock: Clock) -> list[tuple[float, int]]:
    """When each of a crowd of requests was admitted, all asked for at once."""
    log: list[tuple[float, int]] = []

    async def one(amount: int) -> None:
        await limiter.acquire(KEY, amount)
        log.append((clock.monotonic(), amount))

    await asyncio.gather(*(one(amount) for amount in amounts))
    return log


def most_in_any_window(log: list[tuple[float, int]], span_s: float) -> float:
    """The largest sum of amounts in a half-open window of that length."""
    most, start, total = 0, 0, 0
    for at, amount in log:
        total += amount
        while log[start][0] + span_s <= at:
            total -= log[start][1]
            start += 1
        most = max(most, total)
    return most


def test_is_a_limiter_and_needs_no_limits() -> None:
    found: Limiter = MemoryLimiter({})

    async def main() -> None:
        for _ in range(1000):
            await found.acquire("anything", 10**9)

    asyncio.run(main())
    assert found.waiting() == {}


def test_limits_may_come_from_a_callable(simulate: Simulate, clock: Clock) -> None:
    found = MemoryLimiter(lambda key: Limits(rpm=1 if key == KEY else None, tpm=None), clock)

    async def main() -> list[float]:
        times = [at for at, _ in await admitted_at(found, [1, 1], clock)]
        await found.acquire("other", 1)
        await found.acquire("other", 1)
        return [*times, clock.monotonic()]

    first, second, third = simulate(main)
    assert second - first == pytest.approx(60, abs=0.3)
    assert third == second


@pytest.mark.parametrize("rpm", [1, 7, 60, 600])
def test_requests_keep_to_rpm_and_use_it(simulate: Simulate, clock: Clock, rpm: int) -> None:
    count = rpm * 5 + 1
    log = simulate(lambda: admitted_at(limiter(clock, rpm=rpm), [0] * count, clock))
    requests = [(at, 1) for at, _ in log]
    assert most_in_any_window(requests, 60.0) <= rpm
    assert log[-1][0] - log[0][0] <= 5 * 60 * 1.01 + 1


def test_tokens_are_used_to_the_full(simulate: Simulate, clock: Clock) -> None:
    log = simulate(lambda: admitted_at(limiter(clock, tpm=60_000), [500] * 1200, clock))
    assert most_in_any_window(log, 60.0) <= 60_000
    assert log[-1][0] - log[0][0] <= 10 * 60 * 1.01


def test_a_burst_is_spread(simulate: Simulate, clock: Clock) -> None:
    log = simulate(lambda: admitted_at(limiter(clock, rpm=600), [0] * 600, clock))
    assert sum(1 for at, _ in log if at < log[0][0] + 1) <= 20


@settings(max_examples=150, deadline=None)
@given(
    rpm=st.none() | st.integers(1, 300),
    tpm=st.none() | st.integers(1, 20_000),
    rpd=st.none() | st.integers(1, 60),
    arrivals=st.lists(
        st.tuples(st.floats(0, 90), st.integers(0, 9_000), st.integers(0, 9_000)), min_size=1, max_size=60
    ),
)
def test_no_window_ever_sees_more_than_allowed(
    rpm: int | None, tpm: int | None, rpd: int | None, arrivals: list[tuple[float, int, int]]
) -> None:
    """Arrivals are (pause before, tokens booked, tokens not used as is known after 5 s)."""
    clock = LoopClock()
    found = limiter(clock, rpm=rpm, tpm=tpm, rpd=rpd)
    requests: list[tuple[float, int]] = []
    used: list[tuple[float, int]] = []

    async def one(tokens: int, unused: int) -> None:
        permit = await found.acquire(KEY, tokens)
        requests.append((clock.monotonic(), 1))
        unused = min(unused, tokens)
        used.append((clock.monotonic(), tokens - unused))
        await clock.sleep(5)
        permit.settle(tokens - unused, 0)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for pause, tokens, unused in arrivals:
                await clock.sleep(pause)
                group.create_task(one(tokens, unused))

    run_in_simulated_time(main)
    assert len(requests) == len(arrivals)
    if rpm is not None:
        assert most_in_any_window(requests, 60.0) <= rpm
    if rpd is not None:
        assert most_in_any_window(requests, 86_400.0) <= rpd
    if tpm is not None:
        assert most_in_any_window(used, 60.0) <= max(tpm, *(tokens for _, tokens in used))


def test_a_request_above_the_limit_goes_alone(simulate: Simulate, clock: Clock) -> None:
    log = simulate(lambda: admitted_at(limiter(clock, tpm=1000), [100, 5000, 100], clock))
    (first, _), (second, amount), (third, _) = log
    assert amount == 5000
    assert second - first >= 60
    assert third - second >= 60


def test_first_come_first_served(simulate: Simulate, clock: Clock) -> None:
    amounts = [900, 10, 800, 20, 700, 30]
    log = simulate(lambda: admitted_at(limiter(clock, tpm=1000), amounts, clock))
    assert [amount for _, amount in log] == amounts


def test_lanes_do_not_wait_for_each_other(simulate: Simulate, clock: Clock) -> None:
    found = MemoryLimiter({"slow": Limits(rpm=1, tpm=None)}, clock)

    async def main() -> float:
        await found.acquire("slow", 1)
        blocked = asyncio.ensure_future(found.acquire("slow", 1))
        await asyncio.sleep(0)
        before = clock.monotonic()
        await found.acquire("fast", 1)
        blocked.cancel()
        return clock.monotonic() - before

    assert simulate(main) == 0


def test_cancelling_a_waiter_gives_up_its_place_and_takes_nothing(simulate: Simulate, clock: Clock) -> None:
    found = limiter(clock, rpm=1)

    async def main() -> list[float]:
        start = clock.monotonic()
        await found.acquire(KEY, 1)
        head, middle, last = (asyncio.ensure_future(found.acquire(KEY, 1)) for _ in range(3))
        await clock.sleep(10)
        middle.cancel()
        await clock.sleep(10)
        head.cancel()
        await last
        assert head.cancelled()
        assert middle.cancelled()
        assert found.waiting() == {}
        return [clock.monotonic() - start]

    assert simulate(main) == [pytest.approx(60, abs=0.3)]


def test_cancelling_one_whose_turn_just_came_passes_the_turn_on(simulate: Simulate, clock: Clock) -> None:
    found = limiter(clock, rpm=1)

    async def main() -> float:
        start = clock.monotonic()
        await found.acquire(KEY, 1)
        head, second, third = (asyncio.ensure_future(found.acquire(KEY, 1)) for _ in range(3))
        await asyncio.sleep(0)
        head.cancel()
        second.cancel()
        await third
        return clock.monotonic() - start

    assert simulate(main) == pytest.approx(60, abs=0.3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 30), st.booleans(), st.floats(0, 90)), min_size=1, max_size=40))
def test_cancellations_at_any_time_never_block_the_rest(
    arrivals: list[tuple[float, bool, float]],
) -> None:
    """Arrivals are (pause before, whether it is cancelled, after how long)."""
    clock = LoopClock()
    found = limiter(clock, rpm=6)
    log: list[tuple[float, int]] = []

    async def one() -> None:
        await found.acquire(KEY, 1)
        log.append((clock.monotonic(), 1))

    async def cancel_later(task: asyncio.Task[None], after: float) -> None:
        await clock.sleep(after)
        task.cancel()

    async def main() -> list[asyncio.Task[None]]:
        patient, helpers = [], []
        for pause, cancelled, after in arrivals:
            await clock.sleep(pause)
            task = asyncio.ensure_future(one())
            if cancelled:
                helpers += [task, asyncio.ensure_future(cancel_later(task, after))]
            else:
                patient.append(task)
        await asyncio.gather(*patient)
        await asyncio.gather(*helpers, return_exceptions=True)
        return patient

    patient = run_in_simulated_time(main)
    assert all(task.exception() is None for task in patient)
    assert most_in_any_window(log, 60.0) <= 6
    assert found.waiting() == {}


def test_what_was_booked_too_much_lets_the_next_go_earlier(simulate: Simulate, clock: Clock) -> None:
    found = limiter(clock, tpm=1000)

    async def main() -> tuple[float, str]:
        start = clock.monotonic()
        permit = await found.acquire(KEY, 1000)
        waiter = asyncio.ensure_future(found.acquire(KEY, 500))
        await clock.sleep(1)
        reason = found.waiting()[KEY]
        permit.settle(0, 0)
        await waiter
        return clock.monotonic() - start, reason

    waited, reason = simulate(main)
    assert waited < 2
    assert reason == "rate limit: 1,000 tokens/min"


def test_nothing_is_admitted_while_a_lane_cools_down(simulate: Simulate, clock: Clock) -> None:
    found = limiter(clock)

    async def main() -> tuple[float, dict[str, str], dict[str, str]]:
        start = clock.monotonic()
        found.cool_down(KEY, 30, "together 429")
        assert found.waiting() == {}
        waiter = asyncio.ensure_future(found.acquire(KEY, 1))
        await clock.sleep(0.5)
        before = found.waiting()
        found.cool_down(KEY, 42, "together 503")
        found.cool_down(KEY, 5, "a shorter one")
        await asyncio.sleep(0)
        after = found.waiting()
        await waiter
        return clock.monotonic() - start, before, after

    waited, before, after = simulate(main)
    assert waited == pytest.approx(42.5)
    assert before == {KEY: "cooling down 30 s: together 429"}
    assert after == {KEY: "cooling down 42 s: together 503"}


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"rpm": 1}, "rate limit: 1 requests/min"),
        ({"rpm": 60_000, "tpm": 5}, "rate limit: 5 tokens/min"),
        ({"rpm": 60_000, "rpd": 1}, "rate limit: 1 requests/day"),
    ],
)
def test_who_waits_says_why(simulate: Simulate, clock: Clock, limits: dict[str, int], reason: str) -> None:
    found = limiter(clock, **limits)

    async def main() -> dict[str, str]:
        await found.acquire(KEY, 5)
        waiter = asyncio.ensure_future(found.acquire(KEY, 5))
        await clock.sleep(0.1)
        said = found.waiting()
        waiter.cancel()
        return said

    assert simulate(main) == {KEY: reason}


def test_the_system_clock_sleeps() -> None:
    async def main() -> float:
        clock = SystemClock()
        start = clock.monotonic()
        await clock.sleep(0.02)
        return clock.monotonic() - start

    assert asyncio.run(main()) >= 0.019


def test_an_acquire_that_need_not_wait_is_cheap() -> None:
    found = MemoryLimiter({KEY: Limits(rpm=10**9, tpm=10**12, rpd=10**9)})

    async def main() -> float:
        best = float("inf")
        for _ in range(20):
            start = time.perf_counter()
            for _ in range(500):
                await found.acquire(KEY, 100)
            best = min(best, (time.perf_counter() - start) / 500)
        return best

    assert asyncio.run(main()) < 15e-6
