"""Reading a corpus: whoever does says so again and again, and pauses the job if he cannot go on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

from sqlalchemy import Connection

from batcher.domain import JobState
from batcher.engine.control import INTERRUPTED
from batcher.engine.deserted import GONE
from batcher.errors import BatcherError, DependencyError
from batcher.store.database import Store
from batcher.store.jobs import get_job, set_state
from batcher.store.reading import HALF_READ, NOBODY, renew_reader, set_reader
from batcher.store.worker_names import worker_name

READER_S: Final = 60.0
"""Who reads a corpus says so three times in this many seconds; one who has not is held to be lost."""

_TRY_AGAIN_S: Final = 2.0


class Reader:
    """This process, while it reads a job's corpus. A context manager; what ends it early pauses the job.

    Args:
        store: the store.
        job_id: the job.
    """

    def __init__(self, store: Store, job_id: int) -> None:
        self._store = store
        self._job_id = job_id
        self._name = worker_name()
        self._is_over = threading.Event()
        # A daemon: a store that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._keep, name="batcher-reader", daemon=True)

    def __enter__(self) -> Self:
        with self._store.write() as connection:
            set_reader(connection, self._job_id, self._name, self._store.now(connection) + READER_S)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join(_TRY_AGAIN_S)
        if error is not None:
            pause_unread(self._store, self._job_id, error)

    def renew(self) -> None:
        """Say that this process reads; take the job back from those who held it to be lost."""
        with self._store.write() as connection:
            now = self._store.now(connection)
            if not renew_reader(connection, self._job_id, self._name, now + READER_S):
                return
            job = get_job(connection, self._job_id)
            if job.state is JobState.PAUSED and (job.reason or "").startswith(GONE):
                set_state(connection, self._job_id, JobState.INGESTING, now)

    def _keep(self) -> None:
        pause_s = READER_S / 3
        while not self._is_over.wait(pause_s):
            try:
                self.renew()
                pause_s = READER_S / 3
            except DependencyError:
                pause_s = _TRY_AGAIN_S


def pause_unread(store: Store, job_id: int, error: BaseException) -> None:
    """Pause a job whose corpus cannot be read any further, if the store is there to keep it."""
    why = str(error) if isinstance(error, BatcherError) else type(error).__name__
    interrupted = isinstance(error, (KeyboardInterrupt, SystemExit))
    reason = INTERRUPTED if interrupted else f"{HALF_READ}: {why}"
    with contextlib.suppress(DependencyError), store.write() as connection:
        only = [JobState.INGESTING]
        set_state(connection, job_id, JobState.PAUSED, store.now(connection), reason=reason, only=only)


@contextlib.contextmanager
def paused_if_unread(store: Store, job_id: int) -> Iterator[None]:
    """Pause a job with the reason if what is done here, before its corpus can be read, fails."""
    try:
        yield
    except BaseException as error:
        pause_unread(store, job_id, error)
        raise


def expect_reader(connection: Connection, job_id: int, now: float) -> None:
    """Somebody is to begin to read a job's corpus within a minute."""
    set_reader(connection, job_id, NOBODY, now + READER_S)
