"""A million documents into the store: rate, memory and database size, and what a lease costs then.

    python benchmarks/scale.py

Writes a JSONL file of 1 KB documents, ingests it as ``batcher submit`` does, in a process pinned to one core,
at 1,000, 100,000 and all of them, and exits with 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

from measuring import Stopwatch, documents, peak_rss_mb, report

LEAST_DOCS_PER_S: Final = 5_000
MOST_RSS_GROWTH: Final = 1.10
TEXT_CHARACTERS: Final = 1_000
SIZES: Final = (1_000, 100_000)
LEASES_TIMED: Final = 15
LEASE_ITEMS: Final = 32
_POOL_CHARACTERS: Final = 4_000_000


def texts(count: int) -> Iterator[str]:
    """Distinct texts, cut out of one long text at random places, so that they compress as texts do."""
    [pool] = documents(1, _POOL_CHARACTERS, seed=3)
    place = random.Random(4)
    for number in range(count):
        start = place.randrange(len(pool) - TEXT_CHARACTERS)
        yield f"Document {number}. {pool[start : start + TEXT_CHARACTERS]}"


def write_corpus(path: Path, count: int) -> None:
    """One JSON object per line with an id and a text."""
    with path.open("w", encoding="utf-8") as stream:
        for number, text in enumerate(texts(count)):
            stream.write(json.dumps({"id": number, "text": text}) + "\n")


def ingest_and_report(corpus: Path, limit: int, home: Path) -> None:
    """In the child: ingest ``limit`` documents on one core, then time leases and counts."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from batcher_client import TASK, new_job, point_at, settings_for

    from batcher.documents.corpus import SourceOptions, read_corpus
    from batcher.engine.ingestion import ingest
    from batcher.runtime import Runtime
    from batcher.tasks.registry import load_task

    point_at("http://127.0.0.1:9")
    runtime = Runtime(settings_for(home, "openai", in_flight=64))
    job = new_job(runtime, load_task(TASK).spec())
    source = SourceOptions(max_file_bytes=20_000_000, limit=limit)
    watch = Stopwatch()
    intake = ingest(runtime.store, job, read_corpus([str(corpus)], source), image_tier=None)
    measured = watch.read()
    rss_mb = peak_rss_mb()
    if intake.seen != limit or intake.rejected:
        raise SystemExit(
            f"{intake.seen} documents were seen and {intake.rejected} rejected, not {limit} and 0"
        )
    database = sum(path.stat().st_size for path in home.glob("batcher.db*"))
    later = time_queries(runtime, job.id)
    report(docs=limit, rss_mb=rss_mb, database_bytes=database, **measured, **later)


def time_queries(runtime: Any, job_id: int) -> dict[str, float]:
    """Median seconds of a lease transaction and of the status counts, with everything else pending."""
    from batcher.engine.lane import LaneFactory
    from batcher.engine.leasing import Chunk, Leaser
    from batcher.store.item_counts import count_items

    lanes = LaneFactory(
        runtime.catalog,
        runtime.provider,
        runtime.account,
        runtime.is_usable,
        runtime.find_task,
        timeout_s=1,
    )
    leaser = Leaser(runtime.store, runtime.ledger, lanes, lease_s=3_600)

    def lease() -> None:
        if not isinstance(leaser.lease(LEASE_ITEMS, [job_id], None), Chunk):
            raise SystemExit("there was nothing to lease")

    def count() -> None:
        with runtime.store.read() as connection:
            count_items(connection, job_id)

    lease()
    return {"lease_s": _median_s(lease, LEASES_TIMED), "count_s": _median_s(count, 3)}


def _median_s(action: Callable[[], None], times: int) -> float:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started)
    return median(taken)


def measure(corpus: Path, limit: int, home: Path) -> dict[str, Any]:
    """Ingest in a fresh process; its figures."""
    command = [sys.executable, __file__, "--ingest", str(corpus), "--docs", str(limit), "--home", str(home)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BATCHER_")}
    ended = subprocess.run(command, capture_output=True, text=True, env=clean, check=False)
    if ended.returncode != 0:
        raise SystemExit(f"The ingestion failed:\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}")
    measured: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
    return measured


def print_line(measured: dict[str, Any]) -> None:
    """One line of the table."""
    docs = measured["docs"]
    print(
        f"{docs:>10,}{docs / measured['wall_s']:>10,.0f}{measured['cpu_s']:>9.1f}{measured['rss_mb']:>9.1f}"
        f"{measured['database_bytes'] / docs:>12,.0f}{measured['lease_s'] * 1000:>10.1f}"
        f"{measured['count_s'] * 1000:>11.1f}",
        flush=True,
    )


def judge(measured: list[dict[str, Any]]) -> bool:
    """Print whether the bars are met; True if they are."""
    last, before = measured[-1], measured[-2] if len(measured) > 1 else measured[-1]
    rate = last["docs"] / last["wall_s"]
    growth = last["rss_mb"] / before["rss_mb"]
    lines = [
        (f"{rate:,.0f} documents/s on one core, at least {LEAST_DOCS_PER_S:,}", rate >= LEAST_DOCS_PER_S),
        (
            f"peak memory {growth:.2f} x from {before['docs']:,} to {last['docs']:,} documents,"
            f" less than {MOST_RSS_GROWTH}",
            growth < MOST_RSS_GROWTH,
        ),
    ]
    for text, met in lines:
        print(f"{'met   ' if met else 'MISSED'}  {text}")
    return all(met for _, met in lines)


def main() -> int:
    """Run the benchmark; 0 if the bars are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--docs", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to write about 3 KB per document for a while")
    parser.add_argument("--ingest", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ingest is not None:
        ingest_and_report(arguments.ingest, arguments.docs, arguments.home)
        return 0
    measured = []
    with tempfile.TemporaryDirectory(prefix="batcher-scale-", dir=arguments.folder) as name:
        folder = Path(name)
        corpus = folder / "corpus.jsonl"
        write_corpus(corpus, arguments.docs)
        print(f"{'documents':>10}{'docs/s':>10}{'CPU s':>9}{'RSS MB':>9}{'bytes/item':>12}", end="")
        print(f"{'lease ms':>10}{'counts ms':>11}")
        for size in [*(size for size in SIZES if size < arguments.docs), arguments.docs]:
            measured.append(measure(corpus, size, folder / f"home-{size}"))
            print_line(measured[-1])
    return 0 if judge(measured) else 1


if __name__ == "__main__":
    sys.exit(main())
