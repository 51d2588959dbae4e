"""Rehearses a job: the engine against the simulator in a throwaway store, on a clock that jumps.

Everything is what a real run uses (the adapters, limits, retries, the ledger and its days), except the
network, the clock and the store. The real store is looked at, read only: its cap, what today has cost so far,
and the answers that it has.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import event, select

from batcher.budget.ledger import (
    DAY_SCOPE,
    Account,
    Ledger,
    Movement,
    Movements,
)
from batcher.catalog.models import Catalog, Limits, Model
from batcher.dispatch.finish_by import FinishBy, stop_in_time
from batcher.dispatch.inline import run_engine
from batcher.dispatch.rehearsal_books import Books
from batcher.dispatch.virtual_time import VirtualTimeLoop
from batcher.domain import ItemStatus, JobState
from batcher.engine.control import Ending
from batcher.engine.engine import Engine
from batcher.engine.judging import Judging
from batcher.engine.lane import LaneFactory
from batcher.engine.options import EngineOptions
from batcher.engine.policy import RetryLimits
from batcher.engine.stages import HandOver
from batcher.engine.submission import take_up
from batcher.engine.traffic import Traffic
from batcher.limits.memory import MemoryLimiter
from batcher.planning.choice import Usable
from batcher.planning.judges import Judges
from batcher.providers.base import Provider
from batcher.providers.simulated import simulated_provider, simulated_vendor
from batcher.settings import Settings
from batcher.simulator.core import Simulator, SimulatorConfig
from batcher.store.database import Store
from batcher.store.jobs import Job, get_job
from batcher.store.leases import finish_answered
from batcher.store.results import find_results
from batcher.store.schema import ensure_schema
from batcher.store.steps import stage_ids
from batcher.store.tables import items
from batcher.tasks.spec import TaskSpec

DAILY_CAP: Final = "daily cap"
"""What a rehearsal waits for from the moment when a day's budget is used up until midnight."""

_SAMPLE_S: Final = 0.25
_SAMPLE_SHARE: Final = 1 / 4_000
"""Looks at what the run waits for come every quarter of a second, and later on in step with the time that has
passed: a night is looked at 15,000 times, a week 25,000 times."""

_LEASE_S: Final = 30 * 86_400.0
_CONTROL_S: Final = 3_600.0
"""Nobody else works on a throwaway store: neither leases nor the state of the job need to be looked at."""

_PAGE_ITEMS: Final = 1_000
_KINDS: Final = {
    "in flight": "calls in flight",
    "cooling down": "told to wait",
    "no capacity": "no capacity",
    "circuit": "open circuit",
}


class LoopClock:
    """The clock of an event loop.

    Args:
        time: the loop's, running or not.
    """

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time

    def monotonic(self) -> float:
        """The loop's time, seconds."""
        return self._time()

    async def sleep(self, seconds: float) -> None:
        """Return after that many of its seconds."""
        await asyncio.sleep(seconds)


class Rehearsal:
    """A throwaway store and everything that works on it. A context manager: at its end all of it is gone.

    Args:
        settings: the real ones.
        catalog: the models, whose limits the simulator holds too.
        books: what the real store's books say.
        is_usable: which models there are keys for; local ones are left out in any case.
        faults: a fault script's tables.

    Attributes:
        waits: seconds that something was waited for, by what it was.
        past: items that ended on earlier days.
    """

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        books: Books,
        is_usable: Usable,
        *,
        faults: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.simulator = _make_simulator(catalog)
        self.simulator.faults.add(faults)
        self.books = books
        self.waits: defaultdict[str, float] = defaultdict(float)
        self.past: Counter[ItemStatus] = Counter()
        self._settings = settings
        self._catalog = catalog
        self._is_usable = is_usable
        self._providers: dict[str, Provider] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="batcher-rehearsal-")
        self._loop = VirtualTimeLoop()
        self._clock = LoopClock(lambda: self.seconds)
        self._limiter = self._make_limiter()
        self.store = Store(f"sqlite:///{Path(self._folder.name) / 'rehearsal.db'}", clock=self.now)
        event.listen(self.store.engine, "connect", _never_wait_for_the_disk)
        self.ledger = Ledger(self.store, settings.time_zone)

    def __enter__(self) -> Self:
        ensure_schema(self.store)
        with self.store.write() as connection:
            self.ledger.set_daily_cap(connection, self.books.cap_nusd)
            day = self.ledger.today(connection)
            earlier = Movements()
            earlier.add_to(Account(DAY_SCOPE, day), Movement(0, self.books.taken_nusd))
            for other in self.books.others:
                self.ledger.set_cap(connection, other.account.scope, other.cap_nusd)
                taken_nusd = other.spent_nusd + other.reserved_nusd
                earlier.add_to(Account(other.account.scope, day), Movement(0, taken_nusd))
            self.ledger.move(connection, earlier)
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()
        self.simulator.bill.shut()
        self._loop.close()
        self._folder.cleanup()

    @property
    def seconds(self) -> float:
        """Virtual seconds since the start."""
        return self._loop.time()

    def now(self) -> float:
        """Virtual Unix seconds."""
        return self.books.now + self._loop.time()

    def new_loop(self, at: float | None = None) -> VirtualTimeLoop:
        """The loop of another process that starts now, which knows nothing of earlier rates.

        Args:
            at: Unix seconds when it starts, if that is later.
        """
        start = max(self.seconds, 0.0 if at is None else at - self.books.now)
        self._loop.close()
        self._loop = VirtualTimeLoop(start)
        self._limiter = self._make_limiter()
        return self._loop

    def _make_limiter(self) -> MemoryLimiter:
        return MemoryLimiter(self._limits, self._clock, ceilings=self._ceilings)

    def is_usable(self, model: Model) -> bool:
        """Whether a model takes part."""
        return self._catalog.providers[model.provider].kind != "local" and self._is_usable(model)

    def adopt_answers(self, real: Store, job: Job) -> int:
        """Finish the items whose answer the real store has, none of a staged job; returns how many."""
        with self.store.read() as connection:
            if job.refresh or stage_ids(connection, job.id):
                return 0
        last, adopted = 0, 0
        while page := self._page(job.id, last):
            with real.read() as connection:
                found = find_results(connection, list({key for _, key in page}), job.accepts, 0)
            answered = [(item_id, found[key]) for item_id, key in page if key in found]
            if answered:
                with self.store.write() as connection:
                    finish_answered(connection, answered)
            last, adopted = page[-1][0], adopted + len(answered)
        return adopted

    def _page(self, job_id: int, after: int) -> list[tuple[int, bytes]]:
        query = (
            select(items.c.id, items.c.result_key)
            .where(items.c.job_id == job_id, items.c.id > after, items.c.status == ItemStatus.PENDING.value)
            .order_by(items.c.id)
            .limit(_PAGE_ITEMS)
        )
        with self.store.read() as connection:
            return [(row.id, row.result_key) for row in connection.execute(query)]

    def run(
        self,
        job_id: int,
        *,
        finish_by: FinishBy | None = None,
        on_sample: Callable[[Engine], None] = lambda _: None,
        on_signal: Callable[[int], None] = lambda _: None,
    ) -> Ending:
        """Run a job to its end, over as many days as it takes.

        Where a day's budget is used up, time jumps to the next day. The run ends with ``Ending.BUDGET`` if a
        job's own cap stops it, or if a whole day's budget does not admit one call.

        Args:
            job_id: the job.
            finish_by: when to stop, done or not.
            on_sample: shown the engine now and then.
            on_signal: told of SIGINT and SIGTERM; see ``run_inline``.
        """
        with self.store.read() as connection:
            spec = TaskSpec.from_json(get_job(connection, job_id).spec)
        # For requests that tell of the schema in a way that the simulator does not understand.
        self.simulator.config.schema = dict(spec.schema)
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            return runner.run(self._run(job_id, finish_by, on_sample, on_signal))

    async def _run(
        self,
        job_id: int,
        finish_by: FinishBy | None,
        on_sample: Callable[[Engine], None],
        on_signal: Callable[[int], None],
    ) -> Ending:
        async def watch(engine: Engine) -> None:
            watching = [self._watch(engine, on_sample)]
            if finish_by is not None:
                timeout_s = self._settings.call_timeout_s
                watching.append(stop_in_time(engine, self.store, [job_id], finish_by, timeout_s))
            await asyncio.gather(*watching)

        is_first_day = True
        try:
            while True:
                engine = self.engine()
                ending = await run_engine(engine, [job_id], watch, on_signal)
                self.past[ItemStatus.DONE] += engine.progress.done
                self.past[ItemStatus.FAILED] += engine.progress.failed
                resume_at = self._resumes_at(job_id)
                if ending is not Ending.BUDGET or resume_at is None:
                    return ending
                if engine.progress.sent == 0 and not is_first_day:
                    return ending
                is_first_day = False
                await self._pause(resume_at)
                take_up(self.store, self.ledger, job_id, JobState.RUNNING)
        finally:
            await self.aclose()

    def _resumes_at(self, job_id: int) -> float | None:
        with self.store.read() as connection:
            job = get_job(connection, job_id)
        return job.resume_at if job.state is JobState.PAUSED else None

    async def _pause(self, until: float) -> None:
        seconds = max(0.0, until - self.now())
        self.waits[DAILY_CAP] += seconds
        await asyncio.sleep(seconds)

    async def _watch(self, engine: Engine, on_sample: Callable[[Engine], None]) -> None:
        while True:
            span = max(_SAMPLE_S, self.seconds * _SAMPLE_SHARE)
            await asyncio.sleep(span)
            for kind in {_kind_of(reason) for reason in engine.waits().values()}:
                self.waits[kind] += span
            on_sample(engine)

    def _limits(self, key: str) -> Limits | None:
        """As in a real run: the catalogue's limits of a binding's key, the user's settings over them."""
        model = self._catalog.models.get(key.partition("#")[0])
        return None if model is None else model.limits

    def _ceilings(self, key: str) -> Limits | None:
        """As in a real run: what the user set on purpose."""
        own = self._settings.models.get(key.partition("#")[0])
        return None if own is None else Limits(own.rpm, own.tpm, own.rpd, own.concurrency, own.itpm, own.otpm)

    async def aclose(self) -> None:
        """Close the providers' clients, on the loop that they were used on."""
        providers, self._providers = list(self._providers.values()), {}
        await asyncio.gather(*(provider.aclose() for provider in providers))

    def engine(self) -> Engine:
        """A new engine on these vendors, this clock and this store."""
        settings = self._settings
        lanes = LaneFactory(
            self._catalog,
            self._provider,
            lambda _: "",
            self.is_usable,
            # A task's own checks look for sense, which simulated answers do not have: only the schema counts.
            lambda _: None,
            timeout_s=settings.call_timeout_s,
        )
        options = EngineOptions(
            concurrency=settings.concurrency,
            chunk_items=settings.chunk_items,
            lease_s=_LEASE_S,
            retry=RetryLimits(settings.max_attempts, settings.max_elapsed_s),
            control_s=_CONTROL_S,
        )
        traffic = Traffic(self._limiter, settings.concurrency, self._clock)
        judging = Judging(self.store, self.ledger, Judges(self._catalog, self.is_usable))
        hand_over = HandOver(self.store, self._catalog, self.is_usable)
        return Engine(self.store, self.ledger, lanes, traffic, options, judging, hand_over)

    def _provider(self, name: str) -> Provider:
        if name not in self._providers:
            self._providers[name] = simulated_provider(
                self._catalog.providers[name],
                self.simulator,
                self.books.now,
                max_connections=self._settings.concurrency,
            )
        return self._providers[name]


def _make_simulator(catalog: Catalog) -> Simulator:
    """Vendors that take their usual time and hold the limits that the settings tell."""
    simulator = Simulator(SimulatorConfig(latency_scale=1.0))
    for model in catalog.models.values():
        limits = model.limits
        told = {"rpm": limits.rpm, "tpm": limits.tpm, "rpd": limits.rpd}
        told |= {"input_tpm": limits.itpm, "output_tpm": limits.otpm}
        vendor = simulated_vendor(catalog.providers[model.provider])
        simulator.limits.change({"vendor": vendor, "model": model.id, **told})
    return simulator


def _never_wait_for_the_disk(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")


def _kind_of(reason: str) -> str:
    """A reason for waiting without the numbers that change: ``rate limit: 500 requests/min`` stays whole."""
    return next((kind for start, kind in _KINDS.items() if reason.startswith(start)), reason)
