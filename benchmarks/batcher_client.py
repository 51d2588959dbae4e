"""batcher as the benchmark runs it: a store of its own, everything on, through one vendor's SDK."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from batcher.documents.corpus import Parsed, document_of_text
from batcher.domain import ItemStatus
from batcher.engine.control import Ending
from batcher.engine.ingestion import ingest
from batcher.money import usd_to_nusd
from batcher.runtime import Runtime
from batcher.settings import ModelSettings, Settings
from batcher.store.jobs import Job, NewJob, create_job
from batcher.store.results import iter_item_results
from batcher.tasks.registry import load_task
from batcher.tasks.spec import TaskSpec

UNREACHED_PER_MINUTE: Final = 60_000_000
"""The limiter is on, with limits that nothing here reaches."""

TASK: Final = "enrichment"
MODEL: Final = "loopback"


def settings_for(folder: Path, path: str, in_flight: int) -> Settings:
    """A store in ``folder``, and one model of the provider ``path`` that does the economy tier's work."""
    model = ModelSettings(
        provider=path,
        id=MODEL,
        input=0.15,
        output=0.60,
        context=128_000,
        practical_context=40_000,
        max_output=16_384,
        abilities=["schema"],
        rpm=UNREACHED_PER_MINUTE,
        tpm=UNREACHED_PER_MINUTE * 10_000,
    )
    return Settings(home=folder, concurrency=in_flight, models={MODEL: model}, tiers={"economy": [MODEL]})


def point_at(base_url: str) -> None:
    """Set the variables that a user sets to move a vendor's SDK elsewhere."""
    for vendor in ("OPENAI", "ANTHROPIC", "TOGETHER"):
        os.environ[f"{vendor}_BASE_URL"] = f"{base_url}/v1"
        os.environ[f"{vendor}_API_KEY"] = "loopback"


def new_job(runtime: Runtime, spec: TaskSpec) -> Job:
    """A job of the benchmark's task that takes in documents."""
    new = NewJob(
        corpus_key=os.urandom(20),
        task=spec.name,
        paths=["-"],
        source_options="{}",
        spec=spec.to_json(),
        tier=spec.tier,
        pinned_model=None,
        ladder=[spec.tier],
        accepts=[MODEL],
        refresh=False,
        max_cost_nusd=None,
    )
    with runtime.store.write() as connection:
        job = create_job(connection, new, runtime.store.now(connection))
        runtime.ledger.open_job(connection, job.id, new.max_cost_nusd)
    return job


class BatcherClient:
    """One runtime on one event loop; its jobs run one after the other.

    Args:
        folder: an empty folder for the store.
        path: ``openai``, ``anthropic`` or ``together``.
        base_url: the vendor's, without ``/v1``.
        in_flight: calls at once.
    """

    def __init__(self, folder: Path, path: str, base_url: str, in_flight: int) -> None:
        point_at(base_url)
        self._runtime = Runtime(settings_for(folder, path, in_flight))
        self._spec = load_task(TASK).spec()
        with self._runtime.store.write() as connection:
            self._runtime.ledger.set_daily_cap(connection, usd_to_nusd(1_000_000))

    def submit(self, texts: Iterable[str]) -> Job:
        """Store texts as a job that is ready to run."""
        job = new_job(self._runtime, self._spec)
        corpus = (Parsed(f"-#{row}", document_of_text(text)) for row, text in enumerate(texts))
        ingest(self._runtime.store, job, corpus, image_tier=None)
        return job

    async def run(self, job: Job) -> None:
        """Run a job to its end."""
        ending = await self._runtime.engine().run([job.id])
        if ending is not Ending.IDLE:
            raise RuntimeError(f"the job ended as {ending}")

    def check(self, job: Job, count: int) -> None:
        """Make sure that every item has its answer and was paid for once."""
        with self._runtime.store.read() as connection:
            lines = list(iter_item_results(connection, job.id, list(ItemStatus)))
        answered = sum(line.status is ItemStatus.DONE and line.attempts == 1 for line in lines)
        if answered != count or len(lines) != count:
            raise RuntimeError(f"{answered} of {count} documents were answered, by one call each")

    async def close(self) -> None:
        """Close the SDK's connections and the store."""
        await self._runtime.aclose()
        self._runtime.store.close()
