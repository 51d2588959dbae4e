"""The limiter in Redis against a real server: two limiters in one loop stand for two processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from batcher.catalog.models import Limits
from batcher.limits.base import Limiter, Permit
from batcher.limits.quotas import Dimension, Observed, Reading
from batcher.limits.redis import RedisLimiter
from tests.support.redis_server import RedisServer

KEY = "vendor/model"
STATE = f"batcher:limits:{{{KEY}}}:state"
PROCESSES = f"batcher:limits:{{{KEY}}}:processes"
FREE = Limits(rpm=None, tpm=None)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as redis:
        yield redis


@asynccontextmanager
async def limiters(
    server: RedisServer, count: int, limits: Limits, notify: Callable[[str], None] | None = None
) -> AsyncIterator[list[RedisLimiter]]:
    made = [RedisLimiter(server.url, {KEY: limits}, notify=notify) for _ in range(count)]
    try:
        yield made
    finally:
        for limiter in made:
            await limiter.aclose()


async def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition is another process's
            await asyncio.sleep(0.01)


async def admissions(limiter: Limiter, seconds: float, callers: int = 50, tokens: int = 0) -> list[float]:
    """When callers that come again and again were admitted."""
    log: list[float] = []

    async def caller() -> None:
        while True:
            with await limiter.acquire(KEY, tokens):
                log.append(time.monotonic())
                await asyncio.sleep(0.02)

    tasks = [asyncio.ensure_future(caller()) for _ in range(callers)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return log


def told(limit: int, window_s: float = 60.0, remaining: int | None = None) -> Observed:
    return Observed((Reading(Dimension.RPM, limit, window_s, remaining),))


def used(server: RedisServer, limit: int) -> float:
    """Requests that Redis counts as used."""
    with server.client() as client:
        return float(client.hget(STATE, "rpm:used") or 0) * limit


async def test_two_share_one_rate_and_use_it(server: RedisServer) -> None:
    async with limiters(server, 2, Limits(rpm=12_000, tpm=None)) as (one, two):
        start = time.monotonic()
        logs = await asyncio.gather(admissions(one, 4), admissions(two, 4))
        seconds = time.monotonic() - start
    count = sum(map(len, logs))
    assert count <= 200 * seconds + 100
    assert count >= 200 * 4 * 0.98
    assert min(map(len, logs)) >= count * 0.25


async def test_no_window_sees_more_than_allowed(server: RedisServer) -> None:
    """Windows of 2 s, of which the network takes some milliseconds."""
    async with limiters(server, 2, FREE) as (one, two):
        one.observe(KEY, told(60, window_s=2.0))
        await eventually(lambda: server_knows_limits(server))
        logs = await asyncio.gather(admissions(one, 7), admissions(two, 7))
    log = sorted(logs[0] + logs[1])
    for start, at in enumerate(log):
        assert sum(1 for later in log[start:] if later < at + 1.95) <= 60
    assert len(log) >= 30 * 7 * 0.95


def server_knows_limits(server: RedisServer) -> bool:
    with server.client() as client:
        return client.hexists(STATE, "observed")


async def test_a_call_costs_much_less_than_a_round_trip(server: RedisServer) -> None:
    async with limiters(server, 1, Limits(rpm=600_000, tpm=None)) as (limiter,):
        await admissions(limiter, 0.5)
        with server.client() as client:
            before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
            count = len(await admissions(limiter, 2, callers=20))
            calls = client.info("commandstats")["cmdstat_evalsha"]["calls"] - before
    assert count > 1_000
    assert calls < count / 10


async def test_the_overhead_of_a_call_is_small(server: RedisServer) -> None:
    async with limiters(server, 1, FREE) as (limiter,):
        await admissions(limiter, 0.5)
        start = time.process_time()
        count = len(await admissions(limiter, 2, callers=20))
        cpu_s = time.process_time() - start
    assert count > 1_000
    assert cpu_s / count < 120e-6, "60 µs for the limiter, the rest for the loop and the callers"


async def test_what_is_not_used_goes_back(server: RedisServer) -> None:
    async with limiters(server, 1, Limits(rpm=60_000, tpm=None)) as (limiter,):
        log = await admissions(limiter, 1)
        await eventually(lambda: used(server, 60_000) == pytest.approx(len(log), abs=0.01))


async def test_closing_gives_back_at_once(server: RedisServer) -> None:
    async with limiters(server, 1, Limits(rpm=60_000, tpm=None)) as (limiter,):
        log = await admissions(limiter, 1)
        await limiter.aclose()
        assert used(server, 60_000) == pytest.approx(len(log), abs=0.01)
        with server.client() as client:
            assert client.hgetall(PROCESSES) == {}


async def test_cancelled_callers_leave_nothing_booked(server: RedisServer) -> None:
    async with limiters(server, 1, Limits(rpm=60_000, tpm=None)) as (limiter,):
        held: list[Permit] = []

        async def caller() -> None:
            held.append(await limiter.acquire(KEY, 1))

        for wave in range(40):
            tasks = [asyncio.ensure_future(caller()) for _ in range(20)]
            await asyncio.sleep(wave * 0.0001)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.wait(tasks)
        for permit in held:
            permit.close()
        assert len(held) >= 400
        await eventually(lambda: used(server, 60_000) == pytest.approx(len(held), abs=0.01))


async def test_a_permit_given_back_and_one_settled(server: RedisServer) -> None:
    async with limiters(server, 1, Limits(rpm=600, tpm=60_000)) as (limiter,):
        with await limiter.acquire(KEY, 400, 100) as permit:
            permit.settle(300, 50)
        (await limiter.acquire(KEY, 400, 100)).give_back()
        await eventually(lambda: used(server, 600) == pytest.approx(1))
        with server.client() as client:
            assert float(client.hget(STATE, "tpm:used")) * 60_000 == pytest.approx(350)


async def test_a_cool_down_holds_for_all(server: RedisServer) -> None:
    async with limiters(server, 2, Limits(rpm=60_000, tpm=None)) as (one, two):
        await asyncio.gather(admissions(one, 0.5), admissions(two, 0.5))
        start = time.monotonic()
        one.cool_down(KEY, 2.0, "vendor 429")
        one.cool_down(KEY, 1.0, "a shorter one")
        await asyncio.sleep(0.3)
        waiters = [asyncio.ensure_future(limiter.acquire(KEY, 1)) for limiter in (one, two)]
        await eventually(lambda: KEY in two.waiting())
        said = [limiter.waiting()[KEY] for limiter in (one, two)]
        for waiter in waiters:
            (await waiter).close()
        assert 2.0 <= time.monotonic() - start < 3.3
    assert said == ["cooling down 2 s: vendor 429"] * 2


async def test_what_headers_tell_one_is_known_to_all(server: RedisServer) -> None:
    async with limiters(server, 2, Limits(rpm=600, tpm=None)) as (one, two):
        slow = len(await admissions(two, 2))
        one.observe(KEY, told(12_000))
        await eventually(lambda: server_knows_limits(server))
        fast = len(await admissions(two, 2))
    assert slow <= 26
    assert fast >= 350


async def test_less_left_than_believed_holds_all_back(server: RedisServer) -> None:
    """The vendor has 30 of 6,000 left; permits come back at 100 a second."""
    async with limiters(server, 2, Limits(rpm=6_000, tpm=None)) as (one, two):
        (await one.acquire(KEY, 1)).close()
        one.observe(KEY, told(6_000, remaining=0))
        with server.client() as client:
            await eventually(lambda: float(client.hget(STATE, "rpm:room") or 1) < 0.5)
        count = len(await admissions(two, 1))
    assert count <= 110


async def test_calls_in_flight_are_counted_over_all(server: RedisServer) -> None:
    under_way, most, done = 0, 0, 0

    async def caller(limiter: RedisLimiter) -> None:
        nonlocal under_way, most, done
        with await limiter.acquire(KEY, 1):
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.1)
            under_way -= 1
        done += 1

    async with limiters(server, 2, Limits(None, None, concurrency=4)) as (one, two):
        start = time.monotonic()
        calls = [caller(limiter) for limiter in (one, two) for _ in range(20)]
        waiting = asyncio.ensure_future(eventually(lambda: KEY in two.waiting()))
        await asyncio.gather(*calls, waiting)
        seconds = time.monotonic() - start
    assert (most, done) == (4, 40)
    assert seconds < 3


async def test_who_waits_says_why(server: RedisServer) -> None:
    async with limiters(server, 1, Limits(rpm=60_000, tpm=None, rpd=1)) as (limiter,):
        (await limiter.acquire(KEY, 1)).close()
        waiter = asyncio.ensure_future(limiter.acquire(KEY, 1))
        await eventually(lambda: KEY in limiter.waiting())
        assert limiter.waits(KEY)
        assert limiter.waiting() == {KEY: "rate limit: 1 requests/day"}
        waiter.cancel()


async def test_a_lost_redis_leaves_each_a_safe_share_and_comes_back(server: RedisServer) -> None:
    said: list[str] = []
    async with limiters(server, 2, Limits(rpm=12_000, tpm=None), said.append) as (one, two):
        await asyncio.gather(admissions(one, 1), admissions(two, 1))
        server.stop()
        await asyncio.gather(admissions(one, 1.5), admissions(two, 1.5))
        await eventually(lambda: one.trouble() != "" and two.trouble() != "")
        logs = await asyncio.gather(admissions(one, 2), admissions(two, 2), watch(one))
        for log in logs[:2]:
            assert 180 <= len(log) <= 220, "half of 200 a second, for two seconds"
        assert f"Redis at 127.0.0.1:{server.port} is away, using 1/2 of the limits" in logs[2]
        server.start()
        await eventually(lambda: one.trouble() == "" and two.trouble() == "")
        logs = await asyncio.gather(admissions(one, 2), admissions(two, 2))
        assert 380 <= sum(map(len, logs)) <= 2 * 200 + 20
    assert len([sentence for sentence in said if "is away (" in sentence]) == 2
    assert len([sentence for sentence in said if "is back" in sentence]) == 2


async def watch(limiter: RedisLimiter) -> str:
    """What it says while somebody waits."""
    await asyncio.sleep(1)
    await eventually(lambda: KEY in limiter.waiting())
    return limiter.waiting()[KEY]


async def test_a_redis_that_hangs_does_not_hold_the_loop(server: RedisServer) -> None:
    longest_gap_s = 0.0

    async def heartbeat() -> None:
        nonlocal longest_gap_s
        before = time.monotonic()
        while True:
            await asyncio.sleep(0.005)
            now = time.monotonic()
            longest_gap_s = max(longest_gap_s, now - before)
            before = now

    async with limiters(server, 1, Limits(rpm=12_000, tpm=None)) as (limiter,):
        await admissions(limiter, 0.5)
        beating = asyncio.ensure_future(heartbeat())
        server.freeze()
        limiter.observe(KEY, told(24_000))
        limiter.cool_down(KEY, 0.1, "vendor 503")
        while_frozen = await admissions(limiter, 3)
        beating.cancel()
        assert limiter.trouble() != ""
        server.thaw()
        await eventually(lambda: limiter.trouble() == "")
        afterwards = await admissions(limiter, 1)
    assert longest_gap_s < 0.5
    assert len(while_frozen) > 100
    assert len(afterwards) > 150


async def test_a_redis_that_forgets_everything_is_told_again(server: RedisServer) -> None:
    async with limiters(server, 1, Limits(rpm=600, tpm=None)) as (limiter,):
        limiter.observe(KEY, told(12_000))
        await admissions(limiter, 0.5)
        server.flush()
        after = await admissions(limiter, 2)
        assert limiter.trouble() == ""
        assert server_knows_limits(server)
    assert len(after) >= 350


async def test_without_any_redis_the_expected_number_of_processes_counts(tmp_path: Path) -> None:
    url = RedisServer(tmp_path).url
    limiter = RedisLimiter(url, {KEY: Limits(rpm=12_000, tpm=None)}, expected_processes=4)
    log = await admissions(limiter, 2)
    assert limiter.processes(KEY) == 4
    await limiter.aclose()
    assert 85 <= len(log) <= 105


async def test_the_state_of_a_key_that_nobody_uses_is_dropped(server: RedisServer) -> None:
    async with limiters(server, 1, Limits(rpm=600, tpm=600_000, rpd=5_000)) as (limiter,):
        (await limiter.acquire(KEY, 5)).close()
        limiter.cool_down("other", 5, "vendor 503")
        with server.client() as client:
            await eventually(lambda: client.exists("batcher:limits:{other}:state") == 1)
            keys = list(client.scan_iter())
            assert len(keys) == 6
            for key in keys:
                assert 0 < client.ttl(key) <= 2 * 86_400


def test_a_password_is_never_shown() -> None:
    limiter = RedisLimiter("redis://:sesame@127.0.0.1:1/0", {})
    assert "sesame" not in repr(limiter)
    assert "sesame" not in str(vars(limiter).get("_name"))
