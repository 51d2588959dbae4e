"""A job against the simulator with its fault script on.

As a program it runs a job as ``batcher resume`` would, to be killed: ``fault_run.py HOME JOB``.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, Field
from sqlalchemy import select

from batcher.budget.ledger import Account
from batcher.documents.corpus import Parsed, document_of_text
from batcher.domain import JobState
from batcher.engine.control import Ending
from batcher.engine.ingestion import ingest
from batcher.runtime import Runtime
from batcher.settings import load_settings
from batcher.store.jobs import Job, NewJob, create_job, get_job, set_state
from batcher.store.tables import attempts, items, ledger_accounts, results
from batcher.tasks import Task
from batcher.tasks.scorers import exact

try:  # as a script's neighbour, or from the project's root
    from fault_books import CALL_TIMEOUT_S, CONCURRENCY, Books
except ModuleNotFoundError:
    from benchmarks.fault_books import CALL_TIMEOUT_S, CONCURRENCY, Books

PATHS: Final = {
    "openai": ("gpt-4o-mini", "/v1"),
    "anthropic": ("claude-haiku-4-5", ""),
    "together": ("llama-3.3-70b@together", "/together/v1"),
}
"""The model that does the work over each SDK, and where the simulator answers it."""

FAULTS: Final = (
    *("rate_limited", "ramp_limit", "overloaded", "transient", "unknown_outcome", "account"),
    *("bad_request", "too_long", "truncated", "invalid_output", "refused", "unknown_finish"),
)
"""Everything that the simulator can do wrong, one share of the calls each."""

WORDS: Final = ("the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "goes", "home")


class Verdict(BaseModel):
    """A small answer."""

    label: str = Field(max_length=200)
    score: float


TASK: Final = Task(
    name="verdict",
    version=1,
    prompt="Say what the document is about.",
    output=Verdict,
    scorer=exact,
    tier="economy",
    max_output_tokens=100,
    long_documents="merge",
)


def fault_script(share: float, wait_s: float, kinds: Sequence[str] = FAULTS) -> list[dict[str, Any]]:
    """Faults that together hit ``share`` of the calls, all of them equally often.

    Args:
        share: between 0 and 1.
        wait_s: how long a rate limit or a provider without capacity asks to wait.
        kinds: what goes wrong.
    """
    each = share / len(kinds)
    script = []
    for place, kind in enumerate(kinds):
        fault: dict[str, Any] = {"kind": kind, "rate": each / (1 - place * each), "retry_after_s": wait_s}
        if kind == "overloaded":
            fault["headers"] = {"retry-after-ms": f"{wait_s * 1000:.0f}"}
        script.append(fault)
    return script


def texts(count: int, seed: int = 0) -> dict[str, str]:
    """Documents by source, long enough to be cut into parts if a model says that they are too long."""
    chance = random.Random(seed)
    return {
        f"d{number}": f"document {number}: " + " ".join(chance.choices(WORDS, k=400))
        for number in range(count)
    }


class Vendor:
    """A running simulator, over its control endpoints."""

    def __init__(self, root_url: str) -> None:
        self.root_url = root_url

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One control request."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.root_url + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read())

    def bill(self) -> list[dict[str, Any]]:
        """Every request that it received, in order of arrival."""
        lines: list[dict[str, Any]] = []
        after: int | None = 0
        while after is not None:
            page = self.ask("GET", f"/_bill?after={after}")
            lines += page["calls"]
            after = page["next"]
        return lines

    def has_received(self, count: int) -> bool:
        """Whether so many requests have arrived, or do so within half a second."""
        try:
            self.ask("GET", f"/_wait?calls={count}&timeout_s=0.5")
        except urllib.error.HTTPError:
            return False
        return True


class FaultRun:
    """One job on one vendor's path.

    Args:
        home: an empty folder.
        vendor: the simulator.
        path: a key of ``PATHS``.
        wait_s: how long the simulator asks to wait.
    """

    def __init__(self, home: Path, vendor: Vendor, path: str, wait_s: float) -> None:
        self.home, self.vendor, self.wait_s = home, vendor, wait_s
        self.model, place = PATHS[path]
        write_home(
            home,
            path,
            vendor.root_url + place,
            f"concurrency = {CONCURRENCY}\nchunk_items = 16\ncall_timeout_s = {CALL_TIMEOUT_S}\nlease_s = 5\n"
            f'[models."{self.model}"]\nrpm = 10000000\ntpm = 10000000000\n',
        )
        self.resumed = 0
        self.killed = 0

    @cached_property
    def runtime(self) -> Runtime:
        """What reads the books; every run has a runtime of its own."""
        return open_runtime(self.home)

    def submit(self, corpus: dict[str, str]) -> Job:
        """Store texts as a job that is ready to run."""
        return submit(self.runtime, self.model, corpus)

    def run(self, job_id: int, limit: int = 2_000) -> None:
        """Run the job until it is done, setting it going again whenever an account fault has paused it."""
        for _ in range(limit):
            run_once(open_runtime(self.home), job_id)
            if not set_going(self.runtime, job_id):
                return
            self.resumed += 1
        raise RuntimeError(f"the job is not done after {limit} runs")

    def kill_in_between(self, job_id: int, after_calls: int) -> None:
        """Run the job in a process of its own, and kill that so many calls later."""
        goal = self.vendor.ask("GET", "/_totals")["calls"] + after_calls
        command = [sys.executable, str(Path(__file__)), str(self.home), str(job_id)]
        child = subprocess.Popen(command, start_new_session=True)
        while not self.vendor.has_received(goal):
            if child.poll() is None:
                continue
            if not set_going(self.runtime, job_id):
                raise RuntimeError("the job ended before there was a worker to kill")
            self.resumed += 1
            child = subprocess.Popen(command, start_new_session=True)
        child.send_signal(signal.SIGKILL)
        child.wait()
        self.killed += 1

    def retry(self, job_id: int, failure: str) -> int:
        """``batcher retry --class``; returns its exit code."""
        environment = os.environ | {
            "BATCHER_HOME": str(self.home),
            "BATCHER_CONFIG": str(self.home / "batcher.toml"),
            "BATCHER_ENV_FILE": str(self.home / "keys.env"),
        }
        command = [sys.executable, "-m", "batcher", "retry", str(job_id), "--class", failure]
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode

    def books(self, job_id: int) -> Books:
        """Everything that can be held against each other."""
        runtime = self.runtime
        with runtime.store.read() as connection:
            accounts = [Account(row.scope, row.period) for row in connection.execute(select(ledger_accounts))]
            return Books(
                job=get_job(connection, job_id),
                items=list(connection.execute(select(items).order_by(items.c.id))),
                attempts=list(
                    connection.execute(select(attempts).order_by(attempts.c.sent_at, attempts.c.id))
                ),
                result_ids=set(connection.execute(select(results.c.id)).scalars()),
                balances=runtime.ledger.balances(connection, accounts),
                bill=self.vendor.bill(),
                killed=self.killed,
                wait_s=self.wait_s,
            )


def write_home(home: Path, provider: str, base_url: str, toml: str) -> None:
    """A folder with a key, an address and settings, as a user has them."""
    home.mkdir(parents=True, exist_ok=True)
    name = provider.upper()
    (home / "keys.env").write_text(f"{name}_API_KEY=sk-simulated\n{name}_BASE_URL={base_url}\n")
    (home / "batcher.toml").write_text(toml)


def submit(runtime: Runtime, model: str, corpus: dict[str, str], daily_cap_nusd: int = 10**15) -> Job:
    """Store texts as a job that is ready to run on one model."""
    new = NewJob(
        corpus_key=os.urandom(20),
        task=TASK.name,
        paths=[],
        source_options="{}",
        spec=TASK.spec({}).to_json(),
        tier="economy",
        pinned_model=model,
        ladder=("economy",),
        accepts=[model],
        refresh=False,
        max_cost_nusd=None,
    )
    with runtime.store.write() as connection:
        job = create_job(connection, new, runtime.store.now(connection))
        runtime.ledger.open_job(connection, job.id, None)
        runtime.ledger.set_daily_cap(connection, daily_cap_nusd)
    parsed = (Parsed(source, document_of_text(text)) for source, text in corpus.items())
    ingest(runtime.store, job, parsed, image_tier=None)
    return job


def open_runtime(home: Path) -> Runtime:
    """A runtime on the home's store."""
    return Runtime(load_settings(home / "batcher.toml", home=home, env_file=home / "keys.env"))


def run_once(runtime: Runtime, job_id: int) -> Ending:
    """One run of an engine, in this thread."""

    async def main() -> Ending:
        try:
            return await runtime.engine().run([job_id])
        finally:
            await runtime.aclose()

    try:
        return asyncio.run(main())
    finally:
        runtime.store.close()


def set_going(runtime: Runtime, job_id: int) -> bool:
    """Whether the job was paused, and runs again."""
    with runtime.store.write() as connection:
        paused = get_job(connection, job_id).state is JobState.PAUSED
        if paused:
            set_state(connection, job_id, JobState.RUNNING, runtime.store.now(connection))
    return paused


if __name__ == "__main__":
    run_once(open_runtime(Path(sys.argv[1])), int(sys.argv[2]))
