"""One worker process: one event loop, one Runtime and one engine at a time, in a thread of their own."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Final, TypeVar

from batcher.alerts.lookout import Lookout
from batcher.errors import BatcherError, DependencyError
from batcher.planning.choice import why_unserved
from batcher.store.schema import SCHEMA_HEAD, ensure_schema, schema_version

if TYPE_CHECKING:
    from batcher.catalog.models import Model
    from batcher.engine.engine import Engine
    from batcher.runtime import Runtime

Answer = TypeVar("Answer")

_log = logging.getLogger("batcher.worker")

_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0
_SCHEMA_EVERY_S: Final = 15.0
_ANSWER_WITHIN_S: Final = 1.0


class WorkerProcess:
    """Serves tiers until it is told to stop; when the store is lost it tries again, ever more slowly.

    Args:
        runtime: the process's one.
        tiers: what it serves.
    """

    def __init__(self, runtime: Runtime, tiers: tuple[str, ...]) -> None:
        self.runtime = runtime
        self.tiers = tiers
        self.started_at = time.time()
        self.engine: Engine | None = None
        self.trouble: str | None = None
        self.unserved: dict[str, str] = {}
        self._ended: Counter[str] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="batcher-engine", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self.unserved = self._find_unserved()
        for tier, why in self.unserved.items():
            _log.warning("tier %s is not served here: %s", tier, why)
        self._thread.start()

    def ring(self) -> None:
        """Look for work at once."""
        self._on_the_loop(lambda engine: engine.ring())

    def stop(self) -> None:
        """Send nothing more. May be called from a signal handler, and more than once."""
        self._stopping.set()
        self._on_the_loop(lambda engine: engine.stop())

    def join(self, grace_s: float) -> bool:
        """Wait until the calls in flight are answered and stored, at most so long; whether they were."""
        self._thread.join(grace_s)
        if self._thread.is_alive():
            if (engine := self.engine) is not None:
                engine.give_up()
            _log.warning(
                "calls were still in flight after the grace time: they stay booked at their worst case, "
                "and their documents go to another worker"
            )
            return False
        return True

    def describe(self) -> dict[str, Any]:
        """What it does, as JSON values."""
        trouble = self._present_trouble()
        described: dict[str, Any] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "tiers": list(self.tiers),
            "unserved": self.unserved,
            "started_at": self.started_at,
            "state": "stopping" if self._stopping.is_set() else "trouble" if trouble else "serving",
            "trouble": trouble,
        }
        return described | (self.ask_engine(lambda engine: engine.describe()) or {})

    def _present_trouble(self) -> str | None:
        """Why it serves nobody just now, if so."""
        if self.trouble is None and len(self.unserved) == len(self.tiers):
            return "; ".join(dict.fromkeys(self.unserved.values()))
        return self.trouble if self.trouble or self.engine is None else self.runtime.store.trouble

    def _find_unserved(self) -> dict[str, str]:
        """Why tiers are not served: no model has a key or is installed here. Other workers may serve them."""
        from batcher.providers.local.weights import NOT_INSTALLED

        catalog, is_usable = self.runtime.catalog, self.runtime.is_usable
        found = {}
        for tier in self.tiers:
            if why := why_unserved(catalog, tier, is_usable):
                found[tier] = why
            elif why_unserved(catalog, tier, lambda model: is_usable(model) and self._is_installed(model)):
                found[tier] = NOT_INSTALLED
        return found

    def _is_installed(self, model: Model) -> bool:
        """Whether the code that makes its calls is: models of this machine need an extra."""
        is_local = self.runtime.catalog.providers[model.provider].kind == "local"
        return not is_local or importlib.util.find_spec("xllamacpp") is not None

    def ask_engine(self, question: Callable[[Engine], Answer]) -> Answer | None:
        """Put a question to the engine on its loop, from another thread; None if it does not answer soon."""
        loop, engine = self._loop, self.engine
        if loop is None or engine is None or not loop.is_running():
            return None

        async def answer() -> Answer:
            return question(engine)

        future = asyncio.run_coroutine_threadsafe(answer(), loop)
        try:
            return future.result(_ANSWER_WITHIN_S)
        except (TimeoutError, CancelledError):
            return None

    def counters(self) -> Counter[str]:
        """What only ever grows, of all engines of this process; see ``Progress.counters``."""
        engine = self.engine
        return self._ended + (engine.progress.counters() if engine is not None else Counter())

    def _on_the_loop(self, act: Any) -> None:
        loop, engine = self._loop, self.engine
        if loop is not None and engine is not None and loop.is_running():
            loop.call_soon_threadsafe(act, engine)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve_once(self) -> None:
        """One engine's life: until it is stopped, or the store is lost or gets another schema."""
        await asyncio.to_thread(lambda: ensure_schema(self.runtime.store))
        engine = self.runtime.engine()
        self.engine = engine
        watching = asyncio.create_task(self._stop_at_another_schema(engine))
        try:
            if not self._stopping.is_set():
                self.trouble = None
                with Lookout(self.runtime.alerts, None, engine.progress.rates):
                    await engine.run(None, self.tiers, stay=True)
        finally:
            watching.cancel()
            self.engine = None
            self._ended += engine.progress.counters()

    async def _stop_at_another_schema(self, engine: Engine) -> None:
        """Look now and then whether another version of batcher has changed the tables under this one."""
        while True:
            await asyncio.sleep(_SCHEMA_EVERY_S)
            with contextlib.suppress(DependencyError):
                if await asyncio.to_thread(self._read_schema) != SCHEMA_HEAD:
                    _log.error("the store has another schema than this worker: nothing more is sent")
                    engine.stop()

    def _read_schema(self) -> str | None:
        with self.runtime.store.read() as connection:
            return schema_version(connection)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        try:
            while not self._stopping.is_set():
                try:
                    await self._serve_once()
                    pause_s = _FIRST_PAUSE_S
                except Exception as error:  # noqa: BLE001 - a process that serves nobody must not look alive
                    self.trouble = str(error) or type(error).__name__
                    unforeseen = None if isinstance(error, BatcherError) else error
                    _log.error("%s. Trying again in %.0f s", self.trouble, pause_s, exc_info=unforeseen)
                    await asyncio.to_thread(self._stopping.wait, pause_s)
                    pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
        finally:
            await self.runtime.aclose()
            _log.info("stopped")
