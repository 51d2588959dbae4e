"""Parser processes: a parser that crashes, hangs or eats the memory costs one document, not the run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import TYPE_CHECKING, Any, Final

from batcher.documents.records import ContentError
from batcher.errors import DependencyError
from batcher.settings import folder_kept_out

if TYPE_CHECKING:
    from multiprocessing.synchronize import RLock

    from pebble import ProcessFuture, ProcessPool

PARSE_TIMEOUT_S: Final = 120.0
MAX_PARSER_BYTES: Final = 4_000_000_000
MAX_WORKERS: Final = 8
_TASKS_PER_PROCESS: Final = 2_000
_ORPHAN_GRACE_S: Final = 30
_MAX_RESTARTS: Final = 3


@dataclass(slots=True)
class Ticket:
    """One task given to the pool, kept so that it can be given again if the pool itself breaks."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    future: ProcessFuture[Any]
    pool: ProcessPool

    def done(self) -> bool:
        """Tells whether :meth:`ParserPool.result` would return at once."""
        return self.future.done()


class ParserPool:
    """A few child processes, started when the first task comes.

    They are spawned, not forked (this process may have threads), import nothing but what the task needs,
    and end with this process, even one that is killed.
    """

    def __init__(self, workers: int | None = None, timeout_s: float = PARSE_TIMEOUT_S) -> None:
        self.workers = workers or max(1, min(MAX_WORKERS, os.cpu_count() or 1))
        self._timeout_s = timeout_s
        self._pool: ProcessPool | None = None
        self._restarts = 0

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Ticket:
        """Queues ``function(*arguments)``, both picklable, for the next free process."""
        pool = self._running_pool()
        return Ticket(function, arguments, self._schedule(pool, function, arguments), pool)

    def result(self, ticket: Ticket) -> Any:
        """Waits for a task.

        Raises:
            ContentError: ``crashed``, ``timeout`` or ``unreadable`` (the parser raised something unforeseen).
            DependencyError: the processes cannot be started at all.
        """
        from pebble import ProcessExpired

        while True:
            if ticket.pool is not self._pool and not ticket.future.done():
                self._resubmit(ticket)
            try:
                value = ticket.future.result()
            except FutureTimeoutError as error:
                reason = f"The parser did not finish within {self._timeout_s:g} s."
                raise ContentError("timeout", reason) from error
            except ProcessExpired as error:
                raise ContentError(
                    "crashed", f"The parser crashed ({_how_it_ended(error.exitcode)})."
                ) from error
            except (MemoryError, RecursionError) as error:
                raise ContentError(
                    "crashed", f"The parser ran out of room ({type(error).__name__})."
                ) from error
            except BrokenProcessPool as error:
                if ticket.pool is self._pool:
                    self._restart(error)
                self._resubmit(ticket)
            except Exception as error:  # a foreign parser may raise anything
                raise ContentError(
                    "unreadable", f"The parser failed: {type(error).__name__}: {error}"
                ) from error
            else:
                self._restarts = 0
                return value

    def close(self) -> None:
        """Stops the processes, whatever they do. Safe to call twice."""
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
            self._pool = None

    def _schedule(
        self, pool: ProcessPool, function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> ProcessFuture[Any]:
        return pool.schedule(_run, args=(self._timeout_s, function, *arguments), timeout=self._timeout_s)

    def _resubmit(self, ticket: Ticket) -> None:
        ticket.pool = self._running_pool()
        ticket.future = self._schedule(ticket.pool, ticket.function, ticket.arguments)

    def _running_pool(self) -> ProcessPool:
        if self._pool is not None and not self._pool.active:
            self._restart(None)
        if self._pool is None:
            self._pool = self._start()
        return self._pool

    def _start(self) -> ProcessPool:
        from pebble import ProcessPool

        with folder_kept_out():
            # It is a Python too, and comes with the first lock.
            resource_tracker.ensure_running()
        return ProcessPool(
            max_workers=self.workers,
            max_tasks=_TASKS_PER_PROCESS,
            initializer=_prepare_process,
            context=_Spawning(),
        )

    def _restart(self, cause: BaseException | None) -> None:
        """Replaces a broken pool; the tickets that were in it find out and come again."""
        self._restarts += 1
        if self._restarts > _MAX_RESTARTS:
            raise DependencyError(
                "The parser processes cannot be started. In a script of your own, keep the call under"
                " `if __name__ == '__main__':`; else see whether memory or the process limit is used up."
            ) from cause
        self.close()


class _Spawned(SpawnProcess):
    """A spawned process. Others begin with the working folder on their path, and import from it."""

    def start(self) -> None:
        """Start it."""
        with folder_kept_out():
            super().start()


class _Spawning(SpawnContext):
    """Starts such processes, and keeps the names of their locks until the pool is gone.

    The pool lets go of its locks before it ends its processes (pebble 5.2): one that is starting then found
    them gone, and wrote a traceback on the user's screen.
    """

    Process = _Spawned

    def __init__(self) -> None:
        super().__init__()
        self._locks: list[RLock] = []

    def RLock(self) -> RLock:  # noqa: N802 - the context's own name for it
        """A lock that lives as long as this."""
        lock = super().RLock()
        self._locks.append(lock)
        return lock


def _prepare_process() -> None:
    """Bounds a parser process's memory and keeps its chatter off the user's screen."""
    if sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        bound = MAX_PARSER_BYTES if hard == resource.RLIM_INFINITY else min(MAX_PARSER_BYTES, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (bound, hard))
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    os.close(silence)


def _run(timeout_s: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs a task under an alarm that ends this process when its parent is no longer there to do so."""
    if sys.platform == "win32":
        return function(*arguments)
    signal.alarm(int(timeout_s) + _ORPHAN_GRACE_S)
    try:
        return function(*arguments)
    finally:
        signal.alarm(0)


def _how_it_ended(exitcode: int) -> str:
    if exitcode < 0:
        try:
            return signal.Signals(-exitcode).name
        except ValueError:
            return f"signal {-exitcode}"
    return f"exit code {exitcode}"
