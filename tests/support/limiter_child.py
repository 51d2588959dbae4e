"""A worker process for tests of the shared limiter: takes permits for a while and prints when it got them."""

from __future__ import annotations

import argparse
import asyncio
import json
import time

from batcher.catalog.models import Limits
from batcher.limits.redis import RedisLimiter

KEY = "vendor/model"
CALL_S = 0.05


async def run(arguments: argparse.Namespace) -> None:
    limits = {KEY: Limits(rpm=arguments.rpm, tpm=None)}
    limiter = RedisLimiter(arguments.url, limits)
    admitted: list[float] = []
    ends_at = time.time() + arguments.seconds

    async def caller() -> None:
        while time.time() < ends_at:
            with await limiter.acquire(KEY, 10):
                admitted.append(time.time())
                await asyncio.sleep(CALL_S)

    print("ready", flush=True)  # noqa: T201 - read by the test
    await asyncio.gather(*(caller() for _ in range(arguments.callers)))
    await limiter.aclose()
    print(json.dumps(admitted), flush=True)  # noqa: T201


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--rpm", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--callers", type=int, default=30)
    asyncio.run(run(parser.parse_args()))
