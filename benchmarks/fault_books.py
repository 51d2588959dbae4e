"""What must be true of the ledger and of the simulator's bill after a run with faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from batcher.domain import JobState
from batcher.store.jobs import Job

RETRIED: Final = frozenset({"rate_limited", "overloaded", "transient", "unknown_outcome"})
CONCURRENCY: Final = 32
CALL_TIMEOUT_S: Final = 1.5


@dataclass(frozen=True)
class Books:
    """Both sides' books after a run.

    Attributes:
        killed: how often a worker was killed: what it had marked and not sent is booked, but not billed.
        wait_s: how long every rate limit and every provider without capacity asked to wait.
    """

    job: Job
    items: Sequence[Any]
    attempts: Sequence[Any]
    result_ids: set[int]
    balances: Sequence[Any]
    bill: Sequence[dict[str, Any]]
    killed: int
    wait_s: float

    @property
    def sent(self) -> list[Any]:
        """The attempts that left."""
        return [row for row in self.attempts if row.outcome != "not_sent"]

    @property
    def billed_nusd(self) -> int:
        """The simulator's bill."""
        return sum(line["cost_nusd"] for line in self.bill)

    @property
    def spent_nusd(self) -> int:
        """What the ledger calls spent."""
        return sum(found.spent_nusd for found in self.balances if found.account.scope == "day")

    def faults(self) -> list[str]:
        """What is wrong; empty if nothing is."""
        return [*self._items(), *self._counts(), *self._money(), *self._waits(), *self._times()]

    def _times(self) -> list[str]:
        """No call holds its item for longer than it may."""
        longest_s = max((row.latency_s or 0.0 for row in self.sent), default=0.0)
        return [f"a call took {longest_s:.1f} s"] if longest_s > CALL_TIMEOUT_S + 1.0 else []

    def _items(self) -> list[str]:
        wrong = []
        if self.job.state is not JobState.DONE:
            wrong.append(f"the job is {self.job.state}: {self.job.reason}")
        by_item: dict[int, list[Any]] = {}
        for row in self.sent:
            by_item.setdefault(row.item_id, []).append(row)
        for item in self.items:
            made = by_item.get(item.id, [])
            if item.status == "done":
                if item.result_id not in self.result_ids:
                    wrong.append(f"item {item.id} is done without a result")
            elif item.status != "failed":
                wrong.append(f"item {item.id} is {item.status}")
            elif item.error_class not in {row.outcome for row in made}:
                wrong.append(f"item {item.id} failed with {item.error_class}, which no attempt of it did")
            elif item.error_class in RETRIED | {"account"}:
                wrong.append(f"item {item.id} gave up on {item.error_class} after {len(made)} calls")
        return wrong

    def _counts(self) -> list[str]:
        wrong = []
        never_sent = len(self.sent) - len(self.bill)
        if not 0 <= never_sent <= self.killed * (CONCURRENCY + CONCURRENCY // 8 + 1):
            wrong.append(f"{len(self.sent)} attempts were sent, {len(self.bill)} requests arrived")
        if any(row.state == "sending" for row in self.attempts):
            wrong.append("attempts are still marked as sending")
        return wrong

    def _money(self) -> list[str]:
        wrong = []
        lines = {line["request_id"]: line for line in self.bill}
        settled = [row for row in self.sent if row.state == "settled"]
        unknown = [row for row in self.attempts if row.state == "unknown"]
        for row in settled:
            line = lines.pop(row.request_id, None)
            if line is None and row.request_id:
                wrong.append(f"attempt {row.id} has request id {row.request_id}, which no bill line has")
            billed = line["cost_nusd"] if line else 0
            if row.cost_nusd != billed:
                wrong.append(f"attempt {row.id} settled at {row.cost_nusd}, billed at {billed}")
        at_their_worst = sum(row.cost_nusd for row in unknown)
        of_unknown = sum(line["cost_nusd"] for line in lines.values())
        if of_unknown > at_their_worst:
            wrong.append(f"unknown outcomes are booked at {at_their_worst} and billed at {of_unknown}")
        if any(row.cost_nusd != row.reserved_nusd for row in unknown if not row.input_tokens):
            wrong.append("an unknown outcome is not booked at its worst case")
        if self.spent_nusd < self.billed_nusd:
            wrong.append(f"the ledger says {self.spent_nusd}, the bill {self.billed_nusd}")
        if self.spent_nusd != sum(row.cost_nusd for row in self.attempts):
            wrong.append("the ledger is not the sum of the attempts")
        reserved = sum(found.reserved_nusd for found in self.balances)
        if reserved:
            wrong.append(f"{reserved} nano-dollars are still reserved")
        return wrong

    def _waits(self) -> list[str]:
        """The next call with the same body comes no earlier than the vendor asked."""
        wrong = []
        told = {row.request_id for row in self.attempts if row.outcome in {"rate_limited", "overloaded"}}
        last: dict[str, dict[str, Any]] = {}
        for line in self.bill:
            before = last.get(line["body_hash"])
            told_before = before if before is not None and before["request_id"] in told else None
            if told_before and (waited := line["arrived_at"] - told_before["answered_at"]) < self.wait_s:
                wrong.append(f"request {line['number']} came {waited:.3f} s after {told_before['fault']}")
            last[line["body_hash"]] = line
        return wrong

    def outcomes(self) -> Counter[str]:
        """Attempts by outcome."""
        return Counter(row.outcome for row in self.attempts)
