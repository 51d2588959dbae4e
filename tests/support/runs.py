"""Whole runs in a temporary home: a runtime on a loopback vendor, a job, an engine run in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, Field
from sqlalchemy import func, select

from batcher.budget.ledger import Account, Balance
from batcher.documents.corpus import Parsed, Rejected, document_of_text
from batcher.domain import Purpose
from batcher.engine.control import Ending
from batcher.engine.engine import Engine
from batcher.engine.ingestion import ingest
from batcher.quality.sampling import Sampling
from batcher.routing.ladder.policy import LadderPolicy
from batcher.runtime import Runtime
from batcher.settings import load_settings
from batcher.store.jobs import Job, NewJob, create_job, get_job
from batcher.store.ladders import add_ladder
from batcher.store.tables import attempts, items, ledger_accounts, results, sampled_items, samples
from batcher.tasks import Task
from batcher.tasks.golden import Golden
from batcher.tasks.scorers import exact

MODEL = "gpt-4o-mini"
JUDGE = "gpt-4o"
UNLIMITED = (MODEL, JUDGE, "llama-3.3-70b@together", "claude-haiku-4-5", "gpt-4.1-mini")
"""Models whose calls wait for no rate."""


class Verdict(BaseModel):
    """A small answer."""

    label: str = Field(max_length=200)


TASK = Task(
    name="verdict",
    version=1,
    prompt="Say what the document is about.",
    output=Verdict,
    scorer=exact,
    tier="economy",
    max_output_tokens=100,
    long_documents="merge",
)


def make_runtime(home: Path, vendor: Any, **settings: Any) -> Runtime:
    """A runtime whose openai, anthropic and together accounts are the loopback vendor."""
    home.mkdir(parents=True, exist_ok=True)
    env = home / "keys.env"
    env.write_text(
        f"OPENAI_API_KEY=sk-test\nOPENAI_BASE_URL={vendor.openai_url}\n"
        f"ANTHROPIC_API_KEY=sk-test\nANTHROPIC_BASE_URL={vendor.anthropic_url}\n"
        f"TOGETHER_API_KEY=sk-test\nTOGETHER_BASE_URL={vendor.together_url}\n"
    )
    config = home / "batcher.toml"
    config.write_text(
        "".join(f'[models."{name}"]\nrpm = 10000000\ntpm = 10000000000\n' for name in UNLIMITED)
    )
    return Runtime(load_settings(config, home=home, env_file=env, **settings))


def make_job(
    runtime: Runtime,
    texts: Mapping[str, str] | Iterable[Parsed | Rejected],
    *,
    task: Task = TASK,
    model: str | None = MODEL,
    tier: str = "economy",
    ladder: tuple[str, ...] = (),
    refresh: bool = False,
    max_cost_nusd: int | None = None,
    purpose: Purpose = Purpose.ANSWER,
    parent_id: int | None = None,
    sampling: Sampling | None = None,
    golden: Golden | None = None,
    policy: LadderPolicy | None = None,
) -> Job:
    """Store a job with these texts by source, ready to run."""
    spec = task.spec({})
    ladder_id = None
    if policy is not None:
        with runtime.store.write() as connection:
            stored = orjson.dumps(policy.to_json()).decode()
            ladder_id = add_ladder(connection, task.name, spec.fingerprint, stored, "{}", 1.0)
    names = [model] if model else [m.name for rung in (tier, *ladder) for m in runtime.catalog.tier(rung)]
    new = NewJob(
        corpus_key=b"k" * 20,
        task=task.name,
        paths=[],
        source_options="{}",
        spec=spec.to_json(),
        tier=tier,
        pinned_model=model,
        ladder=ladder,
        accepts=names,
        refresh=refresh,
        max_cost_nusd=max_cost_nusd,
        purpose=purpose,
        parent_id=parent_id,
        sampling=None if sampling is None else sampling.to_json(),
        ladder_policy_id=ladder_id,
    )
    with runtime.store.write() as connection:
        job = create_job(connection, new, runtime.store.now(connection))
        runtime.ledger.open_job(connection, job.id, max_cost_nusd)
    corpus = (
        [Parsed(source, document_of_text(text)) for source, text in texts.items()]
        if isinstance(texts, Mapping)
        else texts
    )
    ingest(runtime.store, job, corpus, image_tier=None, golden=golden)
    return job


def run(runtime: Runtime, *job_ids: int, engines: list[Engine] | None = None) -> Ending:
    """Run jobs to their end in this thread."""

    async def main() -> Ending:
        engine = runtime.engine()
        if engines is not None:
            engines.append(engine)
        try:
            return await engine.run(list(job_ids))
        finally:
            await runtime.aclose()

    return asyncio.run(main())


def job_of(runtime: Runtime, job_id: int) -> Job:
    """The job as it now stands."""
    with runtime.store.read() as connection:
        return get_job(connection, job_id)


def rows(runtime: Runtime, table: str) -> list[Any]:
    """All rows of a table, by id."""
    found = {
        "items": items,
        "attempts": attempts,
        "results": results,
        "samples": samples,
        "sampled_items": sampled_items,
    }[table]
    with runtime.store.read() as connection:
        return list(connection.execute(select(found).order_by(*found.primary_key)))


def item_statuses(runtime: Runtime, job_id: int) -> dict[str, int]:
    """How many items of a job stand where."""
    query = select(items.c.status, func.count()).where(items.c.job_id == job_id).group_by(items.c.status)
    with runtime.store.read() as connection:
        return {row[0]: row[1] for row in connection.execute(query)}


def balances(runtime: Runtime) -> list[Balance]:
    """Every account of the ledger."""
    with runtime.store.read() as connection:
        found = [Account(row.scope, row.period) for row in connection.execute(select(ledger_accounts))]
        return runtime.ledger.balances(connection, found)


def bill_nusd(vendor: Any) -> int:
    """What the vendor charges, by its own prices: $0.15 and $0.60 per million tokens: whole nano-dollars."""
    return sum(line.input_tokens * 150 + line.output_tokens * 600 for line in vendor.bill if line.billed)


def spent(runtime: Runtime, scope: str = "day") -> int:
    """Nano-dollars spent on the accounts of a scope."""
    return sum(found.spent_nusd for found in balances(runtime) if found.account.scope == scope)


def reserved(runtime: Runtime) -> int:
    """Nano-dollars that stand reserved anywhere."""
    return sum(found.reserved_nusd for found in balances(runtime))
