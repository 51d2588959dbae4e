"""The limiter of one process: headers, input and output apart, calls in flight, permits."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from batcher.catalog.models import Limits
from batcher.limits.base import Limiter, Permit
from batcher.limits.clock import Clock
from batcher.limits.memory import MemoryLimiter
from batcher.limits.quotas import DAY_S, MINUTE_S, Dimension, Observed, Reading

Simulate = Callable[[Callable[[], Any]], Any]
KEY = "openai/gpt"


@dataclass(frozen=True)
class Account:
    rpm: int | None = None
    tpm: int | None = None
    itpm: int | None = None
    otpm: int | None = None
    charges_output_limit: bool = False


def told(dimension: Dimension, limit: int | None, remaining: int | None = None) -> Observed:
    window_s = DAY_S if dimension.endswith("d") else MINUTE_S
    return Observed((Reading(dimension, limit, window_s, remaining),))


async def admitted_within(limiter: Limiter, seconds: float, clock: Clock, tokens: int = 0) -> int:
    """How many of endless callers are admitted within a time."""
    count = 0

    async def caller() -> None:
        nonlocal count
        while True:
            await limiter.acquire(KEY, tokens)
            count += 1

    task = asyncio.ensure_future(caller())
    await clock.sleep(seconds)
    task.cancel()
    await asyncio.wait((task,))
    return count


def test_a_new_account_uses_what_its_headers_allow(simulate: Simulate, clock: Clock) -> None:
    limiter = MemoryLimiter({KEY: Limits(rpm=500, tpm=None)}, clock)

    async def main() -> tuple[int, int]:
        before = await admitted_within(limiter, 60, clock)
        limiter.observe(KEY, told(Dimension.RPM, 10_000, 9_999))
        return before, await admitted_within(limiter, 60, clock)

    before, after = simulate(main)
    assert before <= 500
    assert 9_800 <= after <= 10_000


def test_a_limit_that_is_halved_in_mid_run_is_used_to_the_full_at_once(
    simulate: Simulate, clock: Clock
) -> None:
    limiter = MemoryLimiter({KEY: Limits(rpm=6_000, tpm=None)}, clock)

    async def main() -> tuple[int, int]:
        await admitted_within(limiter, 90, clock)
        limiter.observe(KEY, told(Dimension.RPM, 3_000, 3_000))
        return await admitted_within(limiter, 15, clock), await admitted_within(limiter, 60, clock)

    first, minute = simulate(main)
    assert 735 <= first <= 750
    assert 2_940 <= minute <= 3_000


def test_the_users_own_limit_is_a_ceiling(simulate: Simulate, clock: Clock) -> None:
    own = Limits(rpm=100, tpm=None)
    limiter = MemoryLimiter({KEY: own}, clock, ceilings={KEY: own})

    async def main() -> tuple[int, int]:
        limiter.observe(KEY, told(Dimension.RPM, 10_000))
        high = await admitted_within(limiter, 60, clock)
        limiter.observe(KEY, told(Dimension.RPM, 30))
        return high, await admitted_within(limiter, 60, clock)

    high, low = simulate(main)
    assert 98 <= high <= 100
    assert 29 <= low <= 30


def test_less_left_than_we_believe_drains_the_bucket(simulate: Simulate, clock: Clock) -> None:
    """Somebody else on the same account has used it up."""
    limiter = MemoryLimiter({KEY: Limits(rpm=None, tpm=6_000)}, clock)

    async def main() -> tuple[float, str]:
        limiter.observe(KEY, told(Dimension.TPM, 6_000, 0))
        start = clock.monotonic()
        waiter = asyncio.ensure_future(limiter.acquire(KEY, 3_000))
        await clock.sleep(1)
        reason = limiter.waiting()[KEY]
        await waiter
        return clock.monotonic() - start, reason

    waited, reason = simulate(main)
    assert waited == pytest.approx(30, abs=0.2)
    assert reason == "rate limit: 6,000 tokens/min"


def test_what_is_left_of_a_day_is_known_after_a_restart(simulate: Simulate, clock: Clock) -> None:
    limiter = MemoryLimiter({KEY: Limits(rpm=None, tpm=None, rpd=14_400)}, clock)

    async def main() -> int:
        limiter.observe(KEY, told(Dimension.RPD, 14_400, 40))
        return await admitted_within(limiter, 60, clock)

    assert 40 + 9 <= simulate(main) <= 40 + 60 * 14_400 / 86_400


def test_late_news_about_what_is_left_does_no_harm(simulate: Simulate, clock: Clock) -> None:
    """Used to the full, a vendor's bucket that holds one second may say zero all the time."""
    limiter = MemoryLimiter({KEY: Limits(rpm=6_000, tpm=None)}, clock)

    async def main() -> int:
        async def tell() -> None:
            while True:
                limiter.observe(KEY, told(Dimension.RPM, 6_000, 20))
                await clock.sleep(0.05)

        teller = asyncio.ensure_future(tell())
        count = await admitted_within(limiter, 60, clock)
        teller.cancel()
        return count

    assert simulate(main) >= 5_880


def test_output_counts_as_written_and_apart_from_input(simulate: Simulate, clock: Clock) -> None:
    """Answers of 100 tokens under an output limit of 1,000: the vendor counts 100."""
    limiter = MemoryLimiter({KEY: Account(itpm=600_000, otpm=6_000)}, clock)

    async def main() -> int:
        count = 0

        async def caller() -> None:
            nonlocal count
            while True:
                with await limiter.acquire(KEY, 1_000, 1_000) as permit:
                    count += 1
                    await clock.sleep(2)
                    permit.settle(1_000, 100)

        tasks = [asyncio.ensure_future(caller()) for _ in range(20)]
        await clock.sleep(120)
        before = count
        await clock.sleep(60)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return count - before

    assert simulate(main) == pytest.approx(60, abs=2)


def test_answers_longer_than_expected_are_booked_too(simulate: Simulate, clock: Clock) -> None:
    limiter = MemoryLimiter({KEY: Account(otpm=600)}, clock)

    async def main() -> float:
        (await limiter.acquire(KEY, 0, 10)).settle(0, 1)
        (await limiter.acquire(KEY, 0, 900)).settle(0, 600)
        start = clock.monotonic()
        await limiter.acquire(KEY, 0, 900)
        return clock.monotonic() - start

    assert simulate(main) > 5


@pytest.mark.parametrize(("charges_output_limit", "expected"), [(True, 60), (False, 300)])
def test_a_vendor_may_charge_the_output_limit(
    simulate: Simulate, clock: Clock, charges_output_limit: bool, expected: int
) -> None:
    account = Account(tpm=60_000, charges_output_limit=charges_output_limit)
    limiter = MemoryLimiter({KEY: account}, clock)

    async def main() -> int:
        count = 0
        (await limiter.acquire(KEY, 100, 100)).settle(100, 100)
        deadline = clock.monotonic() + 60
        while clock.monotonic() < deadline:
            permit = await limiter.acquire(KEY, 100, 900)
            count += 1
            permit.settle(100, 100)
        return count

    assert simulate(main) == pytest.approx(expected, rel=0.03)


def test_no_more_calls_in_flight_than_allowed(simulate: Simulate, clock: Clock) -> None:
    limiter = MemoryLimiter({KEY: Limits(None, None, concurrency=3)}, clock)
    under_way, most, reasons = 0, 0, set()

    async def caller() -> None:
        nonlocal under_way, most
        with await limiter.acquire(KEY, 1):
            under_way += 1
            most = max(most, under_way)
            await clock.sleep(1)
            reasons.add(limiter.waiting().get(KEY))
            under_way -= 1

    async def main() -> float:
        start = clock.monotonic()
        await asyncio.gather(*(caller() for _ in range(9)))
        return clock.monotonic() - start

    assert simulate(main) == pytest.approx(3)
    assert most == 3
    assert reasons == {"in flight: 3 of 3 calls", None}


def test_a_permit_given_back_is_as_if_it_had_never_been_given(simulate: Simulate, clock: Clock) -> None:
    limiter = MemoryLimiter({KEY: Limits(rpm=1, tpm=1_000, concurrency=1)}, clock)

    async def main() -> float:
        start = clock.monotonic()
        permit = await limiter.acquire(KEY, 1_000)
        permit.give_back()
        permit.give_back()
        await limiter.acquire(KEY, 1_000)
        return clock.monotonic() - start

    assert simulate(main) == 0


def test_a_lost_permit_does_not_hold_its_place(simulate: Simulate, clock: Clock) -> None:
    limiter = MemoryLimiter({KEY: Limits(None, None, concurrency=1)}, clock)

    async def main() -> float:
        permit: Permit | None = await limiter.acquire(KEY, 1)
        waiter = asyncio.ensure_future(limiter.acquire(KEY, 1))
        await clock.sleep(5)
        assert not waiter.done()
        del permit
        gc.collect()
        start = clock.monotonic()
        await waiter
        return clock.monotonic() - start

    assert simulate(main) == 0


def test_a_cancelled_waiter_leaves_no_call_in_flight(simulate: Simulate, clock: Clock) -> None:
    limiter = MemoryLimiter({KEY: Limits(None, None, concurrency=1)}, clock)

    async def main() -> None:
        with await limiter.acquire(KEY, 1):
            waiters = [asyncio.ensure_future(limiter.acquire(KEY, 1)) for _ in range(3)]
            await clock.sleep(1)
            for waiter in waiters:
                waiter.cancel()
            await asyncio.wait(waiters)
        for _ in range(3):
            (await limiter.acquire(KEY, 1)).close()

    simulate(main)
    assert limiter.waiting() == {}
