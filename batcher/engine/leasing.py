"""Leasing a chunk and reserving its worst case: one transaction."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from batcher.budget.ledger import Funding, Ledger, accounts_of, least_room
from batcher.engine.fitting import Floor, Shortage, cheapest_of, shortage_of, that_fit
from batcher.engine.lane import Lane, LaneFactory, NoLaneError
from batcher.engine.reclaiming import release
from batcher.engine.routes import Lesson, Routes
from batcher.engine.shortages import Shortages
from batcher.errors import ConfigurationError, StoreAwayError
from batcher.store.database import Store
from batcher.store.jobs import Job, get_job
from batcher.store.leases import (
    NewLease,
    QueuedItem,
    active_workers,
    finish_answered,
    open_lease,
    pending_tiers,
    smallest_items,
    take_lost,
)
from batcher.store.results import find_results
from batcher.store.turns import in_turn, workable_job_ids
from batcher.store.worker_names import worker_name

_RACES: Final = 3
"""How often a lease is tried again when another worker took a twin of its items."""

_SEARCH_PAUSE_S: Final = 1.0
_SEARCH_SHARE: Final = 20
"""Looking through all pending items for the one that costs least may take a twentieth of the time."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The items of one lease, all of one lane."""

    lease_id: int
    lane: Lane
    items: tuple[QueuedItem, ...]


class Leaser:
    """Takes chunks out of the store.

    Args:
        store: the store.
        ledger: where the worst case is reserved.
        lanes: makes the lanes of jobs and tiers.
        lease_s: seconds until an unrenewed lease expires.

    Attributes:
        blocked: by job, why a lane of it takes no work; its items stay pending.
        unusable: those of them whose models this process has no key for.
        shortages: what caps keep from being leased.
    """

    def __init__(self, store: Store, ledger: Ledger, lanes: LaneFactory, lease_s: float) -> None:
        self._store = store
        self._ledger = ledger
        self._lanes = lanes
        self._lease_s = lease_s
        self._worker = worker_name()
        self._jobs: dict[int, Job] = {}
        self._floors: dict[tuple[int, str], Floor] = {}
        self._impossible: set[tuple[int, str, bool]] = set()
        self._routes = Routes(lanes)
        self._is_in_doubt = False
        self._newest_id = 0
        self.blocked: dict[int, str] = {}
        self.unusable: set[int] = set()
        self.shortages = Shortages(store, ledger)

    def lease(
        self,
        limit: int,
        job_ids: Sequence[int] | None,
        tiers: Sequence[str] | None,
        *,
        thorough: bool = True,
    ) -> Chunk | Shortage | None:
        """The next chunk of at most ``limit`` items, a shortage, or None when nothing is ready.

        A cap that is in the way of one tier or job keeps no other from being leased. Near it, chunks shrink
        to what still fits, down to the one item of the lane that costs least.

        Args:
            limit: items at most.
            job_ids: only these jobs; None for all that are running.
            tiers: only these tiers; None for all.
            thorough: look for the cheapest item anew, although that was done a moment ago.

        Returns:
            Of several shortages one that may pass, if there is one.
        """
        for _ in range(_RACES):
            try:
                return self._lease_with_lanes(limit, job_ids, tiers, thorough=thorough)
            except IntegrityError:
                continue
        return None

    def _lease_with_lanes(
        self, limit: int, job_ids: Sequence[int] | None, tiers: Sequence[str] | None, *, thorough: bool
    ) -> Chunk | Shortage | None:
        """Lease; lanes that turn out to be missing are made between two transactions.

        It takes seconds the first time, and everybody would wait.
        """
        self._impossible.clear()
        while True:
            try:
                with self._store.write() as connection:
                    self._ledger.lock(connection, brief=True)
                    if self._is_in_doubt:
                        self._give_back_unknown(connection)
                    leased = self._lease(connection, limit, job_ids, tiers, thorough=thorough)
            except NoLaneError as missing:
                self._make_lane(missing)
            except StoreAwayError:
                self._is_in_doubt = True
                raise
            else:
                self._is_in_doubt = False
                if isinstance(leased, Chunk):
                    self._newest_id = leased.lease_id
                return leased

    def _give_back_unknown(self, connection: Connection) -> None:
        """Give back a lease that was committed though the word of it was lost: nobody works on its items."""
        held = active_workers(connection)
        unknown = [
            lease_id for lease_id, worker in held if worker == self._worker and lease_id > self._newest_id
        ]
        release(connection, self._ledger, take_lost(connection, 0.0, unknown))

    def _make_lane(self, missing: NoLaneError) -> None:
        job = missing.job
        try:
            self._lanes.lane(job, missing.tier, learns=missing.learns)
        except ConfigurationError as error:
            if not missing.learns:
                self.blocked[job.id] = str(error)
                self.unusable.add(job.id)
            self._impossible.add((job.id, missing.tier, missing.learns))

    def _lease(
        self,
        connection: Connection,
        limit: int,
        job_ids: Sequence[int] | None,
        tiers: Sequence[str] | None,
        *,
        thorough: bool,
    ) -> Chunk | Shortage | None:
        now = self._store.now(connection)
        found: list[Shortage] = []
        running = workable_job_ids(connection, job_ids)
        self._keep_jobs(running)
        for moved in self._routes.look(connection, self._jobs):
            self._forget_floors(moved)
        for job_id in in_turn(connection, running) if job_ids is None else running:
            job = self._job(connection, job_id)
            pending = pending_tiers(connection, job_id)
            wanted = pending if tiers is None else [tier for tier in pending if tier in tiers]
            self.shortages.keep_tiers(job_id, wanted)
            for tier in wanted:
                outcome = self._lease_of_tier(connection, job, tier, now, limit, thorough=thorough)
                if isinstance(outcome, Chunk):
                    return outcome
                if outcome is not None:
                    self.shortages.lanes[job_id, tier] = outcome
                    found.append(outcome)
        found += self.shortages.steps.shortages
        return next((shortage for shortage in found if shortage.may_pass), found[0] if found else None)

    def _keep_jobs(self, running: Collection[int]) -> None:
        """Forget jobs that do not run any more: one that runs again has all its models back."""
        self.shortages.keep_jobs(running)
        self._routes.keep_jobs(running)
        for job_id in self._jobs.keys() - set(running):
            del self._jobs[job_id]
            self.blocked.pop(job_id, None)
            self.unusable.discard(job_id)
            self._lanes.forget(job_id)

    def _forget_floors(self, job_id: int) -> None:
        """Another model does a job's work: what the cheapest item costs is another figure."""
        for key in [key for key in self._floors if key[0] == job_id]:
            del self._floors[key]

    def _lease_of_tier(
        self, connection: Connection, job: Job, tier: str, now: float, limit: int, *, thorough: bool
    ) -> Chunk | Shortage | None:
        if (next_steps := self._lease_next_steps(connection, job, tier, now, limit)) is not None:
            return next_steps
        if not thorough and (shortage := self._still_short(connection, job, tier)) is not None:
            return shortage
        self.shortages.lanes.pop((job.id, tier), None)
        if (lesson := self._lease_to_learn(connection, job, tier, now, limit)) is not None:
            return lesson
        while queued := self._routes.to_work(connection, job, tier, now, limit):
            lane = self._usable_lane(job, tier)
            if lane is None:
                return None
            if self._finish_answered(connection, job, queued):
                continue
            outcome = self._reserve_and_open(connection, lane, queued, now)
            if outcome is not None:
                return outcome
        return None

    def _lease_next_steps(
        self, connection: Connection, job: Job, tier: str, now: float, limit: int
    ) -> Chunk | None:
        """A chunk of documents of a ladder whose next call a cap refused before, and admits by now."""
        steps = self.shortages.steps
        lane = self._usable_lane(job, tier) if steps.waits(job.id, tier) else None
        found = None if lane is None else steps.that_fit(connection, job, tier, now, limit)
        if lane is None or found is None or self._finish_answered(connection, job, found.items):
            return None
        self._ledger.reserve(connection, accounts_of(found.funding), found.amount_nusd)
        return self._open(connection, lane, found.items, found.amount_nusd, found.funding, now)

    def _lease_to_learn(
        self, connection: Connection, job: Job, tier: str, now: float, limit: int
    ) -> Chunk | None:
        """A chunk for a cheaper model of a routed job; None if nothing is to be learned, or caps forbid."""
        while lesson := self._routes.to_learn(connection, job, tier, now, limit):
            lane = self._usable_lane(job, tier, learns=True)
            if lane is None:
                return None
            if not self._finish_answered(connection, job, lesson.items):
                outcome = self._reserve_and_open(connection, lane, lesson.items, now, lesson)
                return outcome if isinstance(outcome, Chunk) else None
        return None

    def _finish_answered(self, connection: Connection, job: Job, queued: Sequence[QueuedItem]) -> bool:
        """Give those of these items their answer that have one; whether there were any."""
        keys = [item.result_key for item in queued]
        answered = find_results(connection, keys, job.accepts, job.refresh_key)
        if not answered:
            return False
        finish_answered(
            connection,
            [(item.id, answered[item.result_key]) for item in queued if item.result_key in answered],
        )
        return True

    def _usable_lane(self, job: Job, tier: str, *, learns: bool = False) -> Lane | None:
        if (job.id, tier, learns) in self._impossible:
            return None
        lane = self._lanes.made(job, tier, learns=learns)
        if lane.stopped is not None:
            if not learns:
                self.blocked[job.id] = lane.stopped
            return None
        return lane

    def _reserve_and_open(
        self,
        connection: Connection,
        lane: Lane,
        queued: Sequence[QueuedItem],
        now: float,
        lesson: Lesson | None = None,
    ) -> Chunk | Shortage | None:
        """Lease what fits of these items, else the lane's cheapest; None if that had its answer already."""
        funding = self._funding(connection, lane)
        accounts = accounts_of(funding)
        balances = self._ledger.opened(connection, accounts)
        chosen = that_fit(lane, queued, least_room(balances))
        if not chosen and lesson is None:
            cheapest = self._cheapest(connection, lane, now) or cheapest_of(lane, queued)
            if self._finish_answered(connection, lane.job, [cheapest]):
                return None
            chosen = that_fit(lane, [cheapest], least_room(balances))
            if not chosen:
                return shortage_of(lane, balances, lane.first.item_reservation_nusd(cheapest))
        if not chosen:
            return None
        amount_nusd = sum(lane.first.item_reservation_nusd(item) for item in chosen)
        if self._ledger.reserve(connection, accounts, amount_nusd) is not None:
            return shortage_of(lane, self._ledger.balances(connection, accounts), amount_nusd)
        chunk = self._open(connection, lane, chosen, amount_nusd, funding, now)
        self._routes.leased(lane.job, chunk.lease_id, len(chosen), lesson)
        return chunk

    def _funding(self, connection: Connection, lane: Lane) -> Funding:
        day = self._ledger.today(connection)
        return Funding(lane.job.payer_id, lane.job.task, lane.tier, lane.first.model.provider, day)

    def _cheapest(self, connection: Connection, lane: Lane, now: float) -> QueuedItem | None:
        """The pending item of a lane that costs least, and note what it costs."""
        started = time.monotonic()
        smallest = smallest_items(connection, lane.job.id, lane.queue, now)
        if not smallest:
            return None
        cheapest = cheapest_of(lane, smallest)
        ended = time.monotonic()
        pause_s = max(_SEARCH_PAUSE_S, _SEARCH_SHARE * (ended - started))
        needed_nusd = lane.first.item_reservation_nusd(cheapest)
        self._floors[lane.job.id, lane.queue] = Floor(needed_nusd, ended + pause_s)
        return cheapest

    def _still_short(self, connection: Connection, job: Job, tier: str) -> Shortage | None:
        """The shortage of a lane whose cheapest item was looked for a moment ago, if it does not fit yet."""
        floor = self._floors.get((job.id, tier))
        if floor is None or time.monotonic() >= floor.until:
            return None
        lane = self._usable_lane(job, tier)
        if lane is None:
            return None
        balances = self._ledger.opened(connection, accounts_of(self._funding(connection, lane)))
        if all(balance.admits(floor.needed_nusd) for balance in balances):
            return None
        return shortage_of(lane, balances, floor.needed_nusd)

    def _open(
        self,
        connection: Connection,
        lane: Lane,
        chosen: Sequence[QueuedItem],
        reserved_nusd: int,
        funding: Funding,
        now: float,
    ) -> Chunk:
        new = NewLease(
            job_id=lane.job.id,
            tier=funding.tier,
            provider=funding.provider,
            worker=self._worker,
            day=funding.day,
            reserved_nusd=reserved_nusd,
            expires_at=now + self._lease_s,
        )
        lease_id = open_lease(connection, new, [item.id for item in chosen])
        return Chunk(lease_id, lane, tuple(chosen))

    def _job(self, connection: Connection, job_id: int) -> Job:
        if job_id not in self._jobs:
            self._jobs[job_id] = get_job(connection, job_id)
        return self._jobs[job_id]
