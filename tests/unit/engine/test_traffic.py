"""What an answer does to the calls that come after it, in this process and in those that share the limits."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from batcher.catalog.models import Limits, load_catalog
from batcher.domain import FailureClass
from batcher.engine.binding import Binding
from batcher.engine.traffic import Traffic, _with_room_ahead
from batcher.limits.breaker import FAILURES, OPEN_S
from batcher.limits.memory import MemoryLimiter
from batcher.providers.openai_chat import OpenAIChat
from batcher.settings import Settings
from tests.support.runs import MODEL, TASK
from tests.unit.limits.simulated_time import LoopClock, run_in_simulated_time


def binding() -> Binding:
    provider = OpenAIChat(
        "http://127.0.0.1:9", None, limit_field="max_tokens", strict=False, max_connections=1
    )
    return Binding(
        spec=TASK.spec({}),
        model=load_catalog(Settings()).models[MODEL],
        provider=provider,
        kind="openai",
        account="",
        timeout_s=5,
        schema_bytes=0,
    )


@pytest.mark.parametrize("failure", [FailureClass.OVERLOADED, FailureClass.RATE_LIMITED])
def test_a_wait_that_a_vendor_names_holds_for_all_who_share_the_limits(failure: FailureClass) -> None:
    async def main() -> tuple[dict[str, str], float]:
        limiter = MemoryLimiter({}, LoopClock())
        mine, other = Traffic(limiter, 4, LoopClock()), Traffic(limiter, 4, LoopClock())
        model = binding()
        async with mine.admitted(model, 10, 10):
            mine.learn(model, failure, 30.0, {}, 503, 0.1)
        loop = asyncio.get_running_loop()
        started = loop.time()

        async def call() -> float:
            async with other.admitted(model, 10, 10):
                return loop.time() - started

        calling = loop.create_task(call())
        await asyncio.sleep(1)
        return other.waiting(), await calling

    waiting, waited_s = run_in_simulated_time(main)
    assert waiting == {f"{MODEL}#": "cooling down 29 s: openai 503"}
    assert waited_s == pytest.approx(30, abs=0.1)


def test_an_overload_that_names_no_time_pauses_nobody_else() -> None:
    async def main() -> float:
        limiter = MemoryLimiter({}, LoopClock())
        mine, other = Traffic(limiter, 4, LoopClock()), Traffic(limiter, 4, LoopClock())
        model = binding()
        async with mine.admitted(model, 10, 10):
            mine.learn(model, FailureClass.OVERLOADED, None, {}, 503, 0.1)
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with other.admitted(model, 10, 10):
            return loop.time() - started

    assert run_in_simulated_time(main) == 0


def test_a_probe_that_was_held_back_does_not_keep_others_from_trying() -> None:
    async def main() -> float:
        traffic, model = Traffic(MemoryLimiter({}, LoopClock()), 4, LoopClock()), binding()
        loop = asyncio.get_running_loop()
        for _ in range(8):
            traffic.learn(model, FailureClass.TRANSIENT, None, {}, 500, 0.1)
        assert await traffic.pick([model]) is model
        traffic.nothing_sent(model)
        started = loop.time()
        assert await traffic.pick([model]) is model
        return loop.time() - started

    assert run_in_simulated_time(main) == 0


def test_failures_that_overtake_the_answers_open_no_circuit() -> None:
    """A third of the calls is refused at once; the answers come a long time after the last refusal."""

    async def main() -> int:
        traffic, model = Traffic(MemoryLimiter({}, LoopClock()), 60, LoopClock()), binding()

        async def call(number: int) -> None:
            async with traffic.admitted(model, 10, 10):
                failure = None if number % 3 else FailureClass.TRANSIENT
                took_s = 20.0 if failure is None else 0.01
                async with traffic.on_the_wire(model):
                    await asyncio.sleep(took_s)
                traffic.learn(model, failure, None, {}, 500 if failure else 200, took_s)

        await asyncio.gather(*(call(number) for number in range(300)))
        return traffic.openings(model)

    assert run_in_simulated_time(main) == 0


def test_a_model_that_answers_nothing_is_left_alone_after_two_rounds_of_calls() -> None:
    async def main() -> tuple[int, list[float]]:
        traffic, model = Traffic(MemoryLimiter({}, LoopClock()), 60, LoopClock()), binding()
        loop = asyncio.get_running_loop()
        sent: list[float] = []

        async def call() -> None:
            picked = await traffic.pick([model])
            openings = traffic.openings(picked)
            async with traffic.admitted(picked, 10, 10):
                if traffic.openings(picked) != openings:
                    return
                async with traffic.on_the_wire(picked):
                    sent.append(loop.time())
                    await asyncio.sleep(0.01)
                traffic.learn(picked, FailureClass.TRANSIENT, None, {}, 500, 0.01)

        calls = [asyncio.create_task(call()) for _ in range(500)]
        await asyncio.sleep(10)
        for waiting in calls:
            waiting.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        return traffic.openings(model), sent

    openings, sent = run_in_simulated_time(main)
    assert openings == 1
    assert 8 <= len(sent) <= 2 * 60 + 15


def test_slots_are_not_said_to_be_what_is_waited_for_while_their_holders_wait_for_a_rate() -> None:
    async def main() -> set[str]:
        limiter = MemoryLimiter({f"{MODEL}#": Limits(rpm=60, tpm=None)}, LoopClock())
        traffic, model = Traffic(limiter, 4, LoopClock()), binding()

        async def call() -> None:
            async with traffic.admitted(model, 10, 10):
                await asyncio.sleep(0)

        calls = [asyncio.create_task(call()) for _ in range(200)]
        said: set[str] = set()
        while not all(task.done() for task in calls):
            said |= set(traffic.waiting().values())
            await asyncio.sleep(0.25)
        return said

    said = run_in_simulated_time(main)
    assert said
    assert all(reason.startswith("rate limit: 60 requests/min") for reason in said), said


def test_a_probe_that_is_cut_off_while_it_waits_for_its_turn_makes_room_for_another() -> None:
    async def main() -> float:
        traffic, model = Traffic(MemoryLimiter({}, LoopClock()), 1, LoopClock()), binding()
        async with AsyncExitStack() as slots:
            for _ in range(_with_room_ahead(1)):
                await slots.enter_async_context(traffic.admitted(model, 10, 10))
            for _ in range(FAILURES):
                traffic.learn(model, FailureClass.TRANSIENT, None, {}, 500, 0.1)
            await asyncio.sleep(OPEN_S)
            picked = await traffic.pick([model])
            probe = asyncio.create_task(slots.enter_async_context(traffic.admitted(picked, 10, 10)))
            await asyncio.sleep(0.1)
            probe.cancel()
            await asyncio.gather(probe, return_exceptions=True)
            asked_at = asyncio.get_running_loop().time()
            await traffic.pick([model])
            return asyncio.get_running_loop().time() - asked_at

    assert run_in_simulated_time(main) == 0
