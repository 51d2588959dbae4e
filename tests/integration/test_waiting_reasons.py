"""Whoever waits says why: every kind of wait is provoked, and named by the engine and in the store."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from batcher.engine.engine import Engine
from batcher.runtime import Runtime
from tests.support.runs import MODEL, job_of, make_job, make_runtime
from tests.support.vendor_server import VendorServer

SEEN_WITHIN_S = 30.0


@dataclass(frozen=True)
class Wait:
    """A wait, how to bring it about, and what is said of it."""

    named: str
    fault: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    documents: int = 24
    rpm: int = 10_000_000
    latency_s: float = 0.0


WAITS = {
    "rate limit": Wait(r"gpt-4o-mini: rate limit: 60 requests/min", rpm=60),
    "told to wait": Wait(
        r"gpt-4o-mini: cooling down [1-9] s: openai 429",
        {"kind": "rate_limited", "retry_after_s": 4.0, "times": None},
    ),
    "no capacity": Wait(
        r"gpt-4o-mini: no capacity: trying again in \d s",
        {"status": 503, "headers": {"retry-after": "4"}, "times": None},
    ),
    "circuit": Wait(
        r"gpt-4o-mini: circuit open for \d+ s: \d+ failures in a row, the last transient \(openai\)",
        {"kind": "server_500", "times": None},
    ),
    "back-off": Wait(
        r"retrying openai after transient \(The server had an error.*\): \d+ s",
        {"kind": "server_500", "times": None},
        {"max_attempts": 7},
        documents=1,
    ),
    "slots": Wait(r"gpt-4o-mini: in flight: \d+ of \d+ calls", settings={"concurrency": 2}, latency_s=0.4),
}


async def wait_until_named(
    runtime: Runtime, engine: Engine, job_id: int, pattern: re.Pattern[str]
) -> tuple[set[str], set[str]]:
    """What the engine says and what the store says, until both have named the wait or time is up."""
    said: set[str] = set()
    stored: set[str] = set()
    ends_at = time.monotonic() + SEEN_WITHIN_S
    while time.monotonic() < ends_at:
        said.add(engine.waiting_reason() or "")
        stored.add(job_of(runtime, job_id).waiting_reason or "")
        if any(map(pattern.fullmatch, said)) and any(map(pattern.fullmatch, stored)):
            break
        await asyncio.sleep(0.05)
    return said, stored


@pytest.mark.parametrize("name", list(WAITS))
def test_every_wait_is_named(name: str, tmp_path: Path, vendor_server: VendorServer) -> None:
    wait = WAITS[name]
    runtime = make_runtime(tmp_path / "home", vendor_server, **{"concurrency": 16, **wait.settings})
    limits = runtime.settings.models[MODEL]
    limits.rpm = wait.rpm
    vendor_server.configure(latency_s=wait.latency_s)
    if wait.fault:
        vendor_server.add_fault(**wait.fault)
    job = make_job(runtime, {f"d{number}": f"text number {number}" for number in range(wait.documents)})

    async def main() -> tuple[set[str], set[str]]:
        engine = runtime.engine()
        running = asyncio.create_task(engine.run([job.id]))
        try:
            return await wait_until_named(runtime, engine, job.id, re.compile(wait.named))
        finally:
            engine.stop()
            await running
            await runtime.aclose()

    said, stored = asyncio.run(main())
    for reasons in (said, stored):
        assert any(re.fullmatch(wait.named, reason) for reason in reasons), reasons
    assert job_of(runtime, job.id).waiting_reason is None, "a job that has stopped waits no more"
