"""Citizenship under faults: a job whose calls fail in every way, and an independent judge of the client.

    python benchmarks/faults.py
    python benchmarks/faults.py --llmock

The first puts documents through the simulator with a fifth of the calls faulty, kills the worker twice, holds
both sides' books against each other, and lets ``batcher retry --class`` bring the rest when the faults are
gone. The second puts documents through llmock's routes and prints its verdict. The exit code is 1 if anything
is wrong.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fault_books import Books
from fault_run import PATHS, FaultRun, Vendor, fault_script, texts

WAIT_S: Final = 0.3
KILLS: Final = 2
MOST_SHOWN: Final = 10

LLMOCK_RUNS: Final = (
    ("openai", "--rpm 60 --tpm 90000", ""),
    ("groq", "--rpm 60 --tpm 90000", '[models."gpt-oss-20b@groq"]\nrpm = 60\n'),
    (
        "anthropic",
        "--rpm 60 --tpm 90000 --error-rate 429=0.05 --error-rate 500=0.05 --error-rate 529=0.03",
        "",
    ),
    (
        "together",
        "--rpm 600 --tpm 900000 --error-rate 429=0.1 --error-rate 500=0.1 --error-rate 503=0.03",
        "",
    ),
    (
        "mistral",
        "--rpm 300 --tpm 450000 --error-rate 429=0.05 --error-rate 502=0.05 --error-rate 408=0.03",
        "",
    ),
)
"""Route, llmock's options, and a user's settings: 500 documents at 60 a minute take eight minutes."""


@contextmanager
def simulator(seed: int) -> Iterator[Vendor]:
    """``batcher simulate`` as a child process."""
    command = [sys.executable, "-m", "batcher", "simulate", "--port", "0", "--seed", str(seed)]
    command += ["--latency-scale", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        line = child.stdout.readline()
        if "http://" not in line:
            raise SystemExit("The simulator did not start.")
        try:
            yield Vendor("http://" + line.split("http://")[1].split("/")[0])
        finally:
            child.terminate()


def run_path(path: str, documents: int, share: float, seed: int) -> list[str]:
    """Put documents through one path; returns what is wrong."""
    with simulator(seed) as vendor, tempfile.TemporaryDirectory() as folder:
        vendor.ask("POST", "/_faults", fault_script(share, WAIT_S))
        run = FaultRun(Path(folder) / "home", vendor, path, WAIT_S)
        job = run.submit(texts(documents, seed))
        started = time.monotonic()
        for _ in range(KILLS):
            run.kill_in_between(job.id, documents // 4)
        run.run(job.id)
        seconds = time.monotonic() - started
        books = run.books(job.id)
        wrong = books.faults()
        _show(path, books, run, seconds)
        vendor.ask("DELETE", "/_faults")
        for failure in {item.error_class for item in books.items if item.status == "failed"}:
            run.retry(job.id, failure)
        books = run.books(job.id)
        left = Counter(item.status for item in books.items)
        print(f"  after batcher retry of every class: {dict(left)}")
        if left["done"] != documents:
            wrong.append("retries without faults did not bring every item")
        return wrong + books.faults()


def _show(path: str, books: Books, run: FaultRun, seconds: float) -> None:
    ways = f"{run.killed} kills, {run.resumed} times set going again"
    print(f"{path}: {len(books.items):,} documents in {seconds:.0f} s, {ways}")
    print(f"  {len(books.sent):,} attempts sent, {len(books.bill):,} requests received")
    print(f"  outcomes {dict(books.outcomes().most_common())}")
    print(f"  items {dict(Counter(item.error_class or item.status for item in books.items).most_common())}")
    print(f"  ledger {books.spent_nusd:,} n$, bill {books.billed_nusd:,} n$")


def run_llmock(documents: int, routes: Sequence[str]) -> list[str]:
    """Put documents through llmock's routes, all at once; returns its findings."""
    from llmock_judge import judge

    corpus = {name: text[:200] for name, text in texts(documents).items()}
    wrong: list[str] = []

    def graded(route: str, options: str, toml: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            outcome = judge(Path(folder) / "home", route, corpus, options.split(), toml=toml)
        print(f"{route} {options}\n  {outcome.line}", flush=True)
        wrong.extend(f"{route}: {finding['title']}" for finding in outcome.verdict["findings"])
        if outcome.sent != outcome.verdict["attempts"]:
            wrong.append(f"{route}: {outcome.sent} attempts sent, {outcome.verdict['attempts']} received")

    threads = [threading.Thread(target=graded, args=run) for run in LLMOCK_RUNS if run[0] in routes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--llmock", action="store_true", help="the independent judge instead of the simulator"
    )
    parser.add_argument("--docs", type=int, help="documents (5,000; with --llmock 500)")
    parser.add_argument("--paths", default="", help="only these, separated by commas")
    parser.add_argument("--share", type=float, default=0.2, help="of the calls that go wrong")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    names = [run[0] for run in LLMOCK_RUNS] if arguments.llmock else list(PATHS)
    names = arguments.paths.split(",") if arguments.paths else names
    if arguments.llmock:
        wrong = run_llmock(arguments.docs or 500, names)
    else:
        wrong = []
        for path in names:
            wrong += run_path(path, arguments.docs or 5_000, arguments.share, arguments.seed)
    for line in wrong[:MOST_SHOWN]:
        print(f"WRONG {line}")
    print(f"{len(wrong)} things are wrong" if wrong else "nothing is wrong")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
