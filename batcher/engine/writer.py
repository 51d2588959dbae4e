"""Group commits: all marks, answers and settlements of a process, in one thread and few transactions."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection

from batcher.alerts.book import raise_alert
from batcher.budget.ledger import Account, Balance, Funding, Ledger, Movement, Movements, accounts_of
from batcher.engine.booking import funding_of, funding_of_call, movement_of, overrun_alert
from batcher.engine.marks import BudgetExhaustedError, LeaseLostError, Mark
from batcher.engine.patience import OF_A_FILE_S, Patience
from batcher.store.attempts import (
    NewAttempt,
    NewResult,
    Settled,
    Settlement,
    close_leases,
    has_paid,
    insert_attempts,
    insert_results,
    settle_attempts,
)
from batcher.store.database import Store
from batcher.store.item_changes import ItemChange, change_items
from batcher.store.leases import HeldMoney, draw, find_attempts, held_leases

_log = logging.getLogger("batcher.ledger")

GROUP_INTERVAL_S: Final = 0.02
LONGEST_INTERVAL_S: Final = 0.2
"""Least time between the starts of two group commits of a busy process: a commit costs as much CPU as several
calls, and 20 ms are hidden by the calls marked ahead. Twice a commit's time if that is more."""

PATIENCE_S: Final = 60.0
"""How long a follow-up call waits for room under a cap on which nothing moves: longer than a call takes."""

_ASK_AGAIN_S: Final = 0.5


@dataclass(slots=True)
class _Asked:
    """A call that asks for leave; ``until`` (the loop's clock) if the balance stays as it was ``seen``."""

    mark: Mark
    future: asyncio.Future[None]
    seen: Balance | None = None
    until: float = math.inf


@dataclass(slots=True)
class _Group:
    """What one transaction writes."""

    marks: list[_Asked] = field(default_factory=list)
    settlements: list[Settlement] = field(default_factory=list)
    results: list[NewResult] = field(default_factory=list)
    changes: list[ItemChange] = field(default_factory=list)
    closings: list[int] = field(default_factory=list)
    done: list[asyncio.Future[None]] = field(default_factory=list)


class Writer:
    """Collects what the items of a process have to write and commits it in groups.

    While one group is being committed, and for as long again, the next one gathers, so that groups grow with
    the load and an idle process commits at once.

    A follow-up call (a repair, a retry, the next part) that a cap does not admit waits while what others hold
    in reserve may still make room for it: without it, what its item has cost so far was for nothing.
    """

    def __init__(
        self, store: Store, ledger: Ledger, thread: ThreadPoolExecutor, patience: Patience | None = None
    ) -> None:
        self._store = store
        self._patience = patience or Patience(OF_A_FILE_S)
        self._ledger = ledger
        self._thread = thread
        self._group = _Group()
        self._waiting: list[_Asked] = []
        self._ask_at = 0.0
        self._is_patient = True
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
        self._group.marks.append(_Asked(mark, future))
        self._wake.set()
        await self._result(future)

    def lose_patience(self) -> None:
        """Refuse at once what waits for room under a cap, and what would from now on."""
        self._is_patient = False
        self._ask_at = 0.0
        self._wake.set()

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
            await self._gather()
            await asyncio.sleep(max(0.0, next_at - loop.time()))
            started = loop.time()
            self._wake.clear()
            group, self._group = self._group, _Group()
            self._ask_again(group, loop.time())
            try:
                verdicts = await loop.run_in_executor(self._thread, self._commit_patiently, group)
            except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
                self.failure = error
                _fail(group, error)
                _fail(self._group, error)
                _fail(_Group(self._waiting), error)
                return
            twice_s = 2 * (loop.time() - started)
            next_at = started + max(GROUP_INTERVAL_S, min(twice_s, LONGEST_INTERVAL_S))
            for asked, verdict in zip(group.marks, verdicts, strict=True):
                if not self._must_wait(asked, verdict, loop.time()):
                    _resolve(asked.future, verdict)
            for future in group.done:
                _resolve(future, None)

    async def _gather(self) -> None:
        """Until there is something to write, or something that waits may ask again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_ASK_AGAIN_S if self._waiting else None):
                await self._wake.wait()

    def _ask_again(self, group: _Group, now: float) -> None:
        if self._waiting and now >= self._ask_at:
            group.marks[:0], self._waiting = self._waiting, []
            self._ask_at = now + _ASK_AGAIN_S

    def _must_wait(self, asked: _Asked, verdict: Exception | None, now: float) -> bool:
        """Whether a call that was refused waits for room; then it is asked for again."""
        if not isinstance(verdict, BudgetExhaustedError) or not verdict.may_pass or not self._is_patient:
            return False
        if not verdict.is_follow_up:
            # Nothing is lost with it: its item goes back on the queue, and is leased when there is room.
            return False
        if verdict.balance != asked.seen:
            asked.seen, asked.until = verdict.balance, now + PATIENCE_S
        if now >= asked.until:
            return False
        self._waiting.append(asked)
        return True

    def _commit_patiently(self, group: _Group) -> list[Exception | None]:
        tries = itertools.count()

        def commit() -> list[Exception | None]:
            is_repeated = next(tries) > 0
            with self._store.write() as connection:
                return self._commit(connection, group, is_repeated=is_repeated)

        return self._patience.keep(commit)

    def _commit(
        self, connection: Connection, group: _Group, *, is_repeated: bool = False
    ) -> list[Exception | None]:
        """Write a group. One that was tried may be there: a connection can be lost after the commit."""
        self._ledger.lock(connection, brief=True)
        now = self._store.now(connection)
        movements = Movements()
        if group.settlements:
            settled = settle_attempts(connection, group.settlements)
            for one in settled:
                movements.add(funding_of(one.reserved), movement_of(one))
            self._tell_of_overruns(connection, settled, now)
        if group.results:
            insert_results(connection, group.results, now)
        if group.changes:
            change_items(connection, group.changes, now)
        if group.closings:
            for unused in close_leases(connection, group.closings):
                movements.add(funding_of(unused), Movement(-unused.reserved_nusd, 0))
        self._ledger.move(connection, movements)
        marks = [asked.mark for asked in group.marks]
        standing = find_attempts(connection, [mark.attempt_id for mark in marks]) if is_repeated else set()
        return self._mark(connection, marks, standing, now)

    def _tell_of_overruns(self, connection: Connection, settled: Sequence[Settled], now: float) -> None:
        """Raise an alert for calls that cost more than was reserved: what was said to be impossible."""
        for one in settled:
            if (alert := overrun_alert(one)) is not None:
                _log.error("%s. %s", alert.title, alert.body)
                raise_alert(connection, alert, self._ledger.today(connection), now)

    def _mark(
        self, connection: Connection, marks: Sequence[Mark], standing: Collection[int], now: float
    ) -> list[Exception | None]:
        if not marks:
            return []
        today = self._ledger.today(connection)
        leases = held_leases(connection, list({mark.lease_id for mark in marks}), now)
        drawn: dict[int, int] = defaultdict(int)
        lent_elsewhere = Movements()
        verdicts: list[Exception | None] = []
        admitted: list[NewAttempt] = []
        for mark in marks:
            if mark.attempt_id in standing:
                # Whether its lease is still held, the fence of the call itself looks at again.
                verdicts.append(None)
                continue
            lease = leases.get(mark.lease_id)
            if lease is None:
                verdicts.append(LeaseLostError())
                continue
            own, lent_nusd = funding_of_call(mark, lease, lease.reserved_nusd - drawn[mark.lease_id], today)
            refused = self._fund(connection, mark, own, lease, lent_nusd, lent_elsewhere)
            verdicts.append(refused)
            if refused is None:
                drawn[mark.lease_id] += lent_nusd
                admitted.append(_attempt(mark, own.day, now))
        draw(connection, {lease_id: amount for lease_id, amount in drawn.items() if amount})
        self._ledger.move(connection, lent_elsewhere)
        if admitted:
            insert_attempts(connection, admitted)
        return verdicts

    def _fund(
        self,
        connection: Connection,
        mark: Mark,
        own: Funding,
        lease: HeldMoney,
        lent_nusd: int,
        lent_elsewhere: Movements,
    ) -> BudgetExhaustedError | None:
        """Put a call's reservation on its accounts, as far as its lease's is not there already."""
        of_lease = funding_of(lease)
        if own == of_lease and lent_nusd == mark.reserved_nusd:
            return None
        lending = set(accounts_of(of_lease)) if lent_nusd else set()
        fresh = {
            account: mark.reserved_nusd - (lent_nusd if account in lending else 0)
            for account in accounts_of(own)
        }
        blocking = self._ledger.reserve_each(connection, list(fresh.items()))
        if blocking is None:
            for account in lending - fresh.keys():
                lent_elsewhere.add_to(account, Movement(-lent_nusd, 0))
            return None
        return self._refusal(connection, mark, blocking, fresh[blocking])

    def _refusal(
        self, connection: Connection, mark: Mark, blocking: Account, fresh_nusd: int
    ) -> BudgetExhaustedError:
        [balance] = self._ledger.balances(connection, [blocking])
        own_nusd = mark.reserved_nusd - fresh_nusd
        return BudgetExhaustedError(
            mark,
            balance,
            fresh_nusd,
            is_follow_up=has_paid(
                connection, mark.item_id, mark.lease_id, mark.model if mark.climbs else None
            ),
            may_pass=balance.reserved_nusd > own_nusd and balance.would_admit(mark.reserved_nusd),
        )


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
    for asked in group.marks:
        _resolve(asked.future, error)
    for future in group.done:
        _resolve(future, error)
