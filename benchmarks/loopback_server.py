"""A model vendor on loopback that answers every chat call after a fixed time with one fixed answer.

It speaks the OpenAI, Together and Anthropic formats and does as little as it can, so that the client is what
is measured. Started as a child process it prints its port and ends when its standard input is closed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
from typing import Any, Final

from aiohttp import web

ANSWER: Final = json.dumps(
    {
        "language": "en",
        "topics": ["loan agreements", "interest rates", "repayment"],
        "keywords": ["lender", "borrower", "principal", "maturity"],
        "entities": {
            "people": ["Ada Lovelace"],
            "organisations": ["First Bank"],
            "places": ["London"],
            "dates": ["1 March 2026"],
            "products": [],
        },
        "reading_level": "university",
        "target_audience": "lawyers and loan officers",
        "summary": "A lender and a borrower agree on a loan, its interest and the dates of its repayment.",
    }
)
"""Fits the enrichment task's schema; about 120 tokens."""

INPUT_TOKENS: Final = 1_100
OUTPUT_TOKENS: Final = 120
_BACKLOG: Final = 4_096


def chat_completion() -> dict[str, Any]:
    """OpenAI's and Together's answer."""
    return {
        "id": "chatcmpl-loopback",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": "loopback",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "logprobs": None,
                "message": {"role": "assistant", "content": ANSWER, "refusal": None},
            }
        ],
        "usage": {
            "prompt_tokens": INPUT_TOKENS,
            "completion_tokens": OUTPUT_TOKENS,
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
        },
    }


def anthropic_message() -> dict[str, Any]:
    """Anthropic's answer."""
    return {
        "id": "msg_loopback",
        "type": "message",
        "role": "assistant",
        "model": "loopback",
        "content": [{"type": "text", "text": ANSWER}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS},
    }


def application(latency_s: float) -> web.Application:
    """The server: two routes and no state."""

    def answering(body: dict[str, Any]) -> Any:
        raw = json.dumps(body).encode()
        headers = {"content-type": "application/json", "x-request-id": "req_loopback"}

        async def answer(request: web.Request) -> web.Response:
            await request.read()
            await asyncio.sleep(latency_s)
            return web.Response(body=raw, headers=headers)

        return answer

    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/chat/completions", answering(chat_completion()))
    app.router.add_post("/v1/messages", answering(anthropic_message()))
    return app


async def serve(latency_s: float) -> None:
    """Serve until standard input is closed."""
    runner = web.AppRunner(application(latency_s), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
    await web.SockSite(runner, listener, backlog=_BACKLOG).start()
    print(listener.getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency-s", type=float, default=0.2)
    asyncio.run(serve(parser.parse_args().latency_s))
