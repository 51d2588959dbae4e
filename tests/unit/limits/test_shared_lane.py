"""Lanes whose permits come from elsewhere, here from a process's own share, in simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batcher.catalog.models import Limits
from batcher.limits.exchange import Ask, Left, Reply
from batcher.limits.local_share import LocalShare
from batcher.limits.quotas import Dimension, Observed, Quota, Quotas, Reading
from batcher.limits.shared_lane import SharedLane
from tests.unit.limits.simulated_time import run_in_simulated_time

Simulate = Callable[[Callable[[], Any]], Any]
KEY = "groq/llama"
TRIP_S = 0.002


class Store:
    """Grants from the share of one of ``alive`` processes, after a round trip.

    ``hands_out`` adds all spare permits that are asked for.
    """

    def __init__(self, alive: int = 1, *, hands_out: bool = False) -> None:
        self.asks: list[Ask] = []
        self.observed: list[str] = []
        self._share = LocalShare(alive)
        self._hands_out = hands_out

    async def grant(self, key: str, ask: Ask) -> Reply:
        self.asks.append(ask)
        await asyncio.sleep(TRIP_S / 2)
        reply = self._share.grant(ask, asyncio.get_running_loop().time())
        await asyncio.sleep(TRIP_S / 2)
        return replace(reply, spare=ask.spare_count) if self._hands_out else reply

    def share_observed(self, key: str, quotas: Mapping[Dimension, Quota], observed: str, left: Left) -> None:
        self.observed.append(observed)

    def share_cool_down(self, key: str, seconds: float, reason: str) -> None:
        pass

    def trouble(self) -> str:
        return "the store is away"


def lane_of(store: Store, **limits: int | None) -> SharedLane:
    return SharedLane(KEY, Quotas(Limits(**{"rpm": None, "tpm": None, **limits})), store, 1)


async def admissions(lane: SharedLane, seconds: float, callers: int, tokens: int = 0) -> list[float]:
    """When callers that come again and again were admitted."""
    loop = asyncio.get_running_loop()
    log: list[float] = []

    async def caller() -> None:
        while True:
            with await lane.acquire(tokens, 0):
                log.append(loop.time())
                await asyncio.sleep(0.2)

    tasks = [asyncio.ensure_future(caller()) for _ in range(callers)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return log


@pytest.mark.parametrize(("rpm", "alive"), [(6_000, 1), (6_000, 4), (60, 1), (60, 7), (3, 2)])
def test_a_share_is_used_to_the_full_and_never_more(simulate: Simulate, rpm: int, alive: int) -> None:
    store = Store(alive)
    lane = lane_of(store, rpm=rpm)

    async def main() -> list[float]:
        log = await admissions(lane, 240, 60)
        await lane.aclose()
        return log

    log = simulate(main)
    last_minute = sum(1 for at in log if at > log[-1] - 60)
    assert last_minute <= rpm / alive
    assert len(log) >= 4 * (rpm // alive) * 0.97 - 1


def test_a_call_costs_much_less_than_a_round_trip(simulate: Simulate) -> None:
    store = Store(hands_out=True)
    lane = lane_of(store)

    async def main() -> int:
        log = await admissions(lane, 10, 200)
        await lane.aclose()
        return len(log)

    count = simulate(main)
    assert count > 9_000
    assert len(store.asks) < count / 50


def test_at_the_limit_permits_come_in_handfuls(simulate: Simulate) -> None:
    store = Store()
    lane = lane_of(store, rpm=6_000)

    async def main() -> int:
        log = await admissions(lane, 30, 100)
        await lane.aclose()
        return len(log)

    count = simulate(main)
    assert len(store.asks) < count / 4


def test_what_is_not_used_goes_back(simulate: Simulate) -> None:
    store = Store(hands_out=True)
    lane = lane_of(store, rpm=60_000, tpm=6_000_000)

    async def main() -> None:
        await admissions(lane, 3, 100, tokens=50)
        await asyncio.sleep(5)

    simulate(main)
    taken = sum(ask.settled[0] for ask in store.asks)
    assert taken > 0, "there was a stock"
    last = store.asks[-1]
    assert last.spare_count == 0
    assert last.settled[0] > 0, "nothing is asked for after it has gone back"


def test_a_process_with_nothing_to_do_leaves_and_comes_back(simulate: Simulate) -> None:
    store = Store()
    lane = lane_of(store, rpm=60_000)

    async def main() -> tuple[int, int, float]:
        (await lane.acquire(1, 0)).close()
        await asyncio.sleep(30)
        asked = len(store.asks)
        await asyncio.sleep(600)
        silent = len(store.asks)
        start = asyncio.get_running_loop().time()
        (await lane.acquire(1, 0)).close()
        waited = asyncio.get_running_loop().time() - start
        await lane.aclose()
        return asked, silent, waited

    asked, silent, waited = simulate(main)
    assert asked == silent
    assert waited <= 2 * TRIP_S


def test_a_call_under_way_keeps_the_process_in_sight(simulate: Simulate) -> None:
    store = Store()
    lane = lane_of(store, rpm=60_000)

    async def main() -> None:
        with await lane.acquire(1, 0):
            await asyncio.sleep(60)
        await lane.aclose()

    simulate(main)
    assert len([ask for ask in store.asks if ask.in_flight == 1]) >= 25


def test_calls_in_flight_keep_to_the_limit(simulate: Simulate) -> None:
    lane = lane_of(Store(), concurrency=5)
    under_way, most, done = 0, 0, 0

    async def caller() -> None:
        nonlocal under_way, most, done
        with await lane.acquire(1, 0):
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(1)
            under_way -= 1
        done += 1

    async def main() -> float:
        start = asyncio.get_running_loop().time()
        await asyncio.gather(*(caller() for _ in range(50)))
        seconds = asyncio.get_running_loop().time() - start
        await lane.aclose()
        return seconds

    assert simulate(main) < 10.5
    assert (most, done) == (5, 50)


def test_a_cool_down_admits_nobody_not_even_from_stock(simulate: Simulate) -> None:
    lane = lane_of(Store(), rpm=600_000)

    async def main() -> tuple[float, str]:
        loop = asyncio.get_running_loop()
        await admissions(lane, 2, 50)
        lane.cool_down(42, "groq 429")
        start = loop.time()
        waiter = asyncio.ensure_future(lane.acquire(1, 0))
        await asyncio.sleep(0.5)
        said = lane.waiting_for()
        (await waiter).close()
        waited = loop.time() - start
        await lane.aclose()
        return waited, said

    waited, said = simulate(main)
    assert 42 <= waited < 42.5
    assert said == "the store is away, using 1/1 of the limits: cooling down 42 s: groq 429"


def test_headers_change_the_limit_in_force_and_are_told_once(simulate: Simulate) -> None:
    store = Store()
    lane = lane_of(store, rpm=600)

    async def main() -> tuple[int, int]:
        before = len(await admissions(lane, 20, 50))
        for _ in range(10):
            lane.observe(Observed((Reading(Dimension.RPM, 6_000, 60.0),)))
        after = len(await admissions(lane, 20, 50))
        await lane.aclose()
        return before, after

    before, after = simulate(main)
    assert 190 <= before <= 210
    assert 1_900 <= after <= 2_010
    assert store.observed == ['{"rpm":[6000,60.0]}']


def test_what_was_booked_too_much_goes_back(simulate: Simulate) -> None:
    lane = lane_of(Store(), tpm=60_000)

    async def main() -> int:
        loop = asyncio.get_running_loop()
        count = 0
        deadline = loop.time() + 120

        async def caller() -> None:
            nonlocal count
            while loop.time() < deadline:
                with await lane.acquire(1_000, 0) as permit:
                    await asyncio.sleep(0.5)
                    permit.settle(750, 0)
                    count += 1

        await asyncio.gather(*(caller() for _ in range(20)))
        await lane.aclose()
        return count

    assert simulate(main) >= 150, "of 160 at 750 tokens, and 120 at 1,000"


@settings(max_examples=60, deadline=None)
@given(
    arrivals=st.lists(
        st.tuples(
            st.floats(0, 3),
            st.integers(0, 3_000),
            st.floats(0, 4),
            st.none() | st.floats(0, 20),
            st.booleans(),
        ),
        min_size=1,
        max_size=50,
    ),
    rpm=st.none() | st.integers(5, 6_000),
    tpm=st.none() | st.integers(2_000, 200_000),
    concurrency=st.none() | st.integers(1, 6),
)
def test_whatever_comes_nobody_is_forgotten_and_no_limit_broken(
    arrivals: list[tuple[float, int, float, float | None, bool]],
    rpm: int | None,
    tpm: int | None,
    concurrency: int | None,
) -> None:
    """Arrivals are (pause before, tokens, how long, cancelled after, given back)."""
    store = Store()
    lane = lane_of(store, rpm=rpm, tpm=tpm, concurrency=concurrency)
    requests: list[tuple[float, int]] = []
    under_way = most = 0

    async def one(tokens: int, seconds: float, is_given_back: bool) -> None:
        nonlocal under_way, most
        with await lane.acquire(tokens, 0) as permit:
            if is_given_back:
                permit.give_back()
                return
            requests.append((asyncio.get_running_loop().time(), tokens))
            under_way += 1
            most = max(most, under_way)
            try:
                await asyncio.sleep(seconds)
            finally:
                under_way -= 1

    async def main() -> None:
        loop = asyncio.get_running_loop()
        tasks = []
        for pause_s, tokens, seconds, cancelled_after_s, is_given_back in arrivals:
            await asyncio.sleep(pause_s)
            tasks.append(asyncio.ensure_future(one(tokens, seconds, is_given_back)))
            if cancelled_after_s is not None:
                loop.call_later(cancelled_after_s, tasks[-1].cancel)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        await lane.aclose()

    run_in_simulated_time(main)
    assert lane.waiting_for() == ""
    assert concurrency is None or most <= concurrency
    for start, (at, _) in enumerate(requests):
        within = [tokens for time, tokens in requests[start:] if time < at + 60]
        assert rpm is None or len(within) <= rpm
        assert tpm is None or sum(within) <= max(tpm, *within)


@given(
    limit=st.integers(1, 100_000), alive=st.integers(1, 300), span_s=st.sampled_from([1.0, 60.0, 86_400.0])
)
def test_shares_never_add_up_to_more_than_the_limit(limit: int, alive: int, span_s: float) -> None:
    quota = Quota(limit, span_s)
    share = LocalShare(alive)
    empty = (0.0,) * 6
    ask = Ask({Dimension.RPM: quota}, "", empty, (), 0, empty, 0)
    share.grant(ask, 0.0)
    together = share.windows[Dimension.RPM].quota.per_s * alive
    assert together <= quota.per_s * (1 + 1e-12)
    assert together >= quota.per_s / 2


class Books(Store):
    """Counts the requests that are out: granted, and not given back."""

    out = 0.0

    async def grant(self, key: str, ask: Ask) -> Reply:
        self.asks.append(ask)
        await asyncio.sleep(TRIP_S / 2)
        reply = self._share.grant(ask, asyncio.get_running_loop().time())
        self.out += sum(charge[0] for charge in ask.queue[: reply.admitted])
        self.out += ask.spare[0] * reply.spare / ask.spare_count if reply.spare else 0.0
        self.out -= ask.settled[0]
        await asyncio.sleep(TRIP_S / 2)
        return reply


def test_closing_gives_back_what_is_on_its_way(simulate: Simulate) -> None:
    async def closed_after(seconds: float) -> tuple[float, int]:
        store = Books()
        lane = lane_of(store, rpm=6_000)
        log = await admissions(lane, seconds, 50)
        await lane.aclose()
        return store.out, len(log)

    for thousandths in range(500, 700):
        out, admitted = simulate(lambda ms=thousandths: closed_after(ms / 1_000))
        assert out == pytest.approx(admitted)
