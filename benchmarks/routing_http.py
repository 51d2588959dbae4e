"""A loopback vendor that serves recorded answers in OpenAI's format.

A request is known by its model and the text of its last message. Recorded costs come back as tokens: each
model has a price per token at which no text costs more than its bytes, and an answer brings as many input
tokens as its recorded cost buys, so that whoever multiplies tokens by prices, books what was recorded.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from batcher.routing.ladder.records import GoldenRow

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
        content = body["messages"][-1]["content"]
        # batcher puts a document between tags.
        row = self._rows.get(content.partition(">\n")[2].rpartition("\n</")[0])
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
