"""Two nights of cron in two minutes: the first reaches the cap, the second goes on, both digests are true.

    python benchmarks/overnight.py

Everything is what ``batcher submit ... --wait --yes`` does from cron (the lock, the corpus, the engine, the
ledger, the digest and its alert), but for the network, which is the simulator, and the clock, which jumps.
The digest of each night is held against the simulator's own bill of that night, to the nano-dollar. Exits
with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import select

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from batcher.catalog.models import load_catalog
from batcher.dispatch.rehearsal import Rehearsal
from batcher.dispatch.rehearsal_books import Books
from batcher.domain import ItemStatus
from batcher.export.lines import open_results
from batcher.planning.order import SubmitRequest
from batcher.runtime import Runtime
from batcher.settings import ModelSettings, Settings
from batcher.simulator.bill import BillLine
from batcher.store.jobs import get_job
from batcher.store.tables import alerts
from benchmarks.cards import submitted, write_task

ZONE: Final = "Europe/Berlin"
EVENING: Final = "2026-11-20T20:00"
NEXT_START: Final = "2026-11-21T02:00"
CAP_SHARE: Final = 0.6
"""What the first night's cap allows of all that has to be paid."""

REJECTED_EVERY: Final = 1_000
REFUSED_EVERY: Final = 500
GOLDEN_EVERY: Final = 100
RIGHT_TOPIC: Final = "river"
MODEL: Final = "gpt-4o-mini"


@dataclass(frozen=True)
class Start:
    """One start from cron: what it printed and exited with, and what the vendor charged for it.

    Attributes:
        told: the digest as the alert channels get it.
        golden: ended documents whose right answer is known, and how many were answered by it.
    """

    code: int
    printed: dict[str, Any]
    log: list[str]
    told: str
    bill: list[BillLine]
    golden: tuple[int, int]

    @property
    def digest(self) -> dict[str, Any]:
        found: dict[str, Any] = self.printed["digest"]
        return found

    @property
    def billed_nusd(self) -> int:
        return sum(line.cost_nusd or 0 for line in self.bill)

    @property
    def refused(self) -> int:
        return sum(line.fault == "refusal" for line in self.bill)


class RehearsedRuntime(Runtime):
    """A runtime on a rehearsal's clock, store and vendors."""

    def __init__(self, settings: Settings, rehearsal: Rehearsal) -> None:
        super().__init__(settings)
        self._rehearsal = rehearsal
        self.store = rehearsal.store
        self.ledger = rehearsal.ledger
        self.new_loop = rehearsal.new_loop
        self.engine = rehearsal.engine
        self.aclose = rehearsal.aclose
        self.is_usable = rehearsal.is_usable


class Cron:
    """A crontab line that is started again and again on a clock that jumps.

    Args:
        folder: an empty folder.
        docs: documents in the corpus.
        cap_nusd: the daily cap.
        rpm: calls that the vendor allows in a minute.
    """

    def __init__(self, folder: Path, docs: int, cap_nusd: int, *, rpm: int = 10_000) -> None:
        self.folder = folder
        self._request = write_request(folder, docs)
        limits = ModelSettings(rpm=rpm, tpm=20_000_000)
        self._settings = Settings(
            home=folder / "home", time_zone=ZONE, tiers={"economy": [MODEL]}, models={MODEL: limits}
        )
        books = Books(moment(EVENING), cap_nusd, 0)
        faults = [{"kind": "refusal", "every": REFUSED_EVERY}]
        catalog = load_catalog(self._settings)
        self.rehearsal = Rehearsal(self._settings, catalog, books, lambda _: True, faults=faults)
        self._billed = 0

    def __enter__(self) -> Cron:
        self.rehearsal.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.rehearsal.__exit__(*exception)

    def start(self, at: str, finish_by: str | None = None) -> Start:
        """What cron does at a time of its zone."""
        self.rehearsal.new_loop(moment(at))
        runtime = RehearsedRuntime(self._settings, self.rehearsal)
        said = submitted(runtime, self._request, finish_by)
        bill = list(self._lines())
        self._billed += len(bill)
        return Start(said.code, said.found, said.log, self._told(), bill, self._golden())

    def _lines(self) -> Iterator[BillLine]:
        after = self._billed
        while page := self.rehearsal.simulator.bill.lines(after):
            yield from page
            after = page[-1].number

    def _told(self) -> str:
        """The last digest in the book of alerts."""
        query = select(alerts.c.body).where(alerts.c.rule == "digest").order_by(alerts.c.id.desc()).limit(1)
        with self.rehearsal.store.read() as connection:
            return str(connection.execute(query).scalar_one())

    def _golden(self) -> tuple[int, int]:
        with self.rehearsal.store.read() as connection:
            job = get_job(connection, 1)
        known = right = 0
        with open_results(self.rehearsal.store, job, [ItemStatus.DONE, ItemStatus.FAILED]) as lines:
            for line in lines:
                if int(line.item.source.rpartition("#")[2]) % GOLDEN_EVERY == 0:
                    known += 1
                    right += line.output is not None and line.output["topic"] == RIGHT_TOPIC
        return known, right


def moment(text: str) -> float:
    """Unix seconds of a date and time in the zone."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(ZONE)).timestamp()


def is_rejected(number: int) -> bool:
    """Whether a document of the corpus has no text."""
    return number % REJECTED_EVERY == REJECTED_EVERY - 1


def write_request(folder: Path, docs: int) -> SubmitRequest:
    """The corpus, the task and the known answers."""
    task = write_task(folder, ["economy"], max_output_tokens=200)
    filler = "The river runs under the old stone bridge, past the mill, the road and the market. " * 10
    with (folder / "corpus.jsonl").open("w") as corpus:
        for number in range(docs):
            text = "" if is_rejected(number) else f"Document {number}. {filler}"
            corpus.write(json.dumps({"id": str(number), "text": text}) + "\n")
    with (folder / "golden.jsonl").open("w") as golden:
        for number in range(0, docs, GOLDEN_EVERY):
            expected = {"topic": RIGHT_TOPIC, "title": ""}
            golden.write(json.dumps({"id": str(number), "expected": expected}) + "\n")
    return SubmitRequest(
        paths=(str(folder / "corpus.jsonl"),),
        task=str(task),
        golden=folder / "golden.jsonl",
    )


def price_of_all(docs: int) -> int:
    """About what the vendor will charge for the whole corpus, nano-dollars: told by a hundred documents."""
    sample = min(docs, 100)
    with (
        tempfile.TemporaryDirectory(prefix="batcher-overnight-") as name,
        Cron(Path(name), sample, 10**12) as cron,
    ):
        return cron.start(EVENING).billed_nusd * docs // sample


def two_nights(folder: Path, docs: int) -> tuple[int, Start, Start]:
    """The cap, the evening's start and the next day's."""
    cap_nusd = int(price_of_all(docs) * CAP_SHARE)
    with Cron(folder, docs, cap_nusd) as cron:
        return cap_nusd, cron.start(EVENING), cron.start(NEXT_START)


def usd(nusd: int) -> float:
    """Nano-dollars as JSON tells them."""
    return nusd / 1e9


def check(docs: int, cap_nusd: int, first: Start, second: Start) -> list[tuple[str, Any, Any]]:
    """What the digests say and what is true, by what it is about."""
    rejected = sum(map(is_rejected, range(docs)))
    payable = docs - rejected
    one, two = first.digest, second.digest
    evening_left = payable - len(first.bill)
    days = [
        {"day": day, "spent_usd": usd(start.billed_nusd), "cap_usd": usd(cap_nusd)}
        for day, start in (("2026-11-20", first), ("2026-11-21", second))
    ]
    return [
        ("exit codes", [first.code, second.code], [4, 1]),
        ("states", [one["state"], two["state"]], ["paused", "done"]),
        ("the same job", second.printed["taken_up"], True),
        ("resumed from midnight", one["resume_at"], _iso(moment("2026-11-21T00:00"))),
        ("paused by the daily cap", (one["reason"] or "")[:18], "budget: daily cap "),
        ("documents", [one["documents"], two["documents"]], [docs, docs]),
        ("calls, each once", len(first.bill) + len(second.bill), payable),
        ("done, night 1", [one["done"], one["done_in_run"]], [len(first.bill) - first.refused] * 2),
        ("done, night 2", two["done_in_run"], len(second.bill) - second.refused),
        ("done in all", two["done"], payable - first.refused - second.refused),
        ("failed, night 1", one["failed_by_class"], {"refused": first.refused}),
        ("failed, night 2", two["failed_by_class"], {"refused": first.refused + second.refused}),
        ("rejected", [one["rejected_by_reason"], two["rejected_by_reason"]], [{"empty": rejected}] * 2),
        ("spent, night 1", one["spent_in_run_usd"], usd(first.billed_nusd)),
        ("spent, night 2", two["spent_in_run_usd"], usd(second.billed_nusd)),
        ("spent in all", two["spent_usd"], usd(first.billed_nusd + second.billed_nusd)),
        ("nothing unknown", [one["unknown_usd"], two["unknown_usd"]], [0, 0]),
        ("days", [*one["days"], *two["days"]], days),
        ("within the cap", [first.billed_nusd <= cap_nusd, second.billed_nusd <= cap_nusd], [True, True]),
        ("left, night 1", one["left"]["documents"], evening_left),
        ("left, night 2", two["left"]["documents"], 0),
        ("days left", one["left"]["days"], 1),
        ("accuracy", [_scored(one), _scored(two)], [first.golden, second.golden]),
        ("accuracy measured on more", second.golden[0] > first.golden[0] > 0, True),
        ("told of both", [_first_line(first), _first_line(second)], [
            f"Job 1 paused: cards on tier economy, {docs:,} documents",
            f"Job 1 done: cards on tier economy, {docs:,} documents",
        ]),
    ]  # fmt: skip


def _scored(digest: dict[str, Any]) -> tuple[int, int]:
    return digest["accuracy"]["scored"], digest["accuracy"]["correct"]


def _first_line(start: Start) -> str:
    return start.told.splitlines()[0]


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def off_by(told: float | None, true: float) -> float:
    """By how much of the truth a forecast was wrong."""
    return float("inf") if told is None else abs(told - true) / true


def main() -> int:
    """Run both nights; 0 if the digests are true."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--docs", type=int, default=40_000)
    docs = parser.parse_args().docs
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="batcher-overnight-") as name:
        cap_nusd, first, second = two_nights(Path(name), docs)
    for start in (first, second):
        print(start.told + "\n")
    forecast = off_by(first.digest["left"]["likely_usd"], usd(second.billed_nusd))
    found = [
        *check(docs, cap_nusd, first, second),
        ("cost of what was left within 5 %", forecast < 0.05, True),
    ]
    for what, told, true in found:
        print(
            f"{'met   ' if told == true else 'MISSED'}  {what}: {told}"
            + ("" if told == true else f", not {true}")
        )
    print(f"{docs:,} documents, {time.monotonic() - started:.0f} s of real time")
    return 0 if all(told == true for _, told, true in found) else 1


if __name__ == "__main__":
    sys.exit(main())
