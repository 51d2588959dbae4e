"""A loopback vendor that serves recorded answers in OpenAI's format, and a ladder walked over calls to it.

A request is known by its model and the text of its last message. Recorded costs come back as tokens: each
model has a price per token at which no text costs more than its bytes, and an answer brings as many input
tokens as its recorded cost buys, so that whoever multiplies tokens by prices, books what was recorded.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from aiohttp import web

from batcher.routing.ladder.policy import LadderPolicy
from batcher.routing.ladder.records import GoldenRow

_AT_ONCE: Final = 64
_TOKENS_PER_PRICE: Final = 1_000_000


class RecordedVendor:
    """The vendor: one route, no state."""

    def __init__(self, rows: Sequence[GoldenRow], latency_scale: float) -> None:
        self._rows = {row.text: row for row in reversed(rows)}
        self._scale = latency_scale
        names = {name for row in rows for name in row.answers}
        self.price_nusd = {name: _price_nusd(rows, name) for name in names}
        """By model: nano-dollars per million input tokens."""

    async def answer(self, request: web.Request) -> web.Response:
        """``POST /v1/chat/completions``."""
        body = await request.json()
        row = self._rows.get(body["messages"][-1]["content"])
        given = row.answers.get(body["model"]) if row else None
        if given is None:
            return web.json_response(
                {"error": {"message": "no such recording", "code": "model_not_found"}}, status=404
            )
        if given.latency_s:
            await asyncio.sleep(given.latency_s * self._scale)
        tokens = round(given.cost_nusd * _TOKENS_PER_PRICE / self.price_nusd[body["model"]])
        choice: dict[str, Any] = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": given.answer, "refusal": None},
            "logprobs": None,
        }
        if given.logprob is not None and body.get("logprobs"):
            token = {"token": given.answer, "logprob": given.logprob, "bytes": None, "top_logprobs": []}
            choice["logprobs"] = {"content": [token], "refusal": None}
        return web.json_response(
            {
                "id": "chatcmpl-recorded",
                "object": "chat.completion",
                "created": 1_760_000_000,
                "model": body["model"],
                "choices": [choice],
                "usage": {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens},
            }
        )

    async def start(self) -> tuple[web.AppRunner, str]:
        """Listen on loopback; the runner to clean up, and the base URL."""
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/chat/completions", self.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        return runner, f"http://{host}:{port}/v1"


def _price_nusd(rows: Sequence[GoldenRow], name: str) -> int:
    """Nano-dollars per million tokens at which no row's cost is more tokens than its text has bytes."""
    dearest = max(
        row.answers[name].cost_nusd / max(1, len(row.text.encode())) for row in rows if name in row.answers
    )
    return max(1, math.ceil(dearest * _TOKENS_PER_PRICE))


@dataclass(frozen=True)
class Answered:
    """One document, over HTTP: whether right, what it cost, and the sum of its calls' recorded latencies."""

    correct: bool
    cost_nusd: float
    latency_s: float


@dataclass(frozen=True)
class Calls:
    """All documents of a run."""

    documents: list[Answered]
    requests: int

    def latency(self, share: float) -> float:
        """A quantile over documents, seconds, at recorded speed."""
        ordered = sorted(one.latency_s for one in self.documents)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def replay_over_http(policy: LadderPolicy, rows: Sequence[GoldenRow], latency_scale: float) -> Calls:
    """Take every row through the ladder by calls to a loopback vendor."""
    vendor = RecordedVendor(rows, latency_scale)
    runner, url = await vendor.start()
    room, requests = asyncio.Semaphore(_AT_ONCE), 0
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=_AT_ONCE)) as session:

            async def ask(model: str, text: str) -> dict[str, Any]:
                nonlocal requests
                requests += 1
                body = {"model": model, "messages": [{"role": "user", "content": text}], "logprobs": True}
                async with session.post(f"{url}/chat/completions", json=body) as response:
                    response.raise_for_status()
                    found: dict[str, Any] = await response.json()
                    return found

            async def document(row: GoldenRow) -> Answered:
                async with room:
                    return await _document(policy, row, vendor, ask)

            return Calls(list(await asyncio.gather(*map(document, rows))), requests)
    finally:
        await runner.cleanup()


async def _document(policy: LadderPolicy, row: GoldenRow, vendor: RecordedVendor, ask: Any) -> Answered:
    signals = policy.read(row.text)
    step, cost, latency, answers = policy.entry(signals), 0.0, 0.0, []
    while True:
        model = policy.steps[step].model
        body = await ask(model, row.text)
        choice = body["choices"][0]
        cost += body["usage"]["prompt_tokens"] * vendor.price_nusd[model] / _TOKENS_PER_PRICE
        latency += row.answers[model].latency_s or 0.0
        tokens = (choice["logprobs"] or {"content": []})["content"]
        mean = sum(one["logprob"] for one in tokens) / len(tokens) if tokens else None
        answers.append(policy.bought(model, choice["message"]["content"], mean))
        verdict = policy.decide(step, signals, answers)
        if verdict.stands and verdict.kept is not None:
            return Answered(row.answers[answers[verdict.kept].model].correct, cost, latency)
        step += 1
