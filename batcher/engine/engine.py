"""The engine's loop: lease chunks, run their items on one event loop, keep the leases, end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import orjson

from batcher.budget.ledger import DAY_SCOPE, Ledger
from batcher.domain import Image, ItemStatus, JobState
from batcher.engine.item import ItemRunner
from batcher.engine.lane import Lane, LaneFactory
from batcher.engine.leasing import Chunk, Leaser, Shortage, read_images, reclaim_lost
from batcher.engine.policy import RetryLimits
from batcher.engine.progress import Progress
from batcher.engine.sender import HeldLease, LaneStoppedError, Services
from batcher.engine.traffic import Traffic
from batcher.engine.writer import BudgetExhaustedError, LeaseLostError, Writer
from batcher.money import format_usd
from batcher.store.database import Store
from batcher.store.jobs import cancel_leftovers, finish_if_complete, list_job_ids, set_state, set_waiting
from batcher.store.leases import QueuedItem, next_chance_at, renew
from batcher.store.results import find_results, read_outputs

CONTROL_INTERVAL_S: Final = 1.0


class Ending(StrEnum):
    """How a run ended."""

    IDLE = "idle"
    BUDGET = "budget"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How much at once, how long.

    Attributes:
        concurrency: calls in flight at most.
        chunk_items: items per lease at most.
        lease_s: seconds until an unrenewed lease expires.
        control_s: how often a run looks whether its jobs were paused or cancelled, and stores why it waits.
    """

    concurrency: int
    chunk_items: int
    lease_s: float
    retry: RetryLimits
    control_s: float = CONTROL_INTERVAL_S


class Engine:
    """Runs jobs. One per process; not reusable after ``run``.

    Args:
        store: the store.
        ledger: its books.
        lanes: makes the lanes of jobs and tiers.
        traffic: picks the model of each call and admits it at the rate that the provider allows.
        options: sizes and times.
    """

    def __init__(
        self, store: Store, ledger: Ledger, lanes: LaneFactory, traffic: Traffic, options: EngineOptions
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._traffic = traffic
        self._options = options
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batcher-store")
        self._leaser = Leaser(store, ledger, lanes.lane, options.lease_s)
        self._writer = Writer(store, ledger, self._thread)
        self._leases: dict[int, HeldLease] = {}
        self._running: dict[asyncio.Task[None], ItemRunner] = {}
        self._changed = asyncio.Event()
        self._stopping = False
        self._abandoned = False
        self._budget_stop: Shortage | None = None
        self._fault: BaseException | None = None
        self.progress = Progress()
        self._services = Services(
            writer=self._writer,
            traffic=traffic,
            retry=options.retry,
            observer=self.progress,
            is_stopping=lambda: self._stopping,
            find_parts=self._find_parts,
            read_images=self._read_images,
        )

    def stop(self) -> None:
        """Send nothing more; ``run`` returns when the calls in flight are answered and stored."""
        self._stopping = True
        for task, runner in self._running.items():
            if runner.calls_in_flight == 0:
                task.cancel()
        self._changed.set()

    def waits(self) -> dict[str, str]:
        """Why calls wait that wait now, by model."""
        return self._traffic.waiting()

    def waiting_reason(self) -> str | None:
        """What the run waits for, in one line; None while calls are on their way."""
        return self.progress.waiting_reason(self.waits())

    async def run(self, job_ids: Sequence[int] | None = None, tiers: Sequence[str] | None = None) -> Ending:
        """Work until nothing is left to do for these jobs, a cap is reached, or ``stop`` is called.

        Args:
            job_ids: only these jobs; None for all that are running.
            tiers: only these tiers; None for all.

        Raises:
            BatcherError: if the store is lost or no model can be used.
        """
        await self._in_thread(reclaim_lost, self._store, self._ledger)
        self._writer.start()
        keepers = [asyncio.create_task(self._keep_leases()), asyncio.create_task(self._watch(job_ids))]
        try:
            ending = await self._pump(job_ids, tiers)
            if self._running:
                await asyncio.wait(self._running)
            await self._writer.stop()
            if self._fault is not None:
                raise self._fault
            await self._in_thread(self._conclude, job_ids, ending)
            return ending
        finally:
            # What is still running had its call cut off: its lease stays open, so that whoever reclaims it
            # books the call at its worst case.
            self._abandoned = True
            for keeper in keepers:
                keeper.cancel()
            for task in self._running:
                task.cancel()
            await asyncio.gather(*keepers, *self._running, return_exceptions=True)
            self._thread.shutdown(wait=True)

    async def _pump(self, job_ids: Sequence[int] | None, tiers: Sequence[str] | None) -> Ending:
        while True:
            self._changed.clear()
            if self._fault is not None or self._stopping:
                return Ending.STOPPED
            if len(self._running) >= self._options.concurrency * 5 // 4 + self._options.chunk_items:
                await self._changed.wait()
                continue
            idle = not self._running
            if idle:
                # What ended last may still have to be written, and to free its reservation.
                await self._writer.flush()
            leased = await self._in_thread(self._leaser.lease, self._options.chunk_items, job_ids, tiers)
            if isinstance(leased, Chunk):
                self._start(leased)
            elif isinstance(leased, Shortage) and idle:
                self._budget_stop = leased
                return Ending.BUDGET
            elif isinstance(leased, Shortage):
                # What is in flight may cost less than was reserved for it: then there is room again.
                await self._changed.wait()
            elif not idle:
                await self._wait_for_change(job_ids)
            elif not await self._wait_until_ready(job_ids):
                return Ending.IDLE if self._budget_stop is None else Ending.BUDGET

    def _start(self, chunk: Chunk) -> None:
        lease = HeldLease(
            chunk.lease_id, asyncio.get_running_loop().time() + self._options.lease_s, len(chunk.items)
        )
        self._leases[lease.id] = lease
        for item in chunk.items:
            runner = ItemRunner(chunk.lane, item, lease, self._services)
            task = asyncio.create_task(self._run_item(runner, lease, chunk.lane))
            self._running[task] = runner
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._changed.set()

    async def _run_item(self, runner: ItemRunner, lease: HeldLease, lane: Lane) -> None:
        try:
            await runner.run()
            self._count(runner)
        except LeaseLostError:
            # It may only have been late, and renewed since: then nobody else would take the item up again. If
            # another worker has it, the lease's number keeps this from touching it.
            self._writer.change(runner.given_back())
        except BudgetExhaustedError as error:
            # Not before tomorrow: a follow-up call that today's budget does not admit would come too late for
            # the answer that it follows, and the item would be paid for again.
            self._budget_stop = Shortage(lane.job.id, error.account, error.needed_nusd)
            self._writer.change(runner.given_back(await self._in_thread(self._tomorrow)))
        except LaneStoppedError:
            self._writer.change(runner.given_back())
        except asyncio.CancelledError:
            if not self._abandoned:
                self._writer.change(runner.given_back())
        except Exception as error:  # noqa: BLE001 - a bug or a lost store: end the run, keep what is there
            self._fault = self._fault or error
            self.stop()
        finally:
            lease.unfinished -= 1
            if lease.unfinished == 0 and self._fault is None and not self._abandoned:
                self._leases.pop(lease.id, None)
                self._writer.close_lease(lease.id)

    def _count(self, runner: ItemRunner) -> None:
        if runner.ended is ItemStatus.DONE:
            self.progress.done += 1
        elif runner.ended is ItemStatus.FAILED:
            self.progress.failed += 1

    async def _find_parts(self, lane: Lane, keys: Sequence[bytes]) -> dict[bytes, Any]:
        known: dict[bytes, Any] = await self._in_thread(self._read_parts, lane, keys)
        return known

    async def _read_images(self, item: QueuedItem) -> tuple[Image, ...]:
        images: tuple[Image, ...] = await self._in_thread(read_images, self._store, item.document_hash)
        return images

    def _tomorrow(self) -> float:
        with self._store.write() as connection:
            return self._ledger.next_day_starts_at(self._ledger.today(connection))

    def _read_parts(self, lane: Lane, keys: Sequence[bytes]) -> dict[bytes, Any]:
        with self._store.read() as connection:
            ids = find_results(
                connection, keys, [binding.model.name for binding in lane.bindings], lane.job.refresh_key
            )
            outputs = read_outputs(connection, list(ids.values()))
        return {key: orjson.loads(outputs[result_id]) for key, result_id in ids.items()}

    async def _wait_for_change(self, job_ids: Sequence[int] | None) -> None:
        """Until an item ends, or a backed-off item may be tried."""
        chance_at, now = await self._in_thread(self._next_chance, job_ids)
        timeout = None if chance_at is None or chance_at <= now else chance_at - now
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _wait_until_ready(self, job_ids: Sequence[int] | None) -> bool:
        """Whether there is anything to wait for; if so, wait for it."""
        chance_at, now = await self._in_thread(self._next_chance, job_ids)
        blocked = self._budget_stop is not None or bool(self._leaser.blocked)
        if chance_at is None or blocked:
            return False
        await asyncio.sleep(min(self._options.control_s, max(0.01, chance_at - now)))
        return True

    def _next_chance(self, job_ids: Sequence[int] | None) -> tuple[float | None, float]:
        with self._store.read() as connection:
            ids = list_job_ids(connection, JobState.RUNNING, job_ids)
            return next_chance_at(connection, ids), self._store.now(connection)

    async def _keep_leases(self) -> None:
        """Renew the leases well before they expire; learn which ones are lost; take lost ones of others."""
        while True:
            await asyncio.sleep(self._options.lease_s / 3)
            asked = asyncio.get_running_loop().time()
            held = await self._in_thread(self._renew, list(self._leases))
            for lease_id, lease in list(self._leases.items()):
                lease.valid_until = asked + self._options.lease_s if lease_id in held else 0.0
            if await self._in_thread(reclaim_lost, self._store, self._ledger):
                self._changed.set()

    def _renew(self, lease_ids: list[int]) -> set[int]:
        if not lease_ids:
            return set()
        with self._store.write() as connection:
            return renew(connection, lease_ids, self._store.now(connection) + self._options.lease_s)

    async def _watch(self, job_ids: Sequence[int] | None) -> None:
        """Notice pause and cancel; let readers in other processes know why the run waits."""
        told: str | None = None
        while True:
            await asyncio.sleep(self._options.control_s)
            reason = self.waiting_reason()
            working = await self._in_thread(self._look, job_ids, reason, reason != told)
            told = reason
            if job_ids is not None and not working:
                self.stop()

    def _look(self, job_ids: Sequence[int] | None, reason: str | None, tell: bool) -> list[int]:
        with self._store.read() as connection:
            working = list_job_ids(connection, JobState.RUNNING, job_ids)
        if tell and job_ids is not None:
            with self._store.write() as connection:
                for job_id in working:
                    set_waiting(connection, job_id, reason)
        return working

    def _conclude(self, job_ids: Sequence[int] | None, ending: Ending) -> None:
        """Give the jobs the state that the run left them in."""
        with self._store.write() as connection:
            now = self._store.now(connection)
            for job_id in list_job_ids(connection, JobState.RUNNING, job_ids):
                if finish_if_complete(connection, job_id, now):
                    continue
                reason, resume_at = self._pause_reason(job_id, ending)
                if reason is not None:
                    set_state(connection, job_id, JobState.PAUSED, now, reason=reason, resume_at=resume_at)
            cancel_leftovers(connection)

    def _pause_reason(self, job_id: int, ending: Ending) -> tuple[str | None, float | None]:
        if job_id in self._leaser.blocked:
            return self._leaser.blocked[job_id], None
        if ending is Ending.STOPPED:
            return "interrupted", None
        if ending is Ending.BUDGET and self._budget_stop is not None:
            return self._describe_shortage(self._budget_stop)
        return None, None

    def _describe_shortage(self, shortage: Shortage) -> tuple[str, float | None]:
        with self._store.read() as connection:
            [balance] = self._ledger.balances(connection, [shortage.account])
        reason = f"budget: {balance.describe()}; the next call may cost {format_usd(shortage.needed_nusd)}"
        if shortage.account.scope != DAY_SCOPE:
            return reason, None
        if balance.would_admit(shortage.needed_nusd):
            return f"{reason}. Other jobs hold what is reserved: resume when they have ended", None
        return reason, self._ledger.next_day_starts_at(shortage.account.period)

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
