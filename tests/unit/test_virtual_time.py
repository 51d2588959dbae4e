"""The loop whose clock jumps: timers fire in order and at once, threads hold time still."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from batcher.dispatch.virtual_time import VirtualTimeLoop


def run(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def test_a_night_of_sleep_takes_no_time_and_timers_keep_their_order() -> None:
    async def main() -> tuple[list[int], float]:
        woken: list[int] = []

        async def sleep(hours: int) -> None:
            await asyncio.sleep(hours * 3600)
            woken.append(hours)

        await asyncio.gather(*map(sleep, (8, 1, 5, 3)))
        return woken, asyncio.get_running_loop().time()

    started = time.monotonic()
    assert run(main()) == ([1, 3, 5, 8], 8 * 3600)
    assert time.monotonic() - started < 5, "eight hours were slept"


def test_time_stands_still_while_a_thread_works() -> None:
    async def main() -> tuple[float, bool]:
        loop = asyncio.get_running_loop()
        timer = asyncio.create_task(asyncio.sleep(60))
        await loop.run_in_executor(None, time.sleep, 0.05)
        return loop.time(), timer.done()

    assert run(main()) == (0.0, False)


def test_a_timeout_fires_at_its_virtual_moment() -> None:
    async def main() -> float:
        try:
            async with asyncio.timeout(90):
                await asyncio.Event().wait()
        except TimeoutError:
            return asyncio.get_running_loop().time()
        return -1.0

    assert run(main()) == 90.0
