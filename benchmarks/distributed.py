"""Many workers on a store of a million items: what a document costs them, and what a large store costs.

    python benchmarks/distributed.py
    python benchmarks/distributed.py --folder /var/tmp/million     # kept: the next run finds the million there
    python benchmarks/distributed.py --curator

PostgreSQL, Redis, a vendor on loopback that answers in 50 ms, and `batcher worker`, all on this machine. A
bounded number of the million documents is answered, by one process and by four in turn. The exit code is 1
if a bar is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import psutil
import redis
from cluster import CHUNK_ITEMS, CONCURRENCY, Cluster, cluster, wait_for
from distributed_store import (
    Ingestion,
    StatusTime,
    answer_everything,
    database_bytes,
    ingest,
    lease_times,
    newest_job,
    settle_down,
    spread,
    status_time,
    totals,
)
from loopback_server import INPUT_TOKENS, OUTPUT_TOKENS
from scale import TEXT_CHARACTERS
from sqlalchemy import select, text
from throughput import CURATOR, Benchmark, curator_python

from batcher.budget.ledger import job_account
from batcher.runtime import Runtime
from batcher.store.jobs import count_items
from batcher.domain import ItemStatus

LATENCY_S: Final = 0.05
FEW_ITEMS: Final = 1_000
MANY_JOBS: Final = 100

MOST_LEASE_TIME: Final = 2.0
MOST_STATUS_S: Final = 0.5
MOST_CPU_OF_MORE_WORKERS: Final = 1.1
MOST_RSS_GROWTH: Final = 1.1
MOST_OF_CURATORS_CPU: Final = 1.0

_WARM_UP_DOCS: Final = 2_000
"""Per process, before the clock starts: imports, connections, prepared statements, memory."""

_LOOK_EVERY_S: Final = 0.1
_LONGEST_S: Final = 1_800.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What the counters say at one moment. CPU in seconds, memory in MB, of all processes of a kind together."""

    at: float
    docs: int
    worker_cpu_s: float
    database_cpu_s: float
    rss_mb: float
    commits: int
    wal_bytes: int
    leases: int
    redis_commands: int


@dataclass(frozen=True, slots=True)
class Run:
    """Worker processes from their warm-up to their last document: three readings."""

    processes: int
    start: Reading
    middle: Reading
    end: Reading

    def per_doc(self, name: str) -> float:
        """What a document took of a counter."""
        return float(getattr(self.end, name) - getattr(self.start, name)) / self.docs

    @property
    def docs(self) -> int:
        """Documents between the first reading and the last."""
        return self.end.docs - self.start.docs

    @property
    def wall_s(self) -> float:
        """Seconds between them."""
        return self.end.at - self.start.at

    @property
    def rss_growth(self) -> float:
        """Memory at the end, as a multiple of that at the start."""
        return self.end.rss_mb / self.start.rss_mb


class Meter:
    """Reads all counters.

    Args:
        servers: what runs.
        name: the database.
        job_id: whose documents are counted.
        workers: the worker processes.
    """

    def __init__(self, servers: Cluster, name: str, job_id: int, workers: Sequence[psutil.Process]) -> None:
        self._runtime = servers.runtime(name)
        self._redis = redis.Redis.from_url(servers.redis_url)
        self._account = job_account(job_id)
        self._workers = workers
        model = self._runtime.catalog.models["loopback"].prices
        micro_nusd = INPUT_TOKENS * model.input_nusd + OUTPUT_TOKENS * model.output_nusd
        self._doc_nusd = micro_nusd // 1_000_000
        with self._runtime.store.read() as connection:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        backend = psutil.Process(pid).parent()
        assert backend is not None
        self._postmaster = backend

    def docs(self) -> int:
        """Documents answered so far, by what the ledger has booked: each costs the same."""
        with self._runtime.store.read() as connection:
            [balance] = self._runtime.ledger.balances(connection, [self._account])
        return balance.spent_nusd // self._doc_nusd

    def read(self) -> Reading:
        """All of them, now."""
        with self._runtime.store.read() as connection:
            done = totals(connection)
        return Reading(
            at=time.monotonic(),
            docs=self.docs(),
            worker_cpu_s=sum(_cpu_s(process) for process in self._workers),
            database_cpu_s=_cpu_s(self._postmaster) + sum(map(_cpu_s, self._postmaster.children())),
            rss_mb=sum(process.memory_info().rss for process in self._workers) / 1e6,
            redis_commands=int(self._redis.info("stats")["total_commands_processed"]),
            **done,
        )

    def wait_until(self, docs: int) -> Reading:
        """The counters as soon as so many documents are answered."""
        wait_for(lambda: self.docs() >= docs, f"{docs} documents were not answered", _LONGEST_S)
        return self.read()


def _cpu_s(process: psutil.Process) -> float:
    """User and system time, that of children that have ended included."""
    try:
        return sum(process.cpu_times()[:4])
    except psutil.NoSuchProcess:
        return 0.0


def run_workers(servers: Cluster, name: str, job_id: int, processes: int, docs: int) -> Run:
    """Let so many processes answer so many documents of a job, after a warm-up."""
    with servers.workers(name, processes) as workers:
        meter = Meter(servers, name, job_id, workers)
        before = meter.docs()
        start = meter.wait_until(before + min(docs, _WARM_UP_DOCS) * processes)
        middle = meter.wait_until(start.docs + docs // 2)
        end = meter.wait_until(start.docs + docs)
    check(servers.runtime(name), job_id, meter.docs())
    return Run(processes, start, middle, end)


def check(runtime: Runtime, job_id: int, paid: int) -> None:
    """After an orderly stop nothing is leased, and every answer was paid for once."""
    with runtime.store.read() as connection:
        counts = count_items(connection, job_id)
    if counts[ItemStatus.LEASED] or counts[ItemStatus.DONE] != paid:
        raise SystemExit(f"{paid} calls were paid for, and the items are {counts}")
