"""The ledger as a state machine, on SQLite and PostgreSQL, held against a plain model after every step.

Chunks are leased, calls marked and settled, leases closed, lost and taken back by the functions that a run
uses; in between caps change, days pass, the clock is set back and the time zone is another. No interleaving
of them admits a reservation over a cap in force, and no nano-dollar is lost: what stands on every account is
what the model says, and what the stored attempts and leases add up to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, select, update

from batcher.budget.ledger import Account, Funding, Ledger, accounts_of
from batcher.domain import AttemptState, Purpose
from batcher.engine.fitting import Shortage
from batcher.engine.lane import LaneFactory
from batcher.engine.leasing import Chunk, Leaser
from batcher.engine.marks import BudgetExhaustedError, LeaseLostError, Mark
from batcher.engine.reclaiming import reclaim_lost
from batcher.engine.writer import Writer, _Asked, _Group
from batcher.runtime import Runtime
from batcher.store.attempts import SEQUENCE_BITS, Settlement
from batcher.store.database import Store
from batcher.store.leases import QueuedItem
from batcher.store.tables import (
    caps,
    items,
    leases,
    ledger_accounts,
    ledger_clock,
    metadata,
)
from tests.contract.conftest import Clock
from tests.support.ledger_model import (
    Books,
    Call,
    Lent,
    given_back,
    pending_items,
    sums_of_rows,
    two_vendors,
)
from tests.support.runs import make_job

NOWHERE = "http://127.0.0.1:9"
ZONES = ("UTC", "Asia/Tokyo", "America/Los_Angeles", "Pacific/Kiritimati")
SCOPES = ("day", "tier:economy", "tier:premium", "provider:openai", "provider:together", "task:verdict")
AMOUNTS = st.one_of(st.none(), st.integers(0, 4_000_000), st.integers(300_000, 1_500_000))
PICK = st.integers(0, 10**6)
PERCENT = st.one_of(st.integers(1, 100), st.integers(1, 1_000))
MARKS = st.lists(st.tuples(PICK, st.integers(0, 5), st.booleans(), PERCENT), min_size=1, max_size=6)
SETTLED = st.lists(st.tuples(PICK, st.integers(0, 100), st.booleans()), min_size=1, max_size=4)
LEASE_S = 40 * 3600.0


class LedgerMachine(RuleBasedStateMachine):
    """One store, emptied at the start."""

    runtime: Runtime
    clock: Clock
    lanes: LaneFactory
    pool: ThreadPoolExecutor

    def __init__(self) -> None:
        super().__init__()
        self.store = self.runtime.store
        self.clock.now = 1795176000.0
        with self.store.write() as connection:
            for table in metadata.sorted_tables:
                connection.execute(delete(table))
        self.books = Books()
        self.calls: dict[int, Call] = {}
        self.lent: dict[int, Lent] = {}
        self.day = ""
        self.change_zone("UTC")
        texts = {f"d{number}": f"{number} " * (1 + 30 * number) for number in range(24)}
        other = {f"e{number}": f"e{number} " * (1 + 50 * number) for number in range(8)}
        ladder = ("economy", "premium")
        self.jobs = [make_job(self.runtime, given, model=None, ladder=ladder).id for given in (texts, other)]
        with self.store.write() as connection:
            climbed = ("d1", "d6", "d11", "d16", "e2", "e5")
            connection.execute(update(items).where(items.c.source.in_(climbed)).values(tier="premium"))
        for job_id in self.jobs:
            self.books.cap_of[Account(f"job:{job_id}", "")] = None

    def teardown(self) -> None:
        self.leaser = None  # type: ignore[assignment]

    # -- what happens in the world -------------------------------------------------------------------------

    @rule(zone=st.sampled_from(ZONES))
    def change_zone(self, zone: str) -> None:
        self.ledger = Ledger(self.store, zone)
        self.runtime.__dict__["ledger"] = self.ledger
        self.leaser = Leaser(self.store, self.ledger, self.lanes, lease_s=LEASE_S)
        self.writer = Writer(self.store, self.ledger, self.pool)

    @rule(hours=st.sampled_from((-30, -3, 1, 5, 24)))
    def pass_time(self, hours: int) -> None:
        self.clock.now += hours * 3600

    @rule(scope=st.sampled_from(SCOPES), cap=AMOUNTS)
    def set_cap(self, scope: str, cap: int | None) -> None:
        with self.store.write() as connection:
            self.ledger.lock(connection)
            self.ledger.set_cap(connection, scope, cap)
        day = self._today()
        self.books.caps[scope] = cap
        self.books.cap_of[Account(scope, day)] = cap

    @rule(which=st.integers(0, 1), cap=AMOUNTS)
    def set_job_cap(self, which: int, cap: int | None) -> None:
        with self.store.write() as connection:
            self.ledger.lock(connection)
            self.ledger.set_job_cap(connection, self.jobs[which], cap)
        self.books.cap_of[Account(f"job:{self.jobs[which]}", "")] = cap

    @precondition(lambda self: self.lent)
    @rule(pick=PICK)
    def lose_a_worker(self, pick: int) -> None:
        """It renews its lease no more, and its calls are never heard of; or later than anybody waits."""
        lease_id = self._lease_id(pick)
        self.lent[lease_id].expires_at = self.clock.now
        with self.store.write() as connection:
            gone = update(leases).where(leases.c.id == lease_id).values(expires_at=self.clock.now)
            connection.execute(gone)
        self.take_back_lost_leases()

    @rule()
    def take_back_lost_leases(self) -> None:
        taken = reclaim_lost(self.store, self.ledger)
        lost = {
            lease_id: lent
            for lease_id, lent in self.lent.items()
            if lent.is_active and lent.expires_at <= self.clock.now
        }
        assert taken == len(lost)
        for lease_id, lent in lost.items():
            lent.is_active = False
            self.books.move(lent.funding, -lent.left, 0)
            lent.left = 0
            for call_id, call in self.calls.items():
                if call_id >> SEQUENCE_BITS == lease_id and call.state is AttemptState.SENDING:
                    self.books.move(call.funding, -call.reserved, call.reserved)
                    call.state, call.spent = AttemptState.UNKNOWN, call.reserved

    # -- what a worker does --------------------------------------------------------------------------------

    @rule(limit=st.integers(1, 4), which=st.sampled_from(((0,), (1,), (0, 1))))
    def lease(self, limit: int, which: tuple[int, ...]) -> None:
        outcome = self.leaser.lease(limit, [self.jobs[number] for number in which], None)
        if outcome is None:
            assert pending_items(self.store, [self.jobs[number] for number in which]) == []
            return
        day = self._today()
        if isinstance(outcome, Chunk):
            funding = self._funding(outcome.lane.job.id, outcome.lane.tier, day)
            amount = sum(outcome.lane.first.item_reservation_nusd(item) for item in outcome.items)
            assert 0 < len(outcome.items) <= limit
            for account in accounts_of(funding):
                self.books.reserve(account, amount)
            self.lent[outcome.lease_id] = Lent(funding, outcome.items, amount, self.clock.now + LEASE_S)
            return
        for shortage in self.leaser.shortages.lanes.values():
            self._check_shortage(shortage, day)

    @precondition(lambda self: self.lent)
    @rule(marks=MARKS, settled=SETTLED, closed=st.none() | PICK)
    def commit(
        self,
        marks: list[tuple[int, int, bool, int]],
        settled: list[tuple[int, int, bool]],
        closed: int | None,
    ) -> None:
        """A group commit: settlements, then closings, then marks, in one transaction."""
        asked = [self._mark(*given) for given in marks]
        group = _Group(marks=[_Asked(mark, asyncio.Future(loop=_LOOP)) for mark in asked])
        for pick, percent, is_unknown in settled:
            self._settle(group, pick, percent, is_unknown=is_unknown)
        if closed is not None:
            self._close(group, self._lease_id(closed))
        with self.store.write() as connection:
            verdicts = self.writer._commit(connection, group)
        day = self._today() if asked else self.day
        lent_elsewhere: list[tuple[Account, int]] = []
        for mark, verdict in zip(asked, verdicts, strict=True):
            self._check_mark(mark, verdict, day, lent_elsewhere)
        for account, amount in lent_elsewhere:
            self.books.reserved[account] -= amount

    @rule(limit=st.integers(1, 4), marks=MARKS, settled=SETTLED)
    def lease_and_send(
        self, limit: int, marks: list[tuple[int, int, bool, int]], settled: list[tuple[int, int, bool]]
    ) -> None:
        """What a worker mostly does."""
        self.lease(limit, (0, 1))
        if self.lent:
            self.commit(marks, [], None)
            self.commit([], settled, None)

    # -- the model's side of it ----------------------------------------------------------------------------

    def _funding(self, job_id: int, tier: str, day: str, provider: str | None = None) -> Funding:
        first = self.runtime.catalog.models[self.runtime.catalog.tiers[tier][0]]
        return Funding(job_id, "verdict", tier, provider or first.provider, day)

    def _today(self) -> str:
        """The ledger's day after a step that had to know it: it never goes back."""
        with self.store.read() as connection:
            day = self.ledger.current_day(connection)
            stored = connection.execute(select(ledger_clock.c.last_day)).scalar_one()
        assert day == stored >= self.day
        self.day = day
        self.books.cap_of.setdefault(Account("day", day), self.books.cap(Account("day", day)))
        return day

    def _lease_id(self, pick: int) -> int:
        """Mostly one that is active, now and then any."""
        active = [lease_id for lease_id, lent in self.lent.items() if lent.is_active]
        known = list(self.lent) if pick % 5 == 0 or not active else active
        return known[pick // 5 % len(known)]

    def _mark(self, pick: int, number: int, is_stand_in: bool, percent: int) -> Mark:
        lease_id = self._lease_id(pick)
        lent = self.lent[lease_id]
        item = lent.items[number % len(lent.items)]
        model = self.runtime.catalog.models[self.runtime.catalog.tiers[item.tier][is_stand_in]]
        lane = self.lanes.lane(self.leaser._jobs.get(item.job_id) or self._job(item.job_id), item.tier)
        lent.sequence += 1
        return Mark(
            attempt_id=(lease_id << SEQUENCE_BITS) | lent.sequence,
            item_id=item.id,
            job_id=item.job_id,
            lease_id=lease_id,
            purpose=Purpose.ANSWER,
            part=0,
            tier=item.tier,
            model=model.name,
            provider=model.provider,
            reserved_nusd=lane.first.item_reservation_nusd(item) * percent // 100,
            prices=model.prices,
        )

    def _job(self, job_id: int) -> Any:
        from batcher.store.jobs import get_job

        with self.store.read() as connection:
            return get_job(connection, job_id)

    def _settle(self, group: _Group, pick: int, percent: int, *, is_unknown: bool) -> None:
        """Any attempt, also one that was settled already or given up; never twice in one group."""
        told = {settlement.attempt_id for settlement in group.settlements}
        known = [call_id for call_id in self.calls if call_id not in told]
        if not known:
            return
        call_id = known[pick % len(known)]
        call = self.calls[call_id]
        state = AttemptState.UNKNOWN if is_unknown else AttemptState.SETTLED
        cost = call.reserved if is_unknown else call.reserved * percent // 100
        group.settlements.append(Settlement(call_id, state, cost, "ok"))
        if call.state is AttemptState.SETTLED or call.state is state:
            return
        was_sending = call.state is AttemptState.SENDING
        self.books.move(call.funding, -call.reserved if was_sending else 0, cost - call.spent)
        call.state, call.spent = state, cost

    def _close(self, group: _Group, lease_id: int) -> None:
        lent = self.lent[lease_id]
        group.closings.append(lease_id)
        group.changes += [given_back(item, lease_id) for item in lent.items]
        if lent.is_active:
            self.books.move(lent.funding, -lent.left, 0)
            lent.is_active, lent.left = False, 0

    def _check_mark(
        self, mark: Mark, verdict: Exception | None, day: str, lent_elsewhere: list[tuple[Account, int]]
    ) -> None:
        lent = self.lent[mark.lease_id]
        is_held = lent.is_active and lent.expires_at > self.clock.now
        assert isinstance(verdict, LeaseLostError) is not is_held
        if not is_held:
            return
        needed = mark.reserved_nusd
        on_day = lent.funding.day if needed <= lent.left else day
        own = self._funding(mark.job_id, mark.tier, on_day, mark.provider)
        from_lease = min(needed, lent.left) if on_day == lent.funding.day else 0
        covered = accounts_of(lent.funding) if from_lease else ()
        fresh = {account: needed - (from_lease if account in covered else 0) for account in accounts_of(own)}
        fits = all(self.books.admits(account, amount) for account, amount in fresh.items())
        assert (verdict is None) is fits
        if isinstance(verdict, BudgetExhaustedError):
            assert not self.books.admits(verdict.balance.account, verdict.needed_nusd)
            for account, amount in fresh.items():
                # Looking at an account opens it, whatever came of it.
                if amount:
                    self.books.cap_of.setdefault(account, self.books.cap(account))
                if account == verdict.balance.account:
                    break
            return
        for account, amount in fresh.items():
            if amount:
                self.books.reserve(account, amount)
        lent_elsewhere += [(account, from_lease) for account in covered if account not in fresh]
        lent.left -= from_lease
        self.calls[mark.attempt_id] = Call(own, needed)

    def _check_shortage(self, shortage: Shortage, day: str) -> None:
        """Nothing that is pending there would have fitted."""
        accounts = accounts_of(self._funding(shortage.job_id, shortage.tier, day))
        waiting = pending_items(self.store, [shortage.job_id], shortage.tier)
        costs = {item: self._cost(shortage.job_id, shortage.tier, item) for item in waiting}
        assert shortage.needed_nusd == min(costs.values())
        assert not all(self.books.admits(account, shortage.needed_nusd) for account in accounts)
        blocking = [account for account in accounts if not self.books.admits(account, shortage.needed_nusd)]
        assert [balance.account for balance in shortage.blocking] == blocking

    def _cost(self, job_id: int, tier: str, item: tuple[int, int]) -> int:
        lane = self.lanes.lane(self._job(job_id), tier)
        queued = QueuedItem(item[1], job_id, "", tier, b"", b"", 0, item[0], 0, b"")
        return lane.first.item_reservation_nusd(queued)

    # -- what always holds ---------------------------------------------------------------------------------

    @invariant()
    def accounts_are_what_the_model_says(self) -> None:
        with self.store.read() as connection:
            found = connection.execute(select(ledger_accounts)).all()
        stored = {Account(row.scope, row.period): row for row in found}
        for account, row in stored.items():
            assert row.reserved_nusd == self.books.reserved[account]
            assert row.spent_nusd == self.books.spent[account]
            # An account keeps the cap that it was opened with until one is set, also on a day that is over.
            assert row.cap_nusd == self.books.cap_of.setdefault(account, self.books.cap(account))
        for account in self.books.reserved.keys() | self.books.spent.keys():
            if self.books.reserved[account] or self.books.spent[account]:
                assert account in stored

    @invariant()
    def accounts_are_what_attempts_and_leases_add_up_to(self) -> None:
        with self.store.read() as connection:
            reserved, spent = sums_of_rows(connection)
            stored = connection.execute(select(ledger_accounts)).all()
        for row in stored:
            account = Account(row.scope, row.period)
            assert (row.reserved_nusd, row.spent_nusd) == (reserved[account], spent[account])

    @invariant()
    def caps_are_those_that_were_set(self) -> None:
        with self.store.read() as connection:
            stored = {row.scope: row.cap_nusd for row in connection.execute(select(caps))}
        assert stored == self.books.caps


_LOOP = asyncio.new_event_loop()


@pytest.fixture
def machine(tmp_path: Path, store: Store, clock: Clock) -> Iterator[type[LedgerMachine]]:
    runtime = two_vendors(tmp_path / "home", store)
    given_lanes = LaneFactory(
        runtime.catalog, runtime.provider, runtime.account, runtime.is_usable, lambda _: None, timeout_s=5
    )
    given_runtime, given_clock = runtime, clock
    with ThreadPoolExecutor(1) as given_pool:

        class Machine(LedgerMachine):
            runtime = given_runtime
            clock = given_clock
            lanes = given_lanes
            pool = given_pool

        yield Machine


def test_no_interleaving_passes_a_cap_or_loses_a_nano_dollar(machine: type[LedgerMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
