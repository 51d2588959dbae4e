"""What must be true of the ledger and the bill of a race, during it and at its end."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from fault_run import Vendor
from race_course import MOST_CALL_NUSD, Course
from race_workers import Workers
from sqlalchemy import select

from batcher.domain import AttemptState, JobState
from batcher.store.jobs import get_job
from batcher.store.tables import attempts, items, leases, ledger_accounts

ARRIVAL_S: Final = 1.0
"""A request may have left this long before the simulator took it in, and longer on a busy machine: by as much
as the simulator's slowest answer to the race itself took."""

CALM_SHARE: Final = 0.97
"""Of a cap of $1.00 that buys answers if nothing goes wrong; of a smaller one, all but the largest call."""


@dataclass
class Watch:
    """What was seen while the race was on.

    Attributes:
        looks: how often it was looked.
        longest_answer_s: what the simulator took at most to say how high the bill is.
        unknown_ids: the attempts of unknown outcome, when the job was last seen to run.
        wrong: what must never be seen.
    """

    course: Course
    vendor: Vendor
    looks: int = 0
    longest_answer_s: float = 0.0
    unknown_ids: set[int] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    def look(self) -> None:
        """Hold the bill of a moment ago against the ledger of now."""
        self.looks += 1
        asked = time.monotonic()
        billed_nusd = self.vendor.ask("GET", "/_totals")["cost_nusd"]
        self.longest_answer_s = max(self.longest_answer_s, time.monotonic() - asked)
        with self.course.runtime.store.read() as connection:
            if get_job(connection, self.course.job.id).state is JobState.RUNNING:
                unknown = select(attempts.c.id).where(attempts.c.state == AttemptState.UNKNOWN.value)
                self.unknown_ids = set(connection.execute(unknown).scalars())
        day = self.course.day()
        booked = day.spent_nusd + day.reserved_nusd
        if billed_nusd > self.course.cap_nusd:
            self.wrong.append(f"during the race the bill was {billed_nusd}")
        if booked > self.course.cap_nusd:
            self.wrong.append(f"during the race {booked} was spent or reserved")
        if booked < billed_nusd:
            self.wrong.append(f"during the race {booked} was spent or reserved, and {billed_nusd} billed")


class Books:
    """Both sides' books after a race.

    Args:
        watch: what was seen during it.
        workers: who ran.
    """

    def __init__(self, watch: Watch, workers: Workers) -> None:
        course = watch.course
        self._course, self._workers, self.bill = course, workers, watch.vendor.bill()
        self._unknown_at_the_end = watch.unknown_ids
        self._arrival_s = ARRIVAL_S + watch.longest_answer_s
        with course.runtime.store.read() as connection:
            self.job = get_job(connection, course.job.id)
            self.attempts = connection.execute(select(attempts)).all()
            self.leases = {row.id: row for row in connection.execute(select(leases))}
            self._sources = {row.id: row.source for row in connection.execute(select(items))}
            self.reserved_nusd = sum(row.reserved_nusd for row in connection.execute(select(ledger_accounts)))
        self.spent_nusd = course.day().spent_nusd
        self.pending = course.pending()
        self.unknown = [row for row in self.attempts if row.state == "unknown"]

    @property
    def billed_nusd(self) -> int:
        """The simulator's bill."""
        return sum(line["cost_nusd"] for line in self.bill)

    @property
    def unknown_nusd(self) -> int:
        """The worst case of the attempts whose outcome is unknown."""
        return sum(row.cost_nusd for row in self.unknown)

    @property
    def left_nusd(self) -> int:
        """What the cap still admits."""
        return self._course.cap_nusd - self.spent_nusd

    @property
    def returned_late_nusd(self) -> int:
        """What came back after the job had ended: a worker woke whose lease others had taken."""
        return sum(
            row.reserved_nusd - row.cost_nusd
            for row in self.attempts
            if row.id in self._unknown_at_the_end and row.state == AttemptState.SETTLED
        )

    @property
    def smallest_nusd(self) -> int | None:
        """The smallest reservation that is still to be made today.

        An item that waits for tomorrow had a follow-up call refused, which may reserve more than its first.
        """
        return min((one.reservation_nusd for one in self.pending if one.is_ready), default=None)

    @property
    def bought_share(self) -> float:
        """The part of the cap that went into valid answers."""
        answered = sum(row.cost_nusd for row in self.attempts if row.outcome == "ok")
        return answered / self._course.cap_nusd

    def outcomes(self) -> Counter[str]:
        """Attempts by outcome."""
        return Counter(row.outcome for row in self.attempts)

    def faults(self, *, is_calm: bool) -> list[str]:
        """What is wrong; empty if nothing is."""
        wrong = [*self._money(), *self._lines(), *self._end(), *self._late()]
        if is_calm and self.bought_share < min(CALM_SHARE, 1 - MOST_CALL_NUSD / self._course.cap_nusd):
            wrong.append(f"only {self.bought_share:.2%} of the cap bought answers")
        if is_calm and (self.unknown or self.spent_nusd != self.billed_nusd):
            wrong.append(f"{len(self.unknown)} outcomes are unknown though nothing went wrong")
        return wrong

    def _money(self) -> Iterator[str]:
        if self.billed_nusd > self._course.cap_nusd:
            yield f"the bill is {self.billed_nusd}, the cap {self._course.cap_nusd}"
        if self.spent_nusd < self.billed_nusd:
            yield f"the ledger says {self.spent_nusd}, the bill {self.billed_nusd}"
        if self.spent_nusd - self.billed_nusd > self.unknown_nusd:
            excess = self.spent_nusd - self.billed_nusd
            yield f"the ledger exceeds the bill by {excess}, the unknown at worst {self.unknown_nusd}"
        if self.spent_nusd != sum(row.cost_nusd for row in self.attempts):
            yield "the ledger is not the sum of the attempts"
        if any(row.state == "sending" for row in self.attempts):
            yield "attempts are still marked as sending"

    def _lines(self) -> Iterator[str]:
        """Attempts whose outcome is known cost what the bill says."""
        lines = {line["request_id"]: line for line in self.bill}
        for row in self.attempts:
            if row.state != "settled":
                continue
            billed = lines[row.request_id]["cost_nusd"] if row.request_id else 0
            if row.cost_nusd != billed:
                yield f"attempt {row.id} settled at {row.cost_nusd}, billed at {billed}"
            if row.cost_nusd > row.reserved_nusd:
                yield f"attempt {row.id} cost {row.cost_nusd} and had reserved {row.reserved_nusd}"

    def _end(self) -> Iterator[str]:
        """The race ends when the cap is used up, not before."""
        for worker in self._workers.everyone:
            if worker.ended not in {None, "budget", "idle", "stopped"}:
                yield f"worker {worker.number} failed: {worker.ended}"
        if self.job.state is not JobState.PAUSED or "cap" not in (self.job.reason or ""):
            yield f"the job is {self.job.state}: {self.job.reason}"
        if self.reserved_nusd:
            yield f"{self.reserved_nusd} is still reserved"
        if self.smallest_nusd is None:
            yield "the corpus is used up, not the cap"
        elif self.left_nusd - self.returned_late_nusd >= self.smallest_nusd:
            waits = f"{len(self.pending)} items wait"
            yield f"it ended with {self.left_nusd} left, though a call needs {self.smallest_nusd}: {waits}"

    def _late(self) -> Iterator[str]:
        """No request arrives for an attempt whose lease has expired."""
        by_request = {row.request_id: row for row in self.attempts if row.request_id}
        items_by_body = self._course.item_of_body()
        answerless = defaultdict(list)
        for row in self.attempts:
            if not row.request_id:
                answerless[self._process_of(row)].append(row)
        processes = {worker.account: worker.pid for worker in self._workers.everyone}
        for line in self.bill:
            row = by_request.get(line["request_id"])
            made = [row] if row is not None else answerless[processes[line["account"]]]
            source = items_by_body.get(line["body_hash"])
            if row is None and source is not None:
                made = [row for row in made if self._sources[row.item_id] == source]
            if not made:
                yield f"request {line['number']} belongs to no attempt"
                continue
            late_s = line["arrived_at"] - max(self.leases[row.lease_id].expires_at for row in made)
            if late_s > self._arrival_s:
                yield f"request {line['number']} arrived {late_s:.1f} s after its lease had expired"

    def _process_of(self, row: Any) -> int:
        return int(self.leases[row.lease_id].worker.rsplit(":", 2)[1])
