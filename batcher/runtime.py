"""The composition root: turns Settings into the parts that work together. It decides nothing itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING

from batcher.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from batcher.alerts.alerts import Alerts
    from batcher.alerts.jobs import SampledShare
    from batcher.budget.ledger import Ledger
    from batcher.catalog.models import Catalog, Limits, Model
    from batcher.catalog.privacy import Place
    from batcher.engine.engine import Engine
    from batcher.engine.floor_watch import FloorWatch
    from batcher.engine.judging import Judging
    from batcher.engine.ladder_watch import LadderWatch
    from batcher.engine.sample_scoring import Watch
    from batcher.engine.stages import HandOver
    from batcher.limits.base import Limiter
    from batcher.planning.judges import Judges
    from batcher.planning.routing import Router
    from batcher.providers.base import Provider
    from batcher.providers.local.options import LocalOptions
    from batcher.routing.ladder.policy import LadderPolicy
    from batcher.store.database import Store
    from batcher.tasks.definition import Task
    from batcher.tasks.spec import TaskSpec


class Runtime:
    """Store, ledger, catalogue, limiter and providers of one process, each made on first use."""

    new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None
    """Makes the event loop of a run; None: asyncio's own."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._providers: dict[str, Provider] = {}

    @cached_property
    def store(self) -> Store:
        """The store, at the schema of this version."""
        from batcher.store.database import TURN_S, Store
        from batcher.store.schema import ensure_schema

        turn_s = min(TURN_S, self.settings.lease_s / 6)
        store = Store(self.settings.store_url(), home=self.settings.home, turn_s=turn_s)
        ensure_schema(store)
        return store

    @cached_property
    def ledger(self) -> Ledger:
        """The store's books."""
        from batcher.budget.ledger import Ledger

        return Ledger(self.store, self.settings.time_zone)

    @cached_property
    def alerts(self) -> Alerts:
        """The store's alerts, and the channels that they go to."""
        from batcher.alerts.alerts import Alerts, Evidence

        return Alerts(
            self.store, self.settings, Evidence(self._interval, self._price_dates, self._sampled_share)
        )

    @staticmethod
    def _sampled_share(connection: Connection, job_id: int) -> SampledShare | None:
        """A job's estimated accuracy by what was drawn of it."""
        from batcher.alerts.jobs import SampledShare
        from batcher.quality.estimates import read_sampled

        found = read_sampled(connection, job_id)
        if found is None or found.whole is None:
            return None
        interval = found.whole.interval
        return SampledShare(interval.share, interval.low, interval.high, found.whole.scored)

    @staticmethod
    def _interval(hits: int, trials: int) -> tuple[float, float]:
        from batcher.statistics.intervals import wilson

        interval = wilson(hits, trials)
        return interval.low, interval.high

    def _price_dates(self) -> dict[str, str]:
        """When the prices of the models that can be used, and cost something, were read."""
        return {
            model.name: model.as_of
            for model in self.catalog.models.values()
            if (model.prices.input_nusd or model.prices.output_nusd) and self._has_key(model)
        }

    @cached_property
    def catalog(self) -> Catalog:
        """Models, tiers and providers in force."""
        from batcher.catalog.models import load_catalog

        return load_catalog(self.settings)

    @cached_property
    def limiter(self) -> Limiter:
        """The rate limiter: this process's own, or one that all processes share in Redis."""
        url = self.settings.limiter_url()
        if url is None:
            from batcher.limits.memory import MemoryLimiter

            return MemoryLimiter(self._limits, ceilings=self._ceilings)
        from batcher.limits.redis import RedisLimiter

        return RedisLimiter(url, self._limits, ceilings=self._ceilings)

    def _limits(self, key: str) -> Limits | None:
        """The catalogue's limits of a binding's key, the user's settings over them."""
        model = self.catalog.models.get(key.partition("#")[0])
        return None if model is None else model.limits

    def _ceilings(self, key: str) -> Limits | None:
        """What the user set on purpose: response headers never raise a limit above it."""
        from batcher.catalog.models import Limits

        own = self.settings.models.get(key.partition("#")[0])
        return None if own is None else Limits(own.rpm, own.tpm, own.rpd, own.concurrency, own.itpm, own.otpm)

    def is_usable(self, model: Model) -> bool:
        """Whether the model's provider has a key, or needs none and is set up.

        Raises:
            KeyValueError: if it has one that cannot be sent.
        """
        info = self.catalog.providers[model.provider]
        return info.api_key_env is None or self.settings.key(info.api_key_env) is not None

    def _has_key(self, model: Model) -> bool:
        """The same, of a key of any kind."""
        info = self.catalog.providers[model.provider]
        return info.api_key_env is None or self.settings.secret(info.api_key_env) is not None

    def provider(self, name: str) -> Provider:
        """The pooled client of a provider; made once per process."""
        if name not in self._providers:
            from batcher.dispatch.collector import collect_rarely
            from batcher.providers.factory import build_provider

            info = self.catalog.providers[name]
            self._providers[name] = build_provider(
                info,
                self.settings.key(info.api_key_env) if info.api_key_env else None,
                self.settings.secret(info.base_url_env) if info.base_url_env else None,
                max_connections=self.settings.concurrency,
                local=self._local_options() if info.kind == "local" else None,
            )
            collect_rarely()
        return self._providers[name]

    def account(self, provider: str) -> str:
        """A short name for the account behind a provider: a fingerprint of its key, or "" without one."""
        variable = self.catalog.providers[provider].api_key_env
        key = self.settings.secret(variable) if variable else None
        return blake2b(key.encode(), digest_size=4, person=b"account").hexdigest() if key else ""

    def _local_options(self) -> LocalOptions:
        from batcher.providers.local.options import local_options

        contexts = {
            model.id: model.context for model in self.catalog.models.values() if self._is_local(model)
        }
        return local_options(self.settings, contexts)

    def _is_local(self, model: Model) -> bool:
        return self.catalog.providers[model.provider].kind == "local"

    def engine(self) -> Engine:
        """A new engine on this runtime's parts."""
        from batcher.engine.engine import Engine
        from batcher.engine.lane import LaneFactory
        from batcher.engine.options import EngineOptions
        from batcher.engine.policy import RetryLimits
        from batcher.engine.traffic import Traffic
        from batcher.limits.clock import SystemClock

        settings = self.settings
        lanes = LaneFactory(
            self.catalog,
            self.provider,
            self.account,
            self.is_usable,
            self.find_task,
            timeout_s=settings.call_timeout_s,
            place_of=self.place_of,
            load_ladder=self.ladder_policy,
        )
        options = EngineOptions(
            concurrency=settings.concurrency,
            chunk_items=settings.chunk_items,
            lease_s=settings.lease_s,
            retry=RetryLimits(settings.max_attempts, settings.max_elapsed_s),
        )
        traffic = Traffic(self.limiter, settings.concurrency, SystemClock())
        return Engine(
            self.store,
            self.ledger,
            lanes,
            traffic,
            options,
            self.judging,
            self.hand_over,
            self.watches,
        )

    @property
    def watches(self) -> tuple[Watch, ...]:
        """What looks after jobs by what is scored of their answers."""
        return self.floor_watch, self.ladder_watch

    @cached_property
    def ladder_watch(self) -> LadderWatch:
        """What tells of learned ladders whose answers fall short of their promise."""
        from batcher.engine.ladder_watch import LadderWatch

        return LadderWatch(self.store, self.ledger, self.ladder_policy, self.find_task)

    @cached_property
    def floor_watch(self) -> FloorWatch:
        """What keeps routed jobs on the model that the evidence asks for."""
        from batcher.engine.floor_watch import FloorWatch

        return FloorWatch(self.store, self.ledger, self.router, self.find_task)

    @cached_property
    def router(self) -> Router:
        """What makes the choices of routed jobs."""
        from batcher.planning.routing import Router

        return Router(self.catalog, self.is_usable, self.place_of, self.settings.routing)

    def place_of(self, model: Model) -> Place:
        """Where a model answers."""
        from batcher.catalog.privacy import place_of

        info = self.catalog.providers[model.provider]
        return place_of(model, info, self.settings.secret(info.base_url_env) if info.base_url_env else None)

    @cached_property
    def judges(self) -> Judges:
        """Who may judge a job's answers."""
        from batcher.planning.judges import Judges

        return Judges(self.catalog, self.is_usable, self.place_of)

    @cached_property
    def judging(self) -> Judging:
        """What has drawn answers judged."""
        from batcher.engine.judging import Judging

        return Judging(self.store, self.ledger, self.judges)

    @cached_property
    def hand_over(self) -> HandOver:
        """What takes the answers of staged jobs from step to step."""
        from batcher.engine.stages import HandOver

        return HandOver(self.store, self.catalog, self.is_usable)

    def ladder_policy(self, ladder_id: int) -> LadderPolicy:
        """A learned ladder of this store.

        Raises:
            UsageError: if there is none of that number.
            ConfigurationError: if another version of batcher calibrated it.
        """
        import orjson

        from batcher.routing.ladder.policy import LadderPolicy
        from batcher.store.ladders import get_ladder

        with self.store.read() as connection:
            return LadderPolicy.from_json(orjson.loads(get_ladder(connection, ladder_id).policy))

    def find_task(self, spec: TaskSpec) -> Task | None:
        """The code of a stored task, if it is here and still the same; its own validators then run too."""
        from batcher.errors import TaskError
        from batcher.tasks.registry import load_task

        try:
            return load_task(spec.ref)
        except TaskError:
            return None

    async def aclose(self) -> None:
        """Close the providers' clients and what was started for them."""
        providers, self._providers = list(self._providers.values()), {}
        await asyncio.gather(*(provider.aclose() for provider in providers))
