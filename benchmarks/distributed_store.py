"""What a large store costs: taking documents in, leases, the state of a job, bytes per item."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from batcher_client import MODEL, TASK
from cluster import CHUNK_ITEMS, Cluster
from scale import write_corpus
from sqlalchemy import Connection, func, select, text

from batcher.cli.job_view import read_job_view
from batcher.domain import JobState
from batcher.engine.lane import LaneFactory
from batcher.engine.leasing import Chunk, Leaser
from batcher.engine.reclaiming import reclaim_lost
from batcher.money import usd_to_nusd
from batcher.runtime import Runtime
from batcher.store.item_counts import add_to_total
from batcher.store.jobs import NewJob, create_job, set_state
from batcher.store.tables import items, jobs
from batcher.tasks.registry import load_task

LEASES_TIMED: Final = 30
STATUS_TIMED: Final = 5


@dataclass(frozen=True, slots=True)
class Ingestion:
    """What the process that reads a corpus took; ``rss_mb`` at its peak."""

    docs: int
    wall_s: float
    cpu_s: float
    rss_mb: float


def open_job(runtime: Runtime, corpus: Path) -> int:
    """A job in state ``ingesting`` on a JSONL file, as ``submit --detach`` leaves it; its id."""
    spec = load_task(TASK).spec()
    new = NewJob(
        corpus_key=os.urandom(20),
        task=spec.name,
        paths=[str(corpus)],
        source_options='{"folder": "/"}',
        spec=spec.to_json(),
        tier="economy",
        pinned_model=None,
        ladder=["economy"],
        accepts=[MODEL],
        refresh=False,
        max_cost_nusd=None,
    )
    with runtime.store.write() as connection:
        job = create_job(connection, new, runtime.store.now(connection))
        runtime.ledger.open_job(connection, job.id, None)
        runtime.ledger.set_daily_cap(connection, usd_to_nusd(1_000_000))
    return job.id


def ingest(cluster: Cluster, name: str, count: int) -> Ingestion:
    """Take so many documents of 1 KB into a new job, by the process that ``submit --detach`` starts."""
    corpus = cluster.folder / f"corpus-{name}.jsonl"
    write_corpus(corpus, count)
    job_id = open_job(cluster.runtime(name), corpus)
    started = time.perf_counter()
    child = cluster.command(name, "ingest", str(job_id))
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.perf_counter() - started
    corpus.unlink()
    if child.returncode != 0:
        raise SystemExit(f"The ingestion ended with {child.returncode}; see {cluster.home(name) / 'log'}")
    return Ingestion(count, wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000)


def lease_times(runtimes: Sequence[Runtime], warm_up: int) -> list[float]:
    """Median seconds of a lease of 64 items in each of these stores, taken in turns.

    Each time the items are given back, so that as many wait for the next one.

    Args:
        runtimes: of the stores.
        warm_up: leases before the clock starts: a process reads each job once.
    """
    leasers = [(runtime, _leaser(runtime)) for runtime in runtimes]
    taken: list[list[float]] = [[] for _ in runtimes]
    for _ in range(warm_up + LEASES_TIMED):
        for (runtime, leaser), own in zip(leasers, taken, strict=True):
            started = time.perf_counter()
            chunk = leaser.lease(CHUNK_ITEMS, None, ["economy"])
            own.append(time.perf_counter() - started)
            if not isinstance(chunk, Chunk):
                raise SystemExit("there was nothing to lease")
            reclaim_lost(runtime.store, runtime.ledger)
    return [median(own[warm_up:]) for own in taken]


def _leaser(runtime: Runtime) -> Leaser:
    """One whose leases expire at once."""
    lanes = LaneFactory(
        runtime.catalog,
        runtime.provider,
        runtime.account,
        runtime.is_usable,
        runtime.find_task,
        timeout_s=1,
    )
    return Leaser(runtime.store, runtime.ledger, lanes, lease_s=0)


def spread(runtime: Runtime, job_id: int, count: int, each: int) -> None:
    """Give other jobs a part of a job's pending items: so many of them, so many items each."""
    for _ in range(count):
        other = open_job(runtime, Path("/dev/null"))
        with runtime.store.write() as connection:
            some = select(items.c.id).where(items.c.job_id == job_id, items.c.status == "pending").limit(each)
            moved = connection.execute(
                items.update().where(items.c.id.in_(some)).values(job_id=other)
            ).rowcount
            add_to_total(connection, job_id, -moved)
            add_to_total(connection, other, moved)
            set_state(connection, other, JobState.RUNNING, 0.0)


@dataclass(frozen=True, slots=True)
class StatusTime:
    """Seconds of ``batcher status JOB --json``, and of what it reads, the quickest time of several.

    What else runs on the machine only adds to it.
    """

    command_s: float
    query_s: float


def status_time(cluster: Cluster, name: str, job_id: int) -> StatusTime:
    """How long the state of a job takes to read."""
    runtime = cluster.runtime(name)
    commands, queries = [], []
    for _ in range(STATUS_TIMED):
        started = time.perf_counter()
        child = cluster.command(name, "status", str(job_id), "--json")
        output, _ = child.communicate()
        commands.append(time.perf_counter() - started)
        if child.returncode != 0 or f'"job_id": {job_id}' not in output:
            raise SystemExit(f"status ended with {child.returncode}; see {cluster.home(name) / 'log'}")
        started = time.perf_counter()
        read_job_view(runtime, job_id)
        queries.append(time.perf_counter() - started)
    return StatusTime(min(commands), min(queries))


def newest_job(runtime: Runtime) -> int | None:
    """The job of a store that was there already."""
    with runtime.store.read() as connection:
        found = connection.execute(select(func.max(jobs.c.id))).scalar_one()
    return None if found is None else int(found)


def database_bytes(runtime: Runtime) -> dict[str, int]:
    """Bytes of each of the large tables, its indexes included."""
    with runtime.store.read() as connection:
        return {
            name: int(connection.execute(_SIZE, {"name": name}).scalar_one())
            for name in ("documents", "items", "attempts", "results")
        }


def answer_by_hand(runtime: Runtime, job_id: int, count: int) -> None:
    """Give so many pending items of a job an attempt and an answer like those that it has, by SQL alone."""
    with runtime.store.write() as connection:
        for statement in _ANSWER:
            connection.execute(text(statement), {"job": job_id, "count": count})


def settle_down(runtime: Runtime) -> None:
    """What PostgreSQL does by itself some minutes after a load: see the dead rows off, count the others."""
    with runtime.store.session() as connection:
        connection.execute(text("VACUUM ANALYZE"))


def totals(connection: Connection) -> dict[str, Any]:
    """What PostgreSQL and this database have done so far: commits, and bytes written ahead."""
    row = connection.execute(_TOTALS).one()
    return {"commits": int(row.commits), "wal_bytes": int(row.wal_bytes), "leases": int(row.leases)}


_SIZE: Final = text("SELECT pg_total_relation_size(CAST(:name AS regclass))")

_TOTALS: Final = text(
    "SELECT (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()) AS commits, "
    "pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') AS wal_bytes, "
    "(SELECT coalesce(max(id), 0) FROM leases) AS leases"
)

_ANSWERED: Final = "(SELECT id, result_id FROM items WHERE job_id = :job AND status = 'done' LIMIT 1)"
_FIRST_ID: Final = "1000000000000000 + i.id"

_ANSWER: Final = (
    "CREATE TEMPORARY TABLE chosen ON COMMIT DROP AS SELECT id FROM items "
    "WHERE job_id = :job AND status = 'pending' ORDER BY id LIMIT :count",
    f"CREATE TEMPORARY TABLE one ON COMMIT DROP AS SELECT a.* FROM attempts a "
    f"WHERE a.id = (SELECT result_id FROM {_ANSWERED} AS done)",
    f"INSERT INTO results SELECT {_FIRST_ID}, i.result_key, r.model, 0, r.tier, r.output, r.created_at "
    "FROM items i JOIN chosen USING (id), results r, one WHERE r.id = one.id",
    "CREATE TEMPORARY TABLE many ON COMMIT DROP AS SELECT one.*, chosen.id AS i_id FROM chosen, one",
    "UPDATE many SET id = 1000000000000000 + i_id, item_id = i_id",
    "ALTER TABLE many DROP COLUMN i_id",
    "INSERT INTO attempts SELECT * FROM many",
    "UPDATE tallies SET calls = tallies.calls + many.calls, answered = tallies.answered + many.calls, "
    "input_tokens = tallies.input_tokens + many.input_tokens, "
    "output_tokens = tallies.output_tokens + many.output_tokens, "
    "cost_nusd = tallies.cost_nusd + many.cost_nusd "
    "FROM (SELECT count(*) AS calls, coalesce(sum(input_tokens), 0) AS input_tokens, "
    "coalesce(sum(output_tokens), 0) AS output_tokens, coalesce(sum(cost_nusd), 0) AS cost_nusd FROM many) "
    "AS many WHERE tallies.job_id = :job",
    f"UPDATE items i SET status = 'done', result_id = {_FIRST_ID} FROM chosen WHERE i.id = chosen.id",
)
