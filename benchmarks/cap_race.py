"""The cap under attack: eight workers race for it while they are killed and stopped, and calls fail.

    python benchmarks/cap_race.py
    python benchmarks/cap_race.py --seeds 3 --databases sqlite

Every seed is run twice on each database. Once with a fifth of the calls spoilt (connections reset after the
request was sent among them), ``kill -9`` of a random worker every two seconds, and workers that are stopped
past their leases and woken; once with nothing of all that. The exit code is 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from faults import simulator
from race_books import Books, Watch
from race_course import Course, databases
from race_workers import Workers

from batcher.engine.reclaiming import reclaim_lost
from batcher.money import format_usd, usd_to_nusd

STOP_EVERY_S: Final = 4.0
LATENCY_S: Final = 1.0
CALM_LATENCY_S: Final = 0.5
LONGEST_S: Final = 900.0
_LOOK_EVERY_S: Final = 0.1
_WAIT_S: Final = 0.3

FAULTS: Final = (
    "reset_after",
    "unknown_outcome",
    "transient",
    "rate_limited",
    "overloaded",
    "invalid_output",
)
"""What spoils the calls: the first is a reset after the request was sent and charged."""

SHARE: Final = 0.2
"""Of the calls that are spoilt, all ways equally often."""


@dataclass(frozen=True, slots=True)
class Race:
    """What is run.

    Attributes:
        seed: of the corpus, the faults, and of who is killed and stopped.
        database: ``sqlite`` or ``postgresql``.
        is_calm: nothing goes wrong.
        workers: how many run at a time.
        cap_nusd: for the day.
        kill_every_s: how often one is killed.
    """

    seed: int
    database: str
    is_calm: bool
    workers: int
    cap_nusd: int
    kill_every_s: float

    @property
    def latency_s(self) -> float:
        """How long an answer takes: long where calls are to be cut off."""
        return CALM_LATENCY_S if self.is_calm else LATENCY_S

    @property
    def name(self) -> str:
        """For people."""
        return f"seed {self.seed} {self.database} {'calm' if self.is_calm else 'kills and faults'}"


def fault_script() -> list[dict[str, Any]]:
    """Faults that together hit a fifth of the calls."""
    each = SHARE / len(FAULTS)
    return [
        {"kind": kind, "rate": each / (1 - place * each), "retry_after_s": _WAIT_S}
        for place, kind in enumerate(FAULTS)
    ]


def run(race: Race, create_database: Callable[[Path], str]) -> list[str]:
    """Run one race and print its books; returns what is wrong."""
    with simulator(race.seed) as vendor, tempfile.TemporaryDirectory() as folder:
        vendor.ask("POST", "/_config", {"latency_s": race.latency_s})
        if not race.is_calm:
            vendor.ask("POST", "/_faults", fault_script())
        home = Path(folder)
        course = Course(home, create_database(home), vendor, race.cap_nusd, race.seed)
        started = time.monotonic()
        watch = Watch(course, vendor)
        with Workers(course, random.Random(race.seed)) as workers:
            ended = _race(race, watch, workers)
        seconds = time.monotonic() - started
        reclaim_lost(course.runtime.store, course.runtime.ledger)
        books = Books(watch, workers)
        wrong = [] if ended else [f"it had not ended after {LONGEST_S:.0f} s"]
        wrong += [*watch.wrong[:3], *books.faults(is_calm=race.is_calm)]
        _show(race, course, watch, workers, books, seconds, wrong)
        course.close()
    return [f"{race.name}: {what}" for what in wrong]


def _race(race: Race, watch: Watch, workers: Workers) -> bool:
    """Let the workers run until all have ended by themselves; whether they did."""
    now = time.monotonic()
    kill_at, stop_at, ends_at = now + race.kill_every_s, now + STOP_EVERY_S, now + LONGEST_S
    for _ in range(race.workers):
        workers.start()
    while workers.running():
        now = time.monotonic()
        if now >= ends_at:
            return False
        watch.look()
        workers.wake()
        if not race.is_calm and now >= kill_at:
            workers.kill_one()
            kill_at += race.kill_every_s
        if not race.is_calm and now >= stop_at:
            workers.stop_one()
            stop_at += STOP_EVERY_S
        time.sleep(_LOOK_EVERY_S)
    return True


def _show(
    race: Race, course: Course, watch: Watch, workers: Workers, books: Books, seconds: float, wrong: list[str]
) -> None:
    sizes = course.reservations()
    billed = [line["cost_nusd"] for line in books.bill if line["cost_nusd"]]
    smallest = books.smallest_nusd
    print(
        f"{race.name}: {'WRONG' if wrong else 'ok'} in {seconds:.0f} s, {len(workers.everyone)} workers,"
        f" {workers.kills} killed, {workers.naps} stopped and woken,"
        f" {watch.looks} looks (the slowest {watch.longest_answer_s:.1f} s)\n"
        f"  {len(sizes):,} documents reserve {format_usd(sizes[0])} to {format_usd(sizes[-1])};"
        f" {len(books.bill):,} requests, {len(billed):,} billed"
        f" {format_usd(min(billed, default=0))} to {format_usd(max(billed, default=0))};"
        f" outcomes {dict(books.outcomes().most_common())}\n"
        f"  cap {format_usd(race.cap_nusd)}  bill {format_usd(books.billed_nusd)}"
        f"  ledger {format_usd(books.spent_nusd)} spent, {format_usd(books.reserved_nusd)} reserved"
        f"  unknown at worst {format_usd(books.unknown_nusd)} ({len(books.unknown)})"
        f"  left {format_usd(books.left_nusd)} ({format_usd(books.returned_late_nusd)} of it came back late)"
        f"  smallest pending {'none' if smallest is None else format_usd(smallest)}"
        f"  bought answers {books.bought_share:.2%}",
        flush=True,
    )
    for what in wrong:
        print(f"  WRONG {what}", flush=True)


def main() -> int:
    """Run the races."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--cap", default="1.00", help="dollars a day")
    parser.add_argument("--kill-every-s", type=float, default=2.0)
    arguments = parser.parse_args()
    workers, cap_nusd, kill_every_s = arguments.workers, usd_to_nusd(arguments.cap), arguments.kill_every_s
    wrong = []
    for database in arguments.databases.split(","):
        with databases(database) as create_database:
            for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
                for is_calm in (False, True):
                    race = Race(seed, database, is_calm, workers, cap_nusd, kill_every_s)
                    wrong += run(race, create_database)
    print(f"{len(wrong)} things are wrong" if wrong else "nothing is wrong")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
