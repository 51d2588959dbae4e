"""One worker process of the rates benchmark: sends what the shared limiter lets through, for a while."""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass

import aiohttp
from measuring import Stopwatch, allow_open_files, report

from batcher.domain import FailureClass
from batcher.limits.base import Limiter
from batcher.limits.concurrency import AdaptiveConcurrency
from batcher.limits.headers import read_headers
from batcher.limits.memory import MemoryLimiter
from batcher.limits.redis import RedisLimiter

KEY = "loopback/model"


@dataclass(frozen=True)
class AccountLimits:
    """What the account is believed to have until its headers tell."""

    rpm: int
    tpm: int
    charges_output_limit: bool = True


class Worker:
    """Many callers over one limiter."""

    def __init__(
        self, arguments: argparse.Namespace, limiter: Limiter, session: aiohttp.ClientSession
    ) -> None:
        self._url = f"{arguments.base_url}/v1/chat/completions"
        self._limiter = limiter
        self._session = session
        self._slots = AdaptiveConcurrency(arguments.in_flight)
        self._input_tokens = arguments.tokens // 2
        self._max_tokens = arguments.tokens - self._input_tokens
        self._ends_at = time.monotonic() + arguments.seconds
        self.calls = 0

    async def caller(self) -> None:
        """Call until the time is over."""
        text = "word" * self._input_tokens
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": self._max_tokens}
        while time.monotonic() < self._ends_at:
            async with self._slots.slot(KEY):
                with await self._limiter.acquire(KEY, self._input_tokens, self._max_tokens) as permit:
                    if time.monotonic() >= self._ends_at:
                        permit.give_back()
                        return
                    await self._call(body)

    async def _call(self, body: dict[str, object]) -> None:
        self.calls += 1
        async with self._session.post(self._url, json=body) as response:
            await response.read()
        headers = {name.lower(): value for name, value in response.headers.items()}
        self._limiter.observe(KEY, read_headers("openai", headers))
        refused = response.status == 429
        self._slots.record(KEY, FailureClass.RATE_LIMITED if refused else None)
        if refused:
            self._limiter.cool_down(KEY, int(headers["retry-after-ms"]) / 1000, "loopback 429")


async def run(arguments: argparse.Namespace) -> None:
    """Work, then print the figures of this process."""
    limits = {KEY: AccountLimits(rpm=arguments.default_rpm, tpm=arguments.default_tpm)}
    limiter: Limiter = (
        RedisLimiter(arguments.redis_url, limits) if arguments.redis_url else MemoryLimiter(limits)
    )
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        worker = Worker(arguments, limiter, session)
        watch = Stopwatch()
        await asyncio.gather(*(worker.caller() for _ in range(arguments.in_flight)))
        figures = watch.read()
    await limiter.aclose()
    report(calls=worker.calls, **figures)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--redis-url", default="")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--in-flight", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--default-rpm", type=int, default=6_000)
    parser.add_argument("--default-tpm", type=int, default=2_000_000)
    chosen = parser.parse_args()
    allow_open_files(4 * chosen.in_flight)
    asyncio.run(run(chosen))
