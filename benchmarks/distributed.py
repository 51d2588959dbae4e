"""Many workers on a store of a million items: what a document costs them, and what a large store costs.

    python benchmarks/distributed.py
    python benchmarks/distributed.py --folder /var/tmp/million    # kept: the million is there the next time
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
from typing import Final

import psutil
import redis
from cluster import CHUNK_ITEMS, CONCURRENCY, Cluster, cluster, wait_for
from distributed_store import (
    Ingestion,
    StatusTime,
    answer_by_hand,
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
from sqlalchemy import text
from throughput import CURATOR, Benchmark, curator_python

from batcher.budget.ledger import job_account
from batcher.domain import ItemStatus
from batcher.engine.reclaiming import reclaim_lost
from batcher.runtime import Runtime
from batcher.store.item_counts import count_items

LATENCY_S: Final = 0.05
BIG: Final = "big"
SMALL: Final = "small"
COPY: Final = "copy"
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
    """What the counters say at one moment: seconds of CPU and MB of all processes of a kind together."""

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
    runtime = servers.runtime(name)
    reclaim_lost(runtime.store, runtime.ledger)
    done_before = done_items(runtime, job_id)
    with servers.workers(name, processes) as workers:
        meter = Meter(servers, name, job_id, workers)
        before = meter.docs()
        start = meter.wait_until(before + min(docs, _WARM_UP_DOCS) * processes)
        middle = meter.wait_until(start.docs + docs // 2)
        end = meter.wait_until(start.docs + docs)
    paid, done = meter.docs() - before, done_items(runtime, job_id) - done_before
    if paid != done:
        raise SystemExit(f"{paid} calls were paid for and {done} items done")
    return Run(processes, start, middle, end)


def done_items(runtime: Runtime, job_id: int) -> int:
    """How many items are done. After an orderly stop nothing may be leased."""
    with runtime.store.read() as connection:
        counts = count_items(connection, job_id)
    if counts[ItemStatus.LEASED]:
        raise SystemExit(f"{counts[ItemStatus.LEASED]} items are leased, and nobody works")
    return counts[ItemStatus.DONE]


def run_rounds(
    servers: Cluster, job_id: int, processes: Sequence[int], rounds: int, docs: int
) -> dict[int, list[Run]]:
    """Run every number of processes in every round, in orders that alternate."""
    found: dict[int, list[Run]] = {count: [] for count in processes}
    for number in range(rounds):
        for count in processes if number % 2 == 0 else reversed(processes):
            found[count].append(run_workers(servers, BIG, job_id, count, docs))
            print_run(found[count][-1])
    return found


def print_run(run: Run) -> None:
    """One line of the table of runs."""
    print(
        f"{run.processes:>9}{run.docs:>9,}{run.docs / run.wall_s:>9,.0f}"
        f"{run.per_doc('worker_cpu_s') * 1000:>11.3f}{run.per_doc('database_cpu_s') * 1000:>11.3f}"
        f"{run.per_doc('commits'):>9.3f}{run.per_doc('leases'):>9.4f}{run.per_doc('wal_bytes'):>9,.0f}"
        f"{run.per_doc('redis_commands'):>8.2f}  {run.start.rss_mb / run.processes:.0f},"
        f" {run.middle.rss_mb / run.processes:.0f}, {run.end.rss_mb / run.processes:.0f}",
        flush=True,
    )


_RUNS_HEADER: Final = (
    f"\n{'processes':>9}{'docs':>9}{'docs/s':>9}{'CPU ms/doc':>11}{'DB ms/doc':>11}{'commits':>9}"
    f"{'leases':>9}{'WAL B':>9}{'Redis':>8}  RSS MB per process at start, middle, end"
)


def cpu_ms(runs: Iterable[Run]) -> float:
    """Median CPU of the workers per document, ms."""
    return median(run.per_doc("worker_cpu_s") * 1000 for run in runs)


@dataclass
class Bars:
    """What was promised, and whether it is kept."""

    missed: int = 0

    def hold(self, what: str, value: float, most: float, digits: int = 2) -> None:
        """Say how a figure compares with the most that it may be."""
        met = value <= most
        self.missed += not met
        print(f"{'met   ' if met else 'MISSED'}  {what}: {value:.{digits}f}, at most {most:g}", flush=True)


def take_in(servers: Cluster, name: str, count: int) -> tuple[int, Ingestion | None]:
    """The job of a database, which is filled if it is empty: its id, and what filling it took."""
    runtime = servers.runtime(name)
    known = newest_job(runtime)
    if known is not None:
        return known, None
    intake = ingest(servers, name, count)
    job_id = newest_job(runtime)
    assert job_id is not None
    return job_id, intake


def print_sizes(runtime: Runtime, items: int, answered: int) -> None:
    """Bytes of database for an item, and for one that is answered."""
    sizes = database_bytes(runtime)
    waiting = (sizes["documents"] + sizes["items"]) / items
    answer = (sizes["attempts"] + sizes["results"]) / max(answered, 1)
    shown = ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in sizes.items())
    print(f"bytes per item: {waiting:,.0f} of document and item, {answer:,.0f} more once answered ({shown})")


def curator_cpu_ms(servers: Cluster, arguments: argparse.Namespace) -> float | None:
    """CPU of curator per document, ms, on the same server and documents of the same size."""
    if not arguments.curator or (python := curator_python(arguments.cache)) is None:
        return None
    sizes = argparse.Namespace(docs=arguments.docs, size=TEXT_CHARACTERS, rounds=1)
    [figures] = Benchmark(sizes, servers.vendor_url, python).run([CURATOR], CONCURRENCY).values()
    return figures.cpu_ms


def show_status(what: str, found: StatusTime, bars: Bars) -> None:
    """Hold the time of ``batcher status`` against its bar."""
    print(f"status, {what}: {found.command_s:.2f} s, of which {found.query_s:.3f} s of reading the store")
    bars.hold(f"seconds of batcher status, {what}", found.command_s, MOST_STATUS_S)


def show_leases(what: str, servers: Cluster, bars: Bars, name: str = BIG, jobs: int = 1) -> None:
    """Hold the time of a lease in the large store against that in the small one."""
    few_s, many_s = lease_times([servers.runtime(SMALL), servers.runtime(name)], warm_up=jobs)
    times = f"{many_s * 1000:.1f} ms, {few_s * 1000:.1f} ms at {FEW_ITEMS:,} items"
    print(f"a lease of {CHUNK_ITEMS}, {what}: {times}")
    bars.hold(f"lease time, {what}, beside that at {FEW_ITEMS:,}", many_s / few_s, MOST_LEASE_TIME)


def measure(servers: Cluster, arguments: argparse.Namespace) -> Bars:
    """Everything, in the order in which a job lives."""
    bars, count = Bars(), arguments.items
    take_in(servers, SMALL, FEW_ITEMS)
    job_id, intake = take_in(servers, BIG, count)
    runtime = servers.runtime(BIG)
    if intake is not None:
        print(
            f"taken in: {intake.docs:,} documents in {intake.wall_s:.0f} s,"
            f" {intake.cpu_s / intake.docs * 1000:.3f} CPU ms/doc, {intake.rss_mb:.0f} MB at the peak"
        )
    show_status("nothing done", status_time(servers, BIG, job_id), bars)
    show_leases("one job", servers, bars)
    print(_RUNS_HEADER)
    processes = [int(number) for number in arguments.workers.split(",")]
    runs = run_rounds(servers, job_id, processes, arguments.rounds, arguments.docs)
    judge_runs(runs, intake, curator_cpu_ms(servers, arguments), bars)
    answered = done_items(runtime, job_id)
    print_sizes(runtime, count, answered)
    show_status(f"{answered:,} done", status_time(servers, BIG, job_id), bars)
    show_leases("after these runs", servers, bars)
    servers.copy(BIG, COPY)
    each = max(1, min(CHUNK_ITEMS, count // (2 * MANY_JOBS)))
    spread(servers.runtime(COPY), job_id, MANY_JOBS - 1, each)
    show_leases(f"{MANY_JOBS} jobs", servers, bars, COPY, MANY_JOBS)
    for what, more in (("half of it done", count // 2 - answered), ("all done", count)):
        answer_by_hand(servers.runtime(COPY), job_id, max(0, more))
        settle_down(servers.runtime(COPY))
        show_status(what, status_time(servers, COPY, job_id), bars)
    servers.drop(COPY)
    return bars


def judge_runs(
    runs: dict[int, list[Run]], intake: Ingestion | None, curator_ms: float | None, bars: Bars
) -> None:
    """Hold the workers' CPU and memory against the bars."""
    fewest, most = min(runs), max(runs)
    if most > fewest:
        what = f"CPU per document of {most} processes beside {fewest}"
        bars.hold(what, cpu_ms(runs[most]) / cpu_ms(runs[fewest]), MOST_CPU_OF_MORE_WORKERS)
    growth = max(run.rss_growth for some in runs.values() for run in some)
    bars.hold("memory of workers at the end beside the start", growth, MOST_RSS_GROWTH)
    if curator_ms is None:
        print("not measured: the bar beside curator (run with --curator)")
        return
    producer_ms = 0.0 if intake is None else intake.cpu_s / intake.docs * 1000
    own_ms = max(cpu_ms(some) for some in runs.values()) + producer_ms
    print(f"curator: {curator_ms:.3f} CPU ms/doc; batcher, worker and producer: {own_ms:.3f}")
    bars.hold(
        "CPU per document, worker and producer, beside curator's", own_ms / curator_ms, MOST_OF_CURATORS_CPU
    )


def main() -> int:
    """Run the benchmark; 0 if every bar is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000, help="in the large store")
    parser.add_argument("--docs", type=int, default=20_000, help="answered per run")
    parser.add_argument("--workers", default="1,4", help="numbers of processes")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the servers keep their files; left there")
    parser.add_argument("--curator", action="store_true", help="measure curator too; installs it once")
    cache = Path.home() / ".cache" / "batcher-benchmarks"
    parser.add_argument("--cache", type=Path, default=cache, help="where curator's environment is kept")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="batcher-distributed-") as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        with cluster(folder, LATENCY_S) as servers:
            bars = measure(servers, arguments)
    return 1 if bars.missed else 0


if __name__ == "__main__":
    sys.exit(main())
