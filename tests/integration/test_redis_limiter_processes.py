"""The limiter in Redis, shared by real processes; and its Lua against the Python that it mirrors."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batcher.limits.exchange import Ask, Reply
from batcher.limits.local_share import LocalShare
from batcher.limits.quotas import DIMENSIONS, Dimension, Quota
from batcher.limits.redis import script_text
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[2]
NONE = (0.0,) * len(DIMENSIONS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture(autouse=True)
def empty(server: RedisServer) -> None:
    server.flush()


class Worker:
    """One child process that takes permits; see tests/support/limiter_child.py."""

    def __init__(self, server: RedisServer, rpm: int, seconds: float) -> None:
        options = ["--url", server.url, "--rpm", str(rpm), "--seconds", str(seconds)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.limiter_child", *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_until_ready(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def admissions(self) -> list[float]:
        output, _ = self._process.communicate(timeout=30)
        assert self._process.returncode == 0
        admitted: list[float] = json.loads(output)
        return admitted

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def rate(log: list[float], start: float, end: float) -> float:
    return sum(1 for at in log if start <= at < end) / (end - start)


def test_three_processes_share_a_rate_evenly_and_use_it(server: RedisServer) -> None:
    workers = [Worker(server, rpm=18_000, seconds=6) for _ in range(3)]
    for worker in workers:
        worker.wait_until_ready()
    logs = [worker.admissions() for worker in workers]
    start = max(log[0] for log in logs) + 0.5
    together = [rate(log, start, start + 4) for log in logs]
    assert 300 * 0.97 <= sum(together) <= 300 * 1.03
    assert min(together) >= 60


def test_what_a_killed_process_held_is_soon_used_by_the_others(server: RedisServer) -> None:
    workers = [Worker(server, rpm=12_000, seconds=7) for _ in range(2)]
    for worker in workers:
        worker.wait_until_ready()
    time.sleep(2)  # both are in full use of it by then; what follows holds whenever the kill comes
    killed_at = time.time()
    workers[0].kill()
    log = workers[1].admissions()
    assert 200 * 0.94 <= rate(log, killed_at + 1, killed_at + 3.5) <= 200 * 1.06


def test_the_benchmark_meets_its_bars_in_small() -> None:
    arguments = ["--seconds", "6", "--processes", "2", "--no-halving"]
    script = ROOT / "benchmarks" / "rates.py"
    done = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "BAR MISSED" not in done.stdout


TIMED = script_text("take").replace("redis.call('TIME')", "cjson.decode(ARGV[2])")
"""The script with the time as an argument."""


def granted(server: RedisServer, ask: Ask, at_us: int) -> Reply:
    keys = ["state", "processes", *(f"log:{name.value}" for name in ask.quotas)]
    moment = json.dumps([at_us // 1_000_000, at_us % 1_000_000])
    with server.client() as client:
        return Reply.from_json(client.eval(TIMED, len(keys), *keys, ask.to_json("p1"), moment), ask.quotas)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limits=st.tuples(st.integers(1, 200), st.integers(1, 5_000), st.integers(1, 100)),
    steps=st.lists(
        st.tuples(
            st.integers(0, 20_000_000),
            st.lists(st.integers(0, 3_000), max_size=8),
            st.integers(-500, 500),
            st.none() | st.integers(1, 300),
        ),
        min_size=1,
        max_size=25,
    ),
)
def test_the_script_decides_as_the_python_does(
    server: RedisServer,
    limits: tuple[int, int, int],
    steps: list[tuple[int, list[int], int, int | None]],
) -> None:
    """Steps are (microseconds before, tokens of those who wait, tokens settled, a new limit of requests)."""
    server.flush()
    share = LocalShare(1)
    quotas = {
        Dimension.RPM: Quota(limits[0], 60.0),
        Dimension.RPD: Quota(limits[2], 86_400.0),
        Dimension.TPM: Quota(limits[1], 60.0),
    }
    at_us = 1_000_000_000
    for pause_us, tokens, settled, new_limit in steps:
        at_us += pause_us
        if new_limit is not None:
            quotas = {**quotas, Dimension.RPM: Quota(new_limit, 60.0)}
        queue = tuple((1.0, 1.0, float(count), float(count), 0.0, 0.0) for count in tokens)
        correction = (0.0, 0.0, float(settled), 0.0, 0.0, 0.0)
        ask = Ask(quotas, "", correction, queue, 0, NONE, in_flight=0, resumed=True)
        expected = share.grant(ask, at_us / 1_000_000)
        reply = granted(server, ask, at_us)
        assert reply.admitted == expected.admitted
        assert reply.wait_s == pytest.approx(expected.wait_s, abs=1e-3)
        assert bool(reply.why) == (expected.wait_s > 0)


def test_spare_permits_leave_something_to_the_others(server: RedisServer) -> None:
    quotas = {Dimension.RPM: Quota(6_000, 60.0), Dimension.TPM: Quota(600_000, 60.0)}
    ask = Ask(quotas, "", NONE, (), 400, (400.0, 400.0, 40_000.0, 40_000.0, 0.0, 0.0), in_flight=0)
    spare = [granted(server, ask, 10**9).spare for _ in range(3)]
    assert spare == [25, 0, 0], "half of what half a second brings"
    with_queue = replace(ask, queue=((1.0, 1.0, 100.0, 100.0, 0.0, 0.0),) * 40)
    reply = granted(server, with_queue, 10**9)
    assert (reply.admitted, reply.spare) == (25, 0), "who waits is served from the other half"


def test_processes_are_counted_while_they_ask(server: RedisServer) -> None:
    ask = Ask({}, "", NONE, (), 0, NONE, in_flight=2)
    keys = ["state", "processes"]
    with server.client() as client:

        def alive(process: str, seconds: int, *, leaving: bool = False) -> int:
            text = replace(ask, leaving=leaving).to_json(process)
            reply = client.eval(TIMED, 2, *keys, text, json.dumps([1_000 + seconds, 0]))
            return Reply.from_json(reply, {}).alive

        assert [alive("a", 0), alive("b", 1), alive("a", 2)] == [1, 2, 2]
        assert alive("b", 3, leaving=True) == 2
        assert alive("a", 4) == 1
        assert alive("c", 63) == 2
        assert alive("c", 65) == 1, "a has not asked for a minute"


def test_calls_of_a_silent_process_are_over(server: RedisServer) -> None:
    ask = Ask({}, "", NONE, ((1.0,) * 6,), 0, NONE, in_flight=0, concurrency=1)
    with server.client() as client:

        def admitted(process: str, seconds: int) -> int:
            moment = json.dumps([1_000 + seconds, 0])
            text = client.eval(TIMED, 2, "state", "processes", ask.to_json(process), moment)
            return Reply.from_json(text, {}).admitted

        assert [admitted("a", 0), admitted("b", 1), admitted("b", 9)] == [1, 0, 0]
        assert admitted("b", 11) == 1
