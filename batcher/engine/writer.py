"""Group commits: all marks, answers and settlements of a process, in one thread and few transactions."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from sqlalchemy import Connection

from batcher.budget.ledger import Account, Ledger, Movement, Movements, accounts_of
from batcher.domain import AttemptState, Prices, Purpose
from batcher.errors import DependencyError
from batcher.store.attempts import (
    ItemChange,
    NewAttempt,
    NewResult,
    Settlement,
    change_items,
    close_leases,
    insert_attempts,
    insert_results,
    settle_attempts,
)
from batcher.store.database import Store
from batcher.store.leases import LeaseBalance, draw, held_leases

COMMIT_TRIES = 5
"""How often a group commit is tried while the database cannot be reached, with pauses of 0.2 s to 3.2 s."""


GROUP_INTERVAL_S = 0.02
"""Least time between the starts of two group commits of a busy process: a commit costs as much CPU as several
calls, and 20 ms are hidden by the calls that are marked ahead of the wire."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Asks for leave to send one call: its attempt is committed first, under a reservation."""

    attempt_id: int
    item_id: int
    job_id: int
    lease_id: int
    purpose: Purpose
    part: int
    tier: str
    model: str
    provider: str
    reserved_nusd: int
    prices: Prices


class LeaseLostError(Exception):
    """The chunk is no longer this worker's: nothing may be sent for it."""


class BudgetExhaustedError(Exception):
    """No cap admits the call now. ``account`` is the one in the way."""

    def __init__(self, account: Account, needed_nusd: int) -> None:
        super().__init__(account.scope)
        self.account = account
        self.needed_nusd = needed_nusd


@dataclass(slots=True)
class _Group:
    """What one transaction writes."""

    marks: list[tuple[Mark, asyncio.Future[None]]] = field(default_factory=list)
    settlements: list[Settlement] = field(default_factory=list)
    results: list[NewResult] = field(default_factory=list)
    changes: list[ItemChange] = field(default_factory=list)
    closings: list[int] = field(default_factory=list)
    done: list[asyncio.Future[None]] = field(default_factory=list)


class Writer:
    """Collects what the items of a process have to write and commits it in groups.

    While one group is being committed, and for at least 20 ms, the next one gathers, so that groups grow with
    the load and an idle process commits at once.
    """

    def __init__(self, store: Store, ledger: Ledger, thread: ThreadPoolExecutor) -> None:
        self._store = store
        self._ledger = ledger
        self._thread = thread
        self._group = _Group()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.failure: Exception | None = None

    def start(self) -> None:
        """Begin committing."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Commit what has gathered, then end."""
        if self._task is None:
            return
        try:
            await self.flush()
        finally:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def mark(self, mark: Mark) -> None:
        """Commit an attempt as sending. Returns when it is durable.

        Raises:
            LeaseLostError: if the chunk was given to another worker; do not send.
            BudgetExhaustedError: if no reservation can be had; do not send.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._group.marks.append((mark, future))
        self._wake.set()
        await self._result(future)

    def settle(
        self, settlement: Settlement, *, result: NewResult | None = None, change: ItemChange | None = None
    ) -> None:
        """Queue what became of an attempt, with the answer and the item's new status: one transaction."""
        self._group.settlements.append(settlement)
        if result is not None:
            self._group.results.append(result)
        if change is not None:
            self._group.changes.append(change)
        self._wake.set()

    def change(self, change: ItemChange) -> None:
        """Queue an item's new status."""
        self._group.changes.append(change)
        self._wake.set()

    def close_lease(self, lease_id: int) -> None:
        """Queue the end of a chunk; what its reservation did not use is released."""
        self._group.closings.append(lease_id)
        self._wake.set()

    async def flush(self) -> None:
        """Return when everything queued so far is durable."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._group.done.append(future)
        self._wake.set()
        await self._result(future)

    async def _result(self, future: asyncio.Future[None]) -> None:
        if self.failure is not None:
            raise self.failure
        await future

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        next_at = loop.time()
        while True:
            await self._wake.wait()
            await asyncio.sleep(max(0.0, next_at - loop.time()))
            next_at = loop.time() + GROUP_INTERVAL_S
            self._wake.clear()
            group, self._group = self._group, _Group()
            try:
                verdicts = await loop.run_in_executor(self._thread, self._commit_patiently, group)
            except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
                self.failure = error
                _fail(group, error)
                _fail(self._group, error)
                return
            for (_, future), verdict in zip(group.marks, verdicts, strict=True):
                _resolve(future, verdict)
            for future in group.done:
                _resolve(future, None)

    def _commit_patiently(self, group: _Group) -> list[Exception | None]:
        import time

        for tried in range(COMMIT_TRIES):
            try:
                with self._store.write() as connection:
                    return self._commit(connection, group)
            except DependencyError:
                if tried == COMMIT_TRIES - 1:
                    raise
                time.sleep(0.2 * 2**tried)
        raise AssertionError

    def _commit(self, connection: Connection, group: _Group) -> list[Exception | None]:
        now = self._store.now(connection)
        movements = Movements()
        if group.settlements:
            for settled in settle_attempts(connection, group.settlements):
                worst = settled.reserved_nusd
                sending = settled.before is AttemptState.SENDING
                movement = (
                    Movement(-worst, settled.cost_nusd) if sending else Movement(0, settled.cost_nusd - worst)
                )
                movements.add(settled.job_id, settled.day, movement)
        if group.results:
            insert_results(connection, group.results, now)
        if group.changes:
            change_items(connection, group.changes)
        if group.closings:
            for job_id, day, unused_nusd in close_leases(connection, group.closings):
                movements.add(job_id, day, Movement(-unused_nusd, 0))
        self._ledger.move(connection, movements)
        return self._mark(connection, [mark for mark, _ in group.marks], now)

    def _mark(self, connection: Connection, marks: Sequence[Mark], now: float) -> list[Exception | None]:
        if not marks:
            return []
        today = self._ledger.today(connection)
        leases = held_leases(connection, list({mark.lease_id for mark in marks}), now)
        drawn: dict[int, int] = defaultdict(int)
        verdicts: list[Exception | None] = []
        admitted: list[NewAttempt] = []
        for mark in marks:
            lease = leases.get(mark.lease_id)
            if lease is None:
                verdicts.append(LeaseLostError())
                continue
            left = lease.reserved_nusd - drawn[mark.lease_id]
            day, from_lease, fresh = _funding(mark.reserved_nusd, left, lease, today)
            blocking = self._ledger.reserve(connection, accounts_of(mark.job_id, day), fresh)
            if blocking is not None:
                verdicts.append(BudgetExhaustedError(blocking, fresh))
                continue
            drawn[mark.lease_id] += from_lease
            admitted.append(_attempt(mark, day, now))
            verdicts.append(None)
        draw(connection, {lease_id: amount for lease_id, amount in drawn.items() if amount})
        if admitted:
            insert_attempts(connection, admitted)
        return verdicts


def _funding(needed: int, left: int, lease: LeaseBalance, today: str) -> tuple[str, int, int]:
    """Which day a call is booked on, what it takes from its lease, and what must be reserved afresh."""
    if needed <= left:
        return lease.day, needed, 0
    if lease.day == today:
        return today, left, needed - left
    return today, 0, needed


def _attempt(mark: Mark, day: str, now: float) -> NewAttempt:
    return NewAttempt(
        id=mark.attempt_id,
        item_id=mark.item_id,
        job_id=mark.job_id,
        lease_id=mark.lease_id,
        purpose=mark.purpose,
        part=mark.part,
        tier=mark.tier,
        model=mark.model,
        provider=mark.provider,
        day=day,
        reserved_nusd=mark.reserved_nusd,
        prices=mark.prices,
        sent_at=now,
    )


def _resolve(future: asyncio.Future[None], verdict: Exception | None) -> None:
    if future.done():
        return
    if verdict is None:
        future.set_result(None)
    else:
        future.set_exception(verdict)


def _fail(group: _Group, error: Exception) -> None:
    for _, future in group.marks:
        _resolve(future, error)
    for future in group.done:
        _resolve(future, error)
