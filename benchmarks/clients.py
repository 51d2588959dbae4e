"""One client of the throughput benchmark, in a process of its own: ``clients.py NAME --base-url URL ...``."""

from __future__ import annotations

import argparse
import asyncio
import gc
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import orjson
from measuring import WARM_UP_CALLS, Stopwatch, allow_open_files, documents, peak_rss_mb, report

MAX_TOKENS: Final = 600
Call = Callable[[str], Awaitable[str]]


async def every(texts: list[str], call: Call, in_flight: int) -> None:
    """Make one call per text, ``in_flight`` at a time."""
    waiting = iter(texts)

    async def worker() -> None:
        for text in waiting:
            if "summary" not in await call(text):
                raise RuntimeError("the server's answer did not come back")

    async with asyncio.TaskGroup() as group:
        for _ in range(min(in_flight, len(texts))):
            group.create_task(worker())


@asynccontextmanager
async def raw_aiohttp(base_url: str, in_flight: int) -> AsyncIterator[Call]:
    """The floor: an HTTP client, a body and nothing else."""
    import aiohttp

    headers = {"authorization": "Bearer none", "content-type": "application/json"}
    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def call(text: str) -> str:
            body = orjson.dumps(_chat_body(text))
            async with session.post(f"{base_url}/v1/chat/completions", data=body) as response:
                value = orjson.loads(await response.read())
            answer: str = value["choices"][0]["message"]["content"]
            return answer

        yield call


@asynccontextmanager
async def openai_sdk(base_url: str, in_flight: int, *, aiohttp: bool) -> AsyncIterator[Call]:
    """AsyncOpenAI as its README shows it, on either transport."""
    import httpx2
    import openai

    limits = httpx2.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    transport = openai.DefaultAioHttpClient if aiohttp else openai.DefaultAsyncHttpxClient
    client = openai.AsyncOpenAI(
        base_url=f"{base_url}/v1", api_key="none", max_retries=0, http_client=transport(limits=limits)
    )
    async with client:

        async def call(text: str) -> str:
            completion = await client.chat.completions.create(**_chat_body(text))
            return completion.choices[0].message.content or ""

        yield call


def _chat_body(text: str) -> dict[str, Any]:
    return {"model": "loopback", "messages": [{"role": "user", "content": text}], "max_tokens": MAX_TOKENS}


async def measure_calls(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure a client that is a function from text to answer."""
    makers: dict[str, Any] = {
        "raw-aiohttp": lambda: raw_aiohttp(arguments.base_url, arguments.in_flight),
        "openai": lambda: openai_sdk(arguments.base_url, arguments.in_flight, aiohttp=False),
        "openai-aiohttp": lambda: openai_sdk(arguments.base_url, arguments.in_flight, aiohttp=True),
    }
    texts = list(documents(arguments.docs, arguments.size, seed=2))
    async with makers[name]() as call:
        await every(list(documents(WARM_UP_CALLS, arguments.size, seed=1)), call, WARM_UP_CALLS)
        gc.collect()
        watch = Stopwatch()
        await every(texts, call, arguments.in_flight)
        return watch.read()


async def measure_batcher(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure batcher with everything on: from the first lease to the last settlement; ingestion apart."""
    from batcher_client import BatcherClient

    with tempfile.TemporaryDirectory(prefix="batcher-benchmark-") as folder:
        path = name.removeprefix("batcher-")
        client = BatcherClient(Path(folder), path, arguments.base_url, arguments.in_flight)
        warm_up = client.submit(documents(WARM_UP_CALLS, arguments.size, seed=1))
        await client.run(warm_up)
        ingesting = Stopwatch()
        job = client.submit(documents(arguments.docs, arguments.size, seed=2))
        ingested = ingesting.read()
        gc.collect()
        watch = Stopwatch()
        await client.run(job)
        measured = watch.read()
        await client.close()
        client.check(job, arguments.docs)
        return measured | {f"ingestion_{key}": value for key, value in ingested.items()}


def main() -> None:
    """Run one client and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--base-url", required=True, help="without /v1")
    parser.add_argument("--docs", type=int, required=True)
    parser.add_argument("--size", type=int, default=4_096, help="characters per document")
    parser.add_argument("--in-flight", type=int, required=True)
    arguments = parser.parse_args()
    allow_open_files(4 * arguments.in_flight + 256)
    measure = measure_batcher if arguments.name.startswith("batcher-") else measure_calls
    measured = asyncio.run(measure(arguments.name, arguments))
    report(docs=arguments.docs, peak_rss_mb=peak_rss_mb(), **measured)


if __name__ == "__main__":
    main()
