"""What must be true after chaos: of the items, the results, the attempts, the bill and the ledger."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from chaos_ground import CAP_NUSD, CONCURRENCY, MODEL, Ground
from race_course import bind, source_of_body
from sqlalchemy import func, select, text

from batcher.budget.ledger import DAY_SCOPE
from batcher.domain import AttemptState, JobState
from batcher.store.jobs import get_job
from batcher.store.tables import attempts, items, leases, ledger_accounts, results

LONGEST_FLUSH_S: Final = 3.0
"""How old an answer can be that a kill finds unwritten: the group that is being committed and the one that
gathers, on a machine whose cores are all taken and a database that is being thrown out of."""

_CUT_OFF_S: Final = 0.3
"""How long before a simulator's end an answer may have been charged that did not go out."""

_WITNESS: Final = """
CREATE TABLE chaos_seen (what text NOT NULL, id bigint NOT NULL, before text, after text);
CREATE FUNCTION chaos_result() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO chaos_seen VALUES ('result ' || lower(TG_OP), OLD.id, NULL, NULL); RETURN NULL; END $$;
CREATE TRIGGER chaos_result AFTER UPDATE OR DELETE ON results FOR EACH ROW EXECUTE FUNCTION chaos_result();
CREATE FUNCTION chaos_item() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.status <> OLD.status AND NEW.status IN ('done', 'failed') THEN
    INSERT INTO chaos_seen VALUES ('end', OLD.id, OLD.status, NEW.status); END IF;
  IF OLD.status = 'done' AND (NEW.status <> 'done' OR NEW.result_id IS DISTINCT FROM OLD.result_id) THEN
    INSERT INTO chaos_seen VALUES ('undone', OLD.id, OLD.status, NEW.status); END IF;
  RETURN NULL; END $$;
CREATE TRIGGER chaos_item AFTER UPDATE ON items FOR EACH ROW EXECUTE FUNCTION chaos_item();
"""
"""The database itself writes down every end of an item and every touch of a result."""


@dataclass(frozen=True)
class Loss:
    """A worker that was killed, or stopped for longer than its leases.

    Attributes:
        kind: ``kill`` or ``stop``.
        at: Unix seconds.
        attempts: id and item of the calls that it had marked and not settled.
    """

    kind: str
    at: float
    attempts: dict[int, int]


@dataclass
class Watch:
    """What is seen while the chaos is on.

    Attributes:
        looks: how often it was looked.
        losses: workers that were killed or stopped.
        wrong: what must never be seen.
    """

    ground: Ground
    looks: int = 0
    losses: list[Loss] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def install(self) -> None:
        """Let the database take notes."""
        with self.ground.runtime.store.write() as connection:
            connection.execute(text(_WITNESS))

    def look(self) -> JobState:
        """Hold the bill of a moment ago against the ledger of now; where the job stands."""
        self.looks += 1
        bill = self.ground.bill
        bill.read()
        billed = bill.cost_nusd
        with self.ground.runtime.store.read() as connection:
            state = get_job(connection, self.ground.job.id).state
            taken = func.sum(ledger_accounts.c.spent_nusd + ledger_accounts.c.reserved_nusd)
            day = select(taken).where(ledger_accounts.c.scope == DAY_SCOPE)
            booked = int(connection.execute(day).scalar_one())
        if booked > CAP_NUSD:
            self.wrong.append(f"during the run {booked} was spent or reserved")
        if booked < billed:
            self.wrong.append(f"during the run {booked} was spent or reserved, and {billed} billed")
        return state

    def lost(self, kind: str, pid: int, at: float) -> None:
        """Note what a worker had in hand that has just been killed or stopped."""
        query = (
            select(attempts.c.id, attempts.c.item_id)
            .join(leases, leases.c.id == attempts.c.lease_id)
            .where(
                leases.c.worker.like(f"%:{pid}:%"),
                attempts.c.latency_s.is_(None),
                attempts.c.state.in_([AttemptState.SENDING.value, AttemptState.UNKNOWN.value]),
            )
        )
        with self.ground.runtime.store.read() as connection:
            held = {row.id: row.item_id for row in connection.execute(query)}
        self.losses.append(Loss(kind, at, held))


class Books:
    """Both sides' books after a run."""

    def __init__(self, watch: Watch) -> None:
        ground = watch.ground
        ground.bill.read()
        self._watch, self._ground = watch, ground
        self.bill = sorted(ground.bill.lines, key=lambda line: line["number"])
        with ground.runtime.store.read() as connection:
            self.job = get_job(connection, ground.job.id)
            self.items = connection.execute(select(items)).all()
            self.attempts = connection.execute(select(attempts)).all()
            self.result_ids = set(connection.execute(select(results.c.id)).scalars())
            self.seen = connection.execute(text("SELECT * FROM chaos_seen")).all()
            accounts = connection.execute(select(ledger_accounts)).all()
        self.spent_nusd = sum(row.spent_nusd for row in accounts if row.scope == DAY_SCOPE)
        self.reserved_nusd = sum(row.reserved_nusd for row in accounts)
        self.statuses = Counter(row.status for row in self.items)
        self._by_request = {row.request_id: row for row in self.attempts if row.request_id}
        item_of_source = {row.source: row.id for row in self.items}
        sources = source_of_body(bind(ground.runtime, MODEL), ground.texts)
        self._item_of_body = {body: item_of_source[source] for body, source in sources.items()}

    @property
    def billed_nusd(self) -> int:
        """The simulator's bill."""
        return sum(line["cost_nusd"] or 0 for line in self.bill)

    def faults(self) -> list[str]:
        """What is wrong; empty if nothing is."""
        return [*self._items(), *self._witnessed(), *self._money(), *self._covered(), *self._wasted()]

    def classes(self) -> Counter[str]:
        """Failed items by class."""
        return Counter(row.error_class for row in self.items if row.status == "failed")

    def _items(self) -> Iterator[str]:
        if self.job.state is not JobState.DONE:
            yield f"the job is {self.job.state}: {self.job.reason or self.job.waiting_reason}"
        made: dict[int, set[str]] = defaultdict(set)
        for row in self.attempts:
            made[row.item_id].add(row.outcome)
        for item in self.items:
            if item.status == "done":
                if item.result_id not in self.result_ids:
                    yield f"item {item.id} is done without a result"
            elif item.status != "failed":
                yield f"item {item.id} is {item.status}"
            elif item.error_class not in made[item.id]:
                yield f"item {item.id} failed with {item.error_class}, which no attempt of it did"

    def _witnessed(self) -> Iterator[str]:
        ends: Counter[int] = Counter()
        for row in self.seen:
            if row.what == "end":
                ends[row.id] += row.after == "done" or row.before != "failed"
            else:
                yield f"{row.what} {row.id}: {row.before} -> {row.after}"
        for item in self.items:
            if item.status in {"done", "failed"} and ends[item.id] < 1:
                yield f"item {item.id} never ended"
        done = Counter(row.id for row in self.seen if row.what == "end" and row.after == "done")
        for item_id, times in done.items():
            if times > 1:
                yield f"item {item_id} was done {times} times"

    def _money(self) -> Iterator[str]:
        if self.spent_nusd < self.billed_nusd:
            yield f"the ledger says {self.spent_nusd}, the bill {self.billed_nusd}"
        if self.billed_nusd > CAP_NUSD or self.spent_nusd > CAP_NUSD:
            yield f"the cap is {CAP_NUSD}, {self.spent_nusd} was spent and {self.billed_nusd} billed"
        if self.spent_nusd != sum(row.cost_nusd for row in self.attempts):
            yield "the ledger is not the sum of the attempts"
        if self.reserved_nusd:
            yield f"{self.reserved_nusd} is still reserved"
        if any(row.state == AttemptState.SENDING for row in self.attempts):
            yield "attempts are still marked as sending"
        lines = {line["request_id"]: line for line in self.bill}
        if len(lines) != len(self.bill):
            yield f"{len(self.bill) - len(lines)} request ids stand twice on the bill"
        for row in self.attempts:
            if row.state == AttemptState.SETTLED and row.request_id:
                line = lines.get(row.request_id)
                billed = None if line is None else line["cost_nusd"] or 0
                if row.cost_nusd != billed:
                    yield f"attempt {row.id} settled at {row.cost_nusd}, billed at {billed}"

    def _covered(self) -> Iterator[str]:
        """Every call on the bill is some attempt's."""
        free: Counter[int] = Counter(
            row.item_id for row in self.attempts if not row.request_id and row.outcome != "not_sent"
        )
        strays = 0
        for line in self.bill:
            if line["request_id"] in self._by_request:
                continue
            item_id = self._item_of_body.get(line["body_hash"])
            if item_id is None:
                strays += 1
                continue
            free[item_id] -= 1
            if free[item_id] < 0:
                yield f"request {line['number']} for item {item_id} is no attempt's"
        if strays > sum(count for count in free.values() if count > 0):
            yield f"{strays} requests that follow up others are no attempt's"

    def wasted(self) -> list[tuple[dict[str, Any], int | None]]:
        """Calls on the bill without a fault of the vendor's that bought no result, with their items."""
        found = []
        for line in self.bill:
            if line["status"] != 200 or line["fault"] or not line["billed"] or self._cut_off(line):
                continue
            row = self._by_request.get(line["request_id"])
            if row is not None and row.id in self.result_ids:
                continue
            item_id = row.item_id if row is not None else self._item_of_body.get(line["body_hash"])
            found.append((line, item_id))
        return found

    def _cut_off(self, line: dict[str, Any]) -> bool:
        deaths = self._ground.vendor_deaths
        return any(death - _CUT_OFF_S <= line["answered_at"] <= death + _CUT_OFF_S for death in deaths)

    def _wasted(self) -> Iterator[str]:
        """Only what a killed or stopped worker had in flight, or in an unwritten group, bought nothing."""
        losses = self._watch.losses
        losses_of: dict[int, list[int]] = defaultdict(list)
        for number, loss in enumerate(losses):
            for item_id in loss.attempts.values():
                losses_of[item_id].append(number)
        in_flight: Counter[int] = Counter()
        strays = 0
        for line, item_id in self.wasted():
            if item_id is None:
                strays += 1
                continue
            lost = [losses[number] for number in losses_of[item_id]]
            if not any(line["answered_at"] >= loss.at - LONGEST_FLUSH_S for loss in lost):
                yield f"request {line['number']} for item {item_id} bought nothing {_since(line, lost)}"
            in_flight.update(
                number
                for number in losses_of[item_id]
                if line["arrived_at"] <= losses[number].at <= line["answered_at"]
            )
        for number, count in in_flight.items():
            if count > CONCURRENCY:
                yield f"{count} calls were in flight at one {losses[number].kind}"
        if strays > sum(len(loss.attempts) for loss in losses):
            yield f"{strays} calls that follow up others bought nothing"

    def show(self) -> str:
        """A line of figures."""
        wasted = self.wasted()
        kills = [len(loss.attempts) for loss in self._watch.losses if loss.kind == "kill"]
        stops = [len(loss.attempts) for loss in self._watch.losses if loss.kind == "stop"]
        return (
            f"  {len(self.items):,} items {dict(self.statuses)}, failed {dict(self.classes())};"
            f" {len(self.attempts):,} attempts, {len(self.bill):,} requests; {len(wasted)} paid calls bought"
            f" nothing, marked and unsettled at kills {kills}, at stops {stops};"
            f" bill {self.billed_nusd:,} n$, ledger {self.spent_nusd:,} n$"
        )


def _since(line: dict[str, Any], lost: Sequence[Loss]) -> str:
    if not lost:
        return "though none of its workers was lost"
    return f"{min(loss.at - line['answered_at'] for loss in lost):.1f} s before its worker was lost"
