"""Leasing a chunk and reserving its worst case: one transaction. Taking lost chunks back: another."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil
from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from batcher.budget.ledger import Account, Ledger, Movement, Movements, accounts_of
from batcher.domain import Image, JobState
from batcher.engine.lane import Lane
from batcher.errors import ConfigurationError
from batcher.store.database import Store
from batcher.store.jobs import Job, get_job, list_job_ids
from batcher.store.leases import (
    NewLease,
    QueuedItem,
    active_workers,
    finish_answered,
    next_items,
    open_lease,
    take_lost,
)
from batcher.store.results import find_results
from batcher.store.tables import document_images

_RACES = 3
"""How often a lease is tried again when another worker took a twin of its items or the last of the budget."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The items of one lease, all of one lane."""

    lease_id: int
    lane: Lane
    items: tuple[QueuedItem, ...]


@dataclass(frozen=True, slots=True)
class Shortage:
    """Work is waiting, but a cap does not admit even the smallest item of it."""

    job_id: int
    account: Account
    needed_nusd: int


def worker_name() -> str:
    """``host:pid:start``: tells on this host whether a lease's owner still lives."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def is_dead(worker: str) -> bool:
    """Whether a worker of this host has ended; one of another host is never known to be dead."""
    host, pid, started = worker.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(pid))
        return process.status() == psutil.STATUS_ZOMBIE or f"{process.create_time():.2f}" != started
    except psutil.NoSuchProcess:
        return True


class Leaser:
    """Takes chunks out of the store.

    Args:
        store: the store.
        ledger: where the worst case is reserved.
        get_lane: the lane of a job on a tier.
        lease_s: seconds until an unrenewed lease expires.

    Attributes:
        blocked: by job, why a lane of it takes no work; its items stay pending.
    """

    def __init__(
        self, store: Store, ledger: Ledger, get_lane: Callable[[Job, str], Lane], lease_s: float
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._get_lane = get_lane
        self._lease_s = lease_s
        self._worker = worker_name()
        self._jobs: dict[int, Job] = {}
        self.blocked: dict[int, str] = {}

    def lease(
        self, limit: int, job_ids: Sequence[int] | None, tiers: Sequence[str] | None
    ) -> Chunk | Shortage | None:
        """The next chunk of at most ``limit`` items, a shortage, or None when nothing is ready.

        Args:
            limit: items at most.
            job_ids: only these jobs; None for all that are running.
            tiers: only these tiers; None for all.
        """
        for _ in range(_RACES):
            try:
                with self._store.write() as connection:
                    return self._lease(connection, limit, job_ids, tiers)
            except IntegrityError:
                continue
        return None

    def _lease(
        self, connection: Connection, limit: int, job_ids: Sequence[int] | None, tiers: Sequence[str] | None
    ) -> Chunk | Shortage | None:
        now = self._store.now(connection)
        shortage: Shortage | None = None
        for job_id in list_job_ids(connection, JobState.RUNNING, job_ids):
            job = self._job(connection, job_id)
            outcome = self._lease_of_job(connection, job, now, limit, tiers)
            if isinstance(outcome, Chunk):
                return outcome
            shortage = shortage or outcome
        return shortage

    def _lease_of_job(
        self, connection: Connection, job: Job, now: float, limit: int, tiers: Sequence[str] | None
    ) -> Chunk | Shortage | None:
        unusable: list[str] = []
        while queued := next_items(connection, job.id, now, limit, tiers, unusable):
            lane = self._usable_lane(job, queued[0].tier)
            if lane is None:
                unusable.append(queued[0].tier)
                continue
            answered = find_results(
                connection, [item.result_key for item in queued], job.accepts, job.refresh_key
            )
            if not answered:
                return self._reserve_and_open(connection, lane, queued, now)
            finish_answered(
                connection,
                [(item.id, answered[item.result_key]) for item in queued if item.result_key in answered],
            )
        return None

    def _usable_lane(self, job: Job, tier: str) -> Lane | None:
        try:
            lane = self._get_lane(job, tier)
        except ConfigurationError as error:
            self.blocked[job.id] = str(error)
            return None
        if lane.stopped is not None:
            self.blocked[job.id] = lane.stopped
            return None
        return lane

    def _reserve_and_open(
        self, connection: Connection, lane: Lane, queued: Sequence[QueuedItem], now: float
    ) -> Chunk | Shortage:
        day = self._ledger.today(connection)
        accounts = accounts_of(lane.job.id, day)
        costs = [lane.first.item_reservation_nusd(item) for item in queued]
        for _ in range(_RACES):
            count = _fitting(costs, self._ledger.room_nusd(connection, accounts))
            if count == 0:
                break
            if self._ledger.reserve(connection, accounts, sum(costs[:count])) is None:
                return self._open(connection, lane, queued[:count], sum(costs[:count]), day, now)
        smallest = min(costs)
        blocking = next(
            (
                balance.account
                for balance in self._ledger.balances(connection, accounts)
                if balance.room_nusd is not None and balance.room_nusd < smallest
            ),
            accounts[0],
        )
        return Shortage(lane.job.id, blocking, smallest)

    def _open(
        self,
        connection: Connection,
        lane: Lane,
        queued: Sequence[QueuedItem],
        reserved_nusd: int,
        day: str,
        now: float,
    ) -> Chunk:
        new = NewLease(lane.job.id, lane.tier, self._worker, day, reserved_nusd, now + self._lease_s)
        ids = [item.id for item in queued]
        lease_id = open_lease(connection, new, ids)
        return Chunk(lease_id, lane, tuple(queued))

    def _job(self, connection: Connection, job_id: int) -> Job:
        if job_id not in self._jobs:
            self._jobs[job_id] = get_job(connection, job_id)
        return self._jobs[job_id]


def reclaim_lost(store: Store, ledger: Ledger) -> int:
    """Take back the chunks of workers that are gone; returns how many chunks.

    What was marked as sending stays on the books as spent at its worst case, what was reserved and never
    marked is released.
    """
    with store.read() as connection:
        dead = [lease_id for lease_id, worker in active_workers(connection) if is_dead(worker)]
        now = store.now(connection)
    with store.write() as connection:
        lost = take_lost(connection, now, dead)
        movements = Movements()
        for lease in lost:
            movements.add(lease.job_id, lease.day, Movement(-lease.reserved_nusd, 0))
            for attempt in lease.attempts:
                worst = attempt.reserved_nusd
                movements.add(attempt.job_id, attempt.day, Movement(-worst, worst))
        ledger.move(connection, movements)
    return len(lost)


def _fitting(costs: Sequence[int], room_nusd: int | None) -> int:
    """How many of the first items fit into the room."""
    if room_nusd is None:
        return len(costs)
    total = 0
    for count, cost in enumerate(costs):
        total += cost
        if total > room_nusd and cost > 0:
            return count
    return len(costs)


def read_images(store: Store, document_hash: bytes) -> tuple[Image, ...]:
    """The pages or the picture of a document of images."""
    query = (
        select(document_images)
        .where(document_images.c.hash == document_hash)
        .order_by(document_images.c.page)
    )
    with store.read() as connection:
        return tuple(Image(row.mime, row.data, row.width, row.height) for row in connection.execute(query))
