"""A learned ladder climbed by batcher itself: a job on recorded answers, its store, ledger and limiter."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import orjson
from pydantic import BaseModel

from batcher.budget.ledger import job_account
from batcher.documents.corpus import Parsed, document_of_text
from batcher.domain import ItemStatus
from batcher.engine.ingestion import ingest
from batcher.money import usd_to_nusd
from batcher.routing.ladder.policy import LadderPolicy
from batcher.routing.ladder.records import GoldenRow
from batcher.runtime import Runtime
from batcher.settings import load_settings
from batcher.store.jobs import Job, NewJob, create_job
from batcher.store.ladders import add_ladder
from batcher.store.results import iter_item_results
from batcher.tasks import Task
from batcher.tasks.scorers import exact
from benchmarks.routing_http import RecordedVendor

_TIER: Final = "recorded"


class Answer(BaseModel):
    """What a recorded answer is wrapped in, so that it has a schema."""

    answer: str


@dataclass(frozen=True)
class EngineRun:
    """What a job came to: whether each document was answered rightly, in order, and the ledger's spend."""

    correct: list[bool]
    spent_nusd: int


def wrapped(rows: Sequence[GoldenRow]) -> list[GoldenRow]:
    """The same rows with answers of the job's schema, and models that are none of the catalogue's."""
    return [
        replace(
            row,
            gold=None if row.gold is None else _wrapped(row.gold),
            answers={
                f"{name}@recorded": replace(one, answer=_wrapped(one.answer))
                for name, one in row.answers.items()
            },
        )
        for row in rows
    ]


def _wrapped(answer: str) -> str:
    return orjson.dumps({"answer": answer}).decode()


def climb(policy: LadderPolicy, rows: Sequence[GoldenRow], latency_scale: float) -> EngineRun:
    """Put documents through the ladder in one job, against a loopback vendor that serves what was recorded.

    Args:
        policy: learned from ``wrapped`` rows.
        rows: of the same kind.
        latency_scale: of the recorded latencies.
    """
    vendor = RecordedVendor(rows, latency_scale)
    with _served(vendor) as url, tempfile.TemporaryDirectory() as folder:
        runtime = _runtime(Path(folder), url, vendor)
        job = _job(runtime, policy, rows)
        asyncio.run(_run(runtime, job))
        with runtime.store.read() as connection:
            done = {
                found.source: found.model
                for found in iter_item_results(connection, job.id, [ItemStatus.DONE])
            }
            [balance] = runtime.ledger.balances(connection, [job_account(job.id)])
        runtime.store.close()
    right = [row.answers[done[row.id] or ""].correct if row.id in done else False for row in rows]
    return EngineRun(right, balance.spent_nusd)


async def _run(runtime: Runtime, job: Job) -> None:
    try:
        await runtime.engine().run([job.id])
    finally:
        await runtime.aclose()


@contextmanager
def _served(vendor: RecordedVendor) -> Iterator[str]:
    """The vendor on a loop of its own; its base URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner, url = asyncio.run_coroutine_threadsafe(vendor.start(), loop).result(10)
    try:
        yield url
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def _runtime(folder: Path, url: str, vendor: RecordedVendor) -> Runtime:
    models = "".join(
        f'[models."{name}"]\nprovider = "recorded"\nid = "{name}"\ninput = {price_nusd / 1e9:.9f}\n'
        'output = 0.0\ncontext = 1000000\nmax_output = 8000\nabilities = ["schema", "logprobs"]\n'
        "rpm = 10000000\ntpm = 100000000000\n\n"
        for name, price_nusd in vendor.price_nusd.items()
    )
    names = ", ".join(f'"{name}"' for name in vendor.price_nusd)
    (folder / "keys.env").write_text("RECORDED_API_KEY=sk-recorded\n")
    (folder / "batcher.toml").write_text(
        f'[providers.recorded]\nbase_url = "{url}"\napi_key_env = "RECORDED_API_KEY"\n\n'
        f"[tiers]\n{_TIER} = [{names}]\n\n{models}"
    )
    runtime = Runtime(
        load_settings(folder / "batcher.toml", home=folder / "home", env_file=folder / "keys.env")
    )
    with runtime.store.write() as connection:
        runtime.ledger.lock(connection)
        runtime.ledger.set_daily_cap(connection, usd_to_nusd("100000"))
    return runtime


def _job(runtime: Runtime, policy: LadderPolicy, rows: Sequence[GoldenRow]) -> Job:
    task = Task(
        name="recorded", version=1, prompt="Answer.", output=Answer, scorer=exact, tier=_TIER,
        max_output_tokens=1000,
    )  # fmt: skip
    spec = task.spec({})
    with runtime.store.write() as connection:
        now = runtime.store.now(connection)
        stored = orjson.dumps(policy.to_json()).decode()
        ladder_id = add_ladder(connection, task.name, spec.fingerprint, stored, "{}", now)
        new = NewJob(
            corpus_key=b"r" * 20, task=task.name, paths=(), source_options="{}", spec=spec.to_json(),
            tier=_TIER, pinned_model=None, ladder=(_TIER,),
            accepts=[step.model for step in policy.steps], refresh=False, max_cost_nusd=None,
            ladder_policy_id=ladder_id,
        )  # fmt: skip
        job = create_job(connection, new, now)
        runtime.ledger.open_job(connection, job.id, None)
    ingest(runtime.store, job, [Parsed(row.id, document_of_text(row.text)) for row in rows], image_tier=None)
    return job
