"""A vendor on loopback that holds an account to its rates with token buckets, and counts what it refuses.

It speaks the OpenAI chat format, with OpenAI's rate-limit headers, and charges a request's text and its
output limit when it arrives. Started as a child process it prints its port and ends when its standard input
is closed. POST /limits {"rpm": 3000, "tpm": 1000000} changes the rates in mid-run; GET /counts tells what it
saw.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

_BACKLOG: Final = 4_096
_ANSWER: Final = {
    "id": "chatcmpl-rates",
    "object": "chat.completion",
    "created": 1_760_000_000,
    "model": "loopback",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}],
}


class Bucket:
    """A token bucket that holds ``capacity_s`` seconds of its rate and starts full."""

    def __init__(self, per_minute: int, capacity_s: float, now: float) -> None:
        self._capacity_s = capacity_s
        self._at = now
        self.set_rate(per_minute)
        self.level = self.capacity

    def set_rate(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self.rate = per_minute / 60
        self.capacity = max(1.0, self.rate * self._capacity_s)

    def refill(self, now: float) -> None:
        self.level = min(self.capacity, self.level + (now - self._at) * self.rate)
        self._at = now

    def headers(self, unit: str) -> dict[str, str]:
        full_in_s = (self.capacity - self.level) / self.rate
        return {
            f"x-ratelimit-limit-{unit}": str(self.per_minute),
            f"x-ratelimit-remaining-{unit}": str(max(0, int(self.level))),
            f"x-ratelimit-reset-{unit}": f"{full_in_s:.3f}s",
        }


@dataclass
class Account:
    """The two buckets and what was seen, by the second since the first request."""

    requests: Bucket
    tokens: Bucket
    first_at: float | None = None
    served: dict[int, int] = field(default_factory=dict)
    served_tokens: dict[int, int] = field(default_factory=dict)
    refused: dict[int, int] = field(default_factory=dict)
    is_strict: bool = False
    last_minute: deque[float] = field(default_factory=deque)

    def admit(self, tokens: int, now: float) -> bool:
        self.first_at = now if self.first_at is None else self.first_at
        second = int(now - self.first_at)
        self.requests.refill(now)
        self.tokens.refill(now)
        if self.requests.level < 1 or self.tokens.level < tokens or self._is_minute_full(now):
            self.refused[second] = self.refused.get(second, 0) + 1
            return False
        self.last_minute.append(now)
        self.requests.level -= 1
        self.tokens.level -= tokens
        self.served[second] = self.served.get(second, 0) + 1
        self.served_tokens[second] = self.served_tokens.get(second, 0) + tokens
        return True

    def _is_minute_full(self, now: float) -> bool:
        while self.last_minute and self.last_minute[0] <= now - 60:
            self.last_minute.popleft()
        return self.is_strict and len(self.last_minute) >= self.requests.per_minute

    def headers(self) -> dict[str, str]:
        return {**self.requests.headers("requests"), **self.tokens.headers("tokens")}

    def wait_s(self, tokens: int) -> float:
        missing = (1 - self.requests.level) / self.requests.rate
        return max(missing, (tokens - self.tokens.level) / self.tokens.rate, 0.001)


def application(account: Account, latency_s: float) -> web.Application:
    """The server's routes."""

    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        tokens = sum(len(message["content"]) for message in body["messages"]) // 4 + body["max_tokens"]
        if not account.admit(tokens, time.monotonic()):
            error = {"error": {"type": "requests", "code": "rate_limit_exceeded", "message": "Slow down."}}
            headers = {**account.headers(), "retry-after-ms": str(int(account.wait_s(tokens) * 1000) + 1)}
            return web.json_response(error, status=429, headers=headers)
        headers = account.headers()
        await asyncio.sleep(latency_s * random.uniform(0.5, 1.5))
        usage = {"prompt_tokens": tokens - body["max_tokens"], "completion_tokens": body["max_tokens"] // 2}
        return web.json_response({**_ANSWER, "usage": usage}, headers=headers)

    async def limits(request: web.Request) -> web.Response:
        body = await request.json()
        now = time.monotonic()
        for bucket, name in ((account.requests, "rpm"), (account.tokens, "tpm")):
            bucket.refill(now)
            bucket.set_rate(body[name])
            bucket.refill(now)
        second = int(now - (account.first_at or now))
        return web.json_response({"second": second})

    async def counts(_request: web.Request) -> web.Response:
        seen: dict[str, Any] = {
            "served": account.served,
            "served_tokens": account.served_tokens,
            "refused": account.refused,
        }
        return web.json_response(seen)

    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_post("/limits", limits)
    app.router.add_get("/counts", counts)
    return app


async def serve(arguments: argparse.Namespace) -> None:
    """Serve until standard input is closed."""
    now = time.monotonic()
    account = Account(
        Bucket(arguments.rpm, arguments.capacity_s, now),
        Bucket(arguments.tpm, arguments.capacity_s, now),
        is_strict=arguments.strict,
    )
    runner = web.AppRunner(application(account, arguments.latency_s), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
    await web.SockSite(runner, listener, backlog=_BACKLOG).start()
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rpm", type=int, default=6_000)
    parser.add_argument("--tpm", type=int, default=2_000_000)
    parser.add_argument("--capacity-s", type=float, default=60.0)
    parser.add_argument(
        "--strict", action="store_true", help="also count the requests of the last 60 seconds"
    )
    parser.add_argument("--latency-s", type=float, default=0.3)
    asyncio.run(serve(parser.parse_args()))
