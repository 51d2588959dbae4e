"""The engine's loop: lease chunks, run their items on one event loop, keep the leases, end."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final

from batcher.budget.ledger import Ledger
from batcher.domain import ItemStatus, JobState, Purpose
from batcher.engine.control import INTERRUPTED, Control, Ending, joined
from batcher.engine.fitting import Shortage
from batcher.engine.held_leases import HeldLease, HeldLeases
from batcher.engine.item import ItemRunner
from batcher.engine.judging import Judging
from batcher.engine.lane import Lane, LaneFactory, read_images, read_parts, read_steps
from batcher.engine.leasing import Chunk, Leaser
from batcher.engine.marks import BudgetExhaustedError, LeaseLostError
from batcher.engine.options import EngineOptions
from batcher.engine.patience import Patience, patience_with
from batcher.engine.progress import Progress
from batcher.engine.reclaiming import reclaim_lost
from batcher.engine.sample_scoring import Watch
from batcher.engine.sender import LaneStoppedError, Services
from batcher.engine.stages import HandOver
from batcher.engine.together import Together
from batcher.engine.traffic import Traffic
from batcher.engine.writer import Writer
from batcher.limits.clock import Moment
from batcher.store.database import Store
from batcher.store.jobs import list_job_ids
from batcher.store.turns import next_chance_at

_LOOK_AGAIN_S: Final = 0.1
"""What may be tried already and cannot be leased has a twin in flight elsewhere, or was just taken."""

POLL_S: Final = 2.0
"""How often an idle worker looks for work although nobody rang: a lost message costs no more than that."""


class Engine:
    """Runs jobs. One per process; not reusable after ``run``.

    Args:
        store: the store.
        ledger: its books.
        lanes: makes the lanes of jobs and tiers.
        traffic: picks the model of each call and admits it at the rate that the provider allows.
        options: sizes and times.
        judging: has drawn answers judged; None: nobody does here.
        hand_over: takes answers of staged jobs from step to step; None: nobody does here.
        watches: look after jobs by what is scored of their answers.
    """

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        lanes: LaneFactory,
        traffic: Traffic,
        options: EngineOptions,
        judging: Judging | None = None,
        hand_over: HandOver | None = None,
        watches: Sequence[Watch] = (),
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._traffic = traffic
        self._options = options
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batcher-store")
        self._leaser = Leaser(store, ledger, lanes, options.lease_s)
        self._shortages = self._leaser.shortages
        self._patience = Patience(patience_with(store), options.lease_s / 3)
        self._writer = Writer(store, ledger, self._thread, self._patience)
        self._leases = HeldLeases(store, options.lease_s)
        self._running: dict[asyncio.Task[None], ItemRunner] = {}
        self._changed = asyncio.Event()
        self._tiers: Sequence[str] | None = None
        self._stopping = False
        self._stop_reason: str | None = None
        self._abandoned = False
        self._is_short = False
        self._items_at_work: Counter[int] = Counter()
        self._control = Control(store, self._leaser)
        self._judging = judging
        self._hand_over = hand_over
        self._watches = watches
        self._halted: set[int] = set()
        self._fault: BaseException | None = None
        self.progress = Progress()
        self._services = Services(
            writer=self._writer,
            traffic=traffic,
            retry=options.retry,
            observer=self.progress,
            is_stopping=lambda job_id: self._stopping or job_id in self._halted,
            find_parts=Together(self._reading(read_parts)),
            find_steps=Together(self._reading(read_steps)),
            read_images=self._reading(read_images),
        )

    def stop(self, reason: str = INTERRUPTED) -> None:
        """Send nothing more; ``run`` returns when the calls in flight are answered and stored.

        Args:
            reason: why jobs with work left are then paused; the first one given counts.
        """
        self._stop_reason = self._stop_reason or reason
        self._stopping = True
        self._cut_off(lambda _: True)
        self._writer.lose_patience()
        self._changed.set()

    def waits(self) -> dict[str, str]:
        """Why calls wait that wait now, by model."""
        return self._traffic.waiting()

    def waiting_reason(self) -> str | None:
        """What the run waits for, and which caps it has reached, in one line; None if it goes on freely."""
        return joined(self._patience.trouble, self._calls_wait_for(), self._shortages.waiting())

    def _calls_wait_for(self) -> str | None:
        return self.progress.waiting_reason(self.waits())

    def give_up(self) -> None:
        """Wait no longer for a store that is away: what is in hand is then lost. From any thread."""
        self._patience.end()

    def ring(self) -> None:
        """Look for work at once: some may have come."""
        self._changed.set()

    def describe(self) -> dict[str, Any]:
        """What the run does just now, as JSON values."""
        progress = self.progress
        return {
            "items": len(self._running),
            "jobs": sorted(job_id for job_id, items in self._items_at_work.items() if items),
            "in_flight": progress.in_flight,
            "done": progress.done,
            "failed": progress.failed,
            "waiting": self.waiting_reason(),
        }

    async def run(
        self, job_ids: Sequence[int] | None = None, tiers: Sequence[str] | None = None, *, stay: bool = False
    ) -> Ending:
        """Work until nothing is left to do for these jobs, a cap is reached, or ``stop`` is called.

        Args:
            job_ids: only these jobs; None for all that are running.
            tiers: only these tiers; None for all.
            stay: with nothing left, wait for more; ``stop`` then pauses no job, because others work on them.

        Raises:
            BatcherError: if the store is lost or no model can be used.
        """
        self._tiers = tiers
        if stay:
            self._patience.lasts_s = math.inf
        await self._in_thread(reclaim_lost, self._store, self._ledger)
        self._writer.start()
        keepers = [asyncio.create_task(self._keep_leases()), asyncio.create_task(self._watch(job_ids))]
        for keeper in keepers:
            keeper.add_done_callback(self._keeper_ended)
        try:
            ending = await self._work(job_ids, tiers, stay=stay)
            await self._writer.stop()
            return ending
        finally:
            # What is still running had its call cut off: its lease stays open, so that whoever reclaims it
            # books the call at its worst case.
            self._abandoned = True
            for keeper in keepers:
                keeper.cancel()
            for task in self._running:
                task.cancel()
            self.give_up()
            await asyncio.gather(*keepers, *self._running, return_exceptions=True)
            self._thread.shutdown(wait=True)

    async def _work(
        self, job_ids: Sequence[int] | None, tiers: Sequence[str] | None, *, stay: bool
    ) -> Ending:
        while True:
            ending = await self._pump(job_ids, tiers, stay=stay)
            if self._running:
                await asyncio.wait(self._running)
            await self._writer.flush()
            if self._fault is not None:
                await self._writer.stop()
                raise self._fault
            if stay or await self._in_thread(self._control.conclude, job_ids, ending, self._stop_reason):
                return ending

    def _keeper_ended(self, keeper: asyncio.Task[None]) -> None:
        """Without those who keep its leases a run must not go on."""
        if not keeper.cancelled() and (error := keeper.exception()) is not None:
            self._fault = self._fault or error
            self.stop()

    async def _pump(
        self, job_ids: Sequence[int] | None, tiers: Sequence[str] | None, *, stay: bool
    ) -> Ending:
        while True:
            self._changed.clear()
            if self._fault is not None or self._stopping:
                return Ending.STOPPED
            if len(self._running) >= self._options.concurrency * 5 // 4 + self._options.chunk_items:
                await self._changed.wait()
                continue
            idle = not self._running
            if idle or self._is_short:
                # What ended last may still have to be written, and to free its reservation.
                await self._writer.flush()
            asked = Moment.now()
            leased = await self._in_thread(self._lease, job_ids, tiers, idle)
            self._is_short = isinstance(leased, Shortage)
            if isinstance(leased, Chunk):
                self._start(leased, asked)
            elif not idle:
                await self._wait_for_change(job_ids, POLL_S if stay else math.inf)
            elif not await (self._wait_for_room() if self._is_short else self._wait_until_ready(job_ids)):
                if not stay:
                    if await self._more_to_judge(job_ids, at_once=True):
                        continue
                    return Ending.BUDGET if self._shortages else Ending.IDLE
                await self._rest()

    async def _more_to_judge(self, job_ids: Sequence[int] | None, *, at_once: bool = False) -> bool:
        """Have judged what was drawn, in a run of these jobs; whether that made work."""
        if self._judging is None or job_ids is None:
            return False
        look = partial(self._judging.keep_up, at_once=at_once)
        return bool(await self._in_thread(look, job_ids))

    def _hand_over_page(self, job_ids: Sequence[int] | None, *, wait: bool = False) -> bool:
        """Take some answers of staged jobs to their next step; whether that made work."""
        return self._hand_over is not None and self._hand_over.pull(job_ids, wait=wait) > 0

    async def _rest(self) -> None:
        """Wait until somebody rings, or it is time to look again."""
        await self._in_thread(self._control.rest)
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await self._changed.wait()

    def _lease(
        self, job_ids: Sequence[int] | None, tiers: Sequence[str] | None, idle: bool
    ) -> Chunk | Shortage | None:
        while True:
            leased = self._leaser.lease(self._options.chunk_items, job_ids, tiers, thorough=idle)
            if isinstance(leased, Chunk) or not self._hand_over_page(job_ids, wait=idle):
                return leased

    def _start(self, chunk: Chunk, asked: Moment) -> None:
        lease = self._leases.add(chunk.lease_id, len(chunk.items), asked)
        self._items_at_work[chunk.lane.job.id] += len(chunk.items)
        self.progress.log.leased(chunk)
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
            self._count(runner, lane)
        except LeaseLostError:
            # It may only have been late, and renewed since: then nobody else would take the item up again. If
            # another worker has it, the lease's number keeps this from touching it.
            self._writer.change(runner.given_back())
        except BudgetExhaustedError as error:
            again_at = await self._in_thread(self._shortages.refused, lane, error)
            self._writer.change(runner.given_back(again_at))
        except LaneStoppedError:
            self._writer.change(runner.given_back())
        except asyncio.CancelledError:
            if not self._abandoned:
                self._writer.change(runner.given_back())
        except Exception as error:  # noqa: BLE001 - a bug or a lost store: end the run, keep what is there
            self._fault = self._fault or error
            self.stop()
        finally:
            self._items_at_work[lane.job.id] -= 1
            lease.unfinished -= 1
            if lease.unfinished == 0 and self._fault is None and not self._abandoned:
                self._leases.end(lease.id)
                self._writer.close_lease(lease.id)

    def _count(self, runner: ItemRunner, lane: Lane) -> None:
        counted = lane.job.purpose is not Purpose.JUDGE
        if runner.ended is ItemStatus.DONE:
            self.progress.done += counted and not lane.job.is_stage
        elif runner.ended is ItemStatus.FAILED:
            self.progress.failed += counted
            self.progress.log.item_failed(runner.job_id, runner.item_id, lane.tier, runner.failure)

    def _reading(self, read: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        """A question to the store, put by its own thread."""

        async def answer(*arguments: Any) -> Any:
            return await self._in_thread(read, self._store, *arguments)

        return answer

    async def _wait_for_change(self, job_ids: Sequence[int] | None, at_most_s: float) -> None:
        """Until an item ends, a backed-off item may be tried, or others may have made room under a cap."""
        chance_at, now = await self._in_thread(self._next_chance, job_ids)
        timeout = at_most_s if chance_at is None or chance_at <= now else min(at_most_s, chance_at - now)
        if self._is_short:
            timeout = min(self._options.control_s, timeout)
        with suppress(TimeoutError):
            async with asyncio.timeout(None if timeout == math.inf else timeout):
                await self._changed.wait()

    async def _wait_for_room(self) -> bool:
        """Whether others may still make room under a cap; if so, give them a moment."""
        if not await self._in_thread(self._shortages.may_pass):
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(self._options.control_s):
                await self._changed.wait()
        await self._in_thread(reclaim_lost, self._store, self._ledger)
        return True

    async def _wait_until_ready(self, job_ids: Sequence[int] | None) -> bool:
        """Whether there is anything to wait for; if so, wait for it."""
        chance_at, now = await self._in_thread(self._next_chance, job_ids)
        if chance_at is None or self._shortages or self._leaser.blocked:
            return False
        await asyncio.sleep(min(self._options.control_s, max(_LOOK_AGAIN_S, chance_at - now)))
        return True

    def _next_chance(self, job_ids: Sequence[int] | None) -> tuple[float | None, float]:
        with self._store.read() as connection:
            ids = list_job_ids(connection, JobState.RUNNING, job_ids)
            return next_chance_at(connection, ids, self._tiers), self._store.now(connection)

    async def _keep_leases(self) -> None:
        """Renew the leases well before they expire; learn which ones are lost; take lost ones of others."""
        while True:
            await asyncio.sleep(self._options.lease_s / 3)
            asked, known = Moment.now(), self._leases.known()
            self._leases.learn(known, await self._in_thread(self._leases.renew, known), asked)
            if self._patience.back_for_s() < self._options.lease_s:
                # Nobody could renew while the store was away: others have to come back first.
                continue
            if await self._in_thread(reclaim_lost, self._store, self._ledger):
                self._changed.set()

    async def _watch(self, job_ids: Sequence[int] | None) -> None:
        """Notice pause and cancel; let readers in other processes know why the run waits."""
        while True:
            await asyncio.sleep(self._options.control_s)
            at_work = [job_id for job_id, items in self._items_at_work.items() if items]
            working = await self._in_thread(self._control.look, job_ids, at_work, self._calls_wait_for())
            if job_ids is not None and not working:
                self.stop()
            self._halt(set(at_work) - set(working))
            for watch in self._watches if not self._stopping else ():
                await self._in_thread(watch.keep_up, job_ids)
            if not self._stopping and await self._more_to_judge(job_ids):
                self._changed.set()
            while not self._stopping and await self._in_thread(self._hand_over_page, job_ids):
                self._changed.set()

    def _halt(self, job_ids: set[int]) -> None:
        """Send nothing more for jobs that were paused or cancelled while others go on."""
        self._halted = job_ids
        self._cut_off(lambda runner: runner.job_id in job_ids)

    def _cut_off(self, is_meant: Callable[[ItemRunner], bool]) -> None:
        """Let items wait no longer that have no call in flight; the others end with their call."""
        for task, runner in self._running.items():
            if runner.may_be_cut_off and is_meant(runner):
                task.cancel()

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._patience.keep, function, *arguments
        )
