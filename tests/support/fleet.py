"""A fleet on this machine: a real broker, a real store, a simulated vendor, and worker processes.

Every child runs with all warnings as errors, Celery's deprecations among them. Let through is only what is
said of connections that nobody closed before the process ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from batcher.domain import JobState
from batcher.store.database import Store
from batcher.store.item_counts import count_items_of
from batcher.store.jobs import Job, get_job, list_jobs
from batcher.store.tables import attempts, leases, ledger_accounts
from tests.support.commands import Outcome, run_command
from tests.support.fast_models import TWO_TIERS
from tests.support.forked import start_server
from tests.support.postgres_server import postgres
from tests.support.redis_server import RedisServer

KEY = "sk-loopback-7d3f0a9b2c4e6f81"
WARNINGS = "error,ignore::ResourceWarning"

TASK = """
from pydantic import BaseModel
from batcher.tasks import Task, scorers

class Answer(BaseModel):
    title: str
    tags: list[str]

task = Task(
    name="cards", version=1, prompt="Make a catalogue card.", output=Answer,
    scorer={"title": scorers.exact}, correct_at=0.5,
    tier="economy", ladder=("economy",), max_output_tokens=200,
)
"""


class Child:
    """A process that a test started, and what it said.

    Args:
        arguments: its command line.
        env: its whole environment.
        folder: where it runs; its output goes to a file there.
        name: of that file.
    """

    def __init__(self, arguments: list[str], env: Mapping[str, str], folder: Path, name: str) -> None:
        self.log_file = folder / f"{name}.log"
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                arguments, env=dict(env), cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    @property
    def log(self) -> str:
        """Everything that it wrote so far."""
        return self.log_file.read_text(errors="replace")

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Those of its lines that are JSON objects."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 30) -> int:
        """Send a signal, wait, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def wait_for(self, text: str, timeout_s: float = 30) -> None:
        """Until it has written this."""
        wait_until(lambda: text in self.log or self.process.poll() is not None, timeout_s, lambda: self.log)
        assert text in self.log, self.log

    def children(self) -> list[int]:
        """The ids of its own children that live."""
        import psutil

        alive = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it may end between the two questions
                if child.status() != psutil.STATUS_ZOMBIE:
                    alive.append(child.pid)
        return alive

    def end(self) -> None:
        """Kill it and all its children."""
        import psutil

        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            for one in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
        self.process.wait()


def wait_until(
    holds: Callable[[], Any], timeout_s: float = 30, explain: Callable[[], object] = lambda: ""
) -> Any:
    """Poll until something is true; returns it. Fails the test if it does not become so in time."""
    ends_at = time.monotonic() + timeout_s
    while not (found := holds()):
        assert time.monotonic() < ends_at, f"still not so after {timeout_s} s\n{explain()}"
        time.sleep(0.02)
    return found


@dataclass
class Fleet:
    """Commands and workers in one folder with one environment.

    Attributes:
        folder: the working folder; the task ``cards`` is in it.
        env: the whole environment of every child.
        started: what runs or ran.
    """

    folder: Path
    env: dict[str, str]
    started: list[Child] = field(default_factory=list)

    @classmethod
    def make(
        cls, root: Path, *, broker_url: str | None, store_url: str, openai_url: str, **env: str
    ) -> Fleet:
        """Lay out a home and a working folder below ``root``."""
        start_server()
        home, folder = root / "home", root / "work"
        home.mkdir(parents=True)
        (folder / "cards").mkdir(parents=True)
        (home / "batcher.toml").write_text(TWO_TIERS)
        (folder / "cards" / "task.py").write_text(TASK)
        given = {
            "PATH": str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"],
            "HOME": str(root),
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            "PYTHONWARNINGS": WARNINGS,
            "BATCHER_HOME": str(home),
            "BATCHER_DATABASE_URL": store_url,
            "BATCHER_LEASE_S": "5",
            "BATCHER_GRACE_S": "20",
            "OPENAI_BASE_URL": openai_url,
            "OPENAI_API_KEY": KEY,
        }
        if broker_url is not None:
            given["BATCHER_BROKER_URL"] = broker_url
        return cls(folder, given | env)

    def batcher(self, *words: str | Path | int, code: int | None = 0, **env: str) -> Outcome:
        """Run a command to its end; fails the test if the exit code is another one (None: any)."""
        outcome = run_command(words, env=self.env | env, folder=self.folder)
        assert code is None or outcome.code == code, outcome
        assert "Traceback" not in outcome.err, outcome.err
        return outcome

    def start(self, *words: str | Path | int, name: str = "", **env: str) -> Child:
        """Start a ``batcher`` command and leave it running."""
        return self.run(self.command(words), name or f"{words[0]}-{len(self.started)}", **env)

    def run(self, arguments: list[str], name: str, **env: str) -> Child:
        """Start any command and leave it running."""
        child = Child(arguments, self.env | env, self.folder, name)
        self.started.append(child)
        return child

    def worker(self, *options: str | int, **env: str) -> Child:
        """``batcher worker``, ready to work."""
        child = self.start("worker", *options, name=f"worker-{len(self.started)}", **env)
        child.wait_for("ready.")
        return child

    def celery_worker(self, *tiers: str, **env: str) -> Child:
        """Plain ``celery -A workers.app worker -Q ...``, ready to work."""
        queues = ",".join(f"batcher.tier.{tier}" for tier in tiers)
        arguments = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-Q", queues]
        name = f"celery-{len(self.started)}"
        child = self.run([*arguments, "-n", f"{name}@%h", "--loglevel", "info"], name, **env)
        child.wait_for("ready.")
        return child

    def documents(self, name: str, count: int) -> Path:
        """Write so many small different documents; returns their folder."""
        target = self.folder / name
        target.mkdir()
        for number in range(1, count + 1):
            text = f"This is document number {number} of {name}, about rivers and bridges."
            (target / f"{number:05}.txt").write_text(text)
        return target

    def status(self, job_id: int) -> Any:
        """``batcher status JOB --json``."""
        return self.batcher("status", job_id, "--json").json

    def table(self, name: str, count: int) -> Path:
        """Write a JSONL table of so many small different documents."""
        file = self.folder / f"{name}.jsonl"
        rows = ({"id": str(n), "text": f"Row {n} of {name}, about rivers and bridges."} for n in range(count))
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return file

    @cached_property
    def store(self) -> Store:
        """The store, to look into."""
        return Store(self.env["BATCHER_DATABASE_URL"])

    def job(self, job_id: int) -> Job:
        """A job as the store has it."""
        with self.store.read() as connection:
            return get_job(connection, job_id)

    def job_of(self, path: str) -> int:
        """The newest job of a path."""
        with self.store.read() as connection:
            return next(job.id for job in list_jobs(connection) if job.paths == (path,))

    def counts(self, job_id: int) -> dict[str, int]:
        """A job's items by status, those that there are."""
        with self.store.read() as connection:
            found = count_items_of(connection, [job_id])[job_id]
        return {status.value: count for status, count in found.items() if count}

    def done(self, job_id: int) -> int:
        """How many of a job's items are done."""
        return self.counts(job_id).get("done", 0)

    def wait_for_state(self, job_id: int, state: JobState, timeout_s: float = 30) -> None:
        """Until a job is in a state."""
        wait_until(
            lambda: self.job(job_id).state is state,
            timeout_s,
            lambda: (self.job(job_id), self.counts(job_id), *(child.log for child in self.started)),
        )

    def nothing_reserved_nor_unknown(self) -> bool:
        """Whether the books hold no reservation, and no attempt whose outcome is not known."""
        with self.store.read() as connection:
            reserved = connection.execute(select(func.sum(ledger_accounts.c.reserved_nusd))).scalar()
            open_attempts = connection.execute(
                select(func.count()).where(attempts.c.state.in_(["sending", "unknown"]))
            ).scalar_one()
            held = connection.execute(select(func.count()).where(leases.c.state == "active")).scalar_one()
        return (reserved or 0, open_attempts, held) == (0, 0, 0)

    def end(self) -> None:
        """Kill what still runs; then fail if a log holds a key, a traceback or one of Celery's warnings."""
        self.store.close()
        for child in self.started:
            child.end()
        for child in self.started:
            assert KEY not in child.log
            assert "DeprecationWarning" not in child.log, child.log
            assert "Unrecoverable error" not in child.log, child.log
            assert "\nTraceback" not in child.log, child.log

    @staticmethod
    def command(words: tuple[str | Path | int, ...]) -> list[str]:
        return [sys.executable, "-m", "batcher", *map(str, words)]


@contextlib.contextmanager
def new_fleet(root: Path, openai_url: str, *, on_postgres: bool = False) -> Iterator[Fleet]:
    """A fleet with a broker and a store of its own and no worker yet; four calls at a time in each."""
    with contextlib.ExitStack() as servers:
        redis = servers.enter_context(RedisServer(root))
        store_url = f"sqlite:///{root / 'store.db'}"
        if on_postgres:
            store_url = servers.enter_context(postgres(root / "pg"))()
        made = Fleet.make(
            root,
            broker_url=redis.url,
            store_url=store_url,
            openai_url=openai_url,
            BATCHER_CONCURRENCY="4",
            BATCHER_CHUNK_ITEMS="4",
        )
        if on_postgres:
            made.batcher("db", "upgrade")
        yield made
        made.end()
