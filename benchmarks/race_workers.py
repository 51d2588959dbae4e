"""The workers of a race: started, killed, stopped past their leases and woken again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Final

from race_course import Course
from sqlalchemy import ColumnElement, func, make_url, select, text

from batcher.store.tables import leases

OVERSLEPT_S: Final = 2.0
"""How long past its last lease a stopped worker is left asleep."""

_WORKER: Final = Path(__file__).with_name("race_worker.py")
_ASLEEP_WITHIN_S: Final = 5.0


@dataclass(eq=False)
class Worker:
    """One process.

    Attributes:
        name: what the database knows its connections by.
        account: what the simulator's bill knows its key by.
        ended: what it said at its end; None while it runs, or if it was killed.
    """

    number: int
    process: subprocess.Popen[str]
    name: str
    account: str
    ended: str | None = None
    was_killed: bool = False
    wakes_at: float | None = None

    @property
    def is_asleep(self) -> bool:
        """Whether it is stopped."""
        return self.wakes_at is not None


@dataclass
class Workers:
    """All workers of a race.

    Attributes:
        kills: how many were killed.
        naps: how many were stopped past their leases and woken.
    """

    course: Course
    chance: random.Random
    kills: int = 0
    naps: int = 0
    everyone: list[Worker] = field(default_factory=list)

    def start(self) -> None:
        """One more."""
        number = len(self.everyone)
        name, key = f"racer-{number}", f"sk-racer-{number}"
        environment = os.environ | {"OPENAI_API_KEY": key}
        if not self.course.runtime.store.is_sqlite:
            url = make_url(self.course.database_url).update_query_dict({"application_name": name})
            environment["BATCHER_DATABASE_URL"] = url.render_as_string(hide_password=False)
        command = [sys.executable, str(_WORKER), str(self.course.home), str(self.course.job.id)]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        account = blake2b(key.encode(), digest_size=6).hexdigest()
        self.everyone.append(Worker(number, process, name, account))

    def running(self) -> list[Worker]:
        """Those that have not ended; takes down what the others said."""
        for worker in self.everyone:
            if worker.ended is None and not worker.was_killed and worker.process.poll() is not None:
                said, complaint = worker.process.communicate()
                worker.ended = (
                    (said if worker.process.returncode == 0 else complaint).strip().rpartition("\n")[2]
                )
        return [worker for worker in self.everyone if worker.ended is None and not worker.was_killed]

    def kill_one(self) -> None:
        """``kill -9`` of one that is awake and has begun, and another in its place; the last is spared."""
        running = self.running()
        begun = [worker for worker in running if not worker.is_asleep and self._has_begun(worker)]
        if len(running) < 2 or not begun:
            return
        self._kill(self.chance.choice(begun))
        self.kills += 1
        self.start()

    def stop_one(self) -> None:
        """SIGSTOP one that holds a lease, until well after its last lease has run out."""
        awake = [worker for worker in self.running() if not worker.is_asleep]
        self.chance.shuffle(awake)
        for worker in awake:
            if self._lease_ends_at(worker) is None or not self._stop_outside_a_transaction(worker):
                continue
            ends_at = self._lease_ends_at(worker)
            if ends_at is None:
                worker.process.send_signal(signal.SIGCONT)
                continue
            worker.wakes_at = time.monotonic() + ends_at - self._now() + OVERSLEPT_S
            return

    def wake(self) -> None:
        """SIGCONT those that have slept long enough."""
        for worker in self.everyone:
            if worker.wakes_at is not None and time.monotonic() >= worker.wakes_at:
                worker.process.send_signal(signal.SIGCONT)
                worker.wakes_at = None
                self.naps += 1

    def kill_all(self) -> None:
        """End whatever still runs."""
        for worker in self.running():
            self._kill(worker)

    def _kill(self, worker: Worker) -> None:
        worker.was_killed = True
        worker.process.kill()
        worker.process.communicate()

    def _now(self) -> float:
        with self.course.runtime.store.read() as connection:
            return self.course.runtime.store.now(connection)

    def _has_begun(self, worker: Worker) -> bool:
        """Whether it ever had a lease: one that is still starting up can lose nothing."""
        query = select(func.count()).select_from(leases).where(_is_of(worker))
        with self.course.runtime.store.read() as connection:
            return connection.execute(query).scalar_one() > 0

    def _lease_ends_at(self, worker: Worker) -> float | None:
        """When the last of a worker's leases runs out, on the database's clock."""
        query = select(func.max(leases.c.expires_at)).where(_is_of(worker), leases.c.state == "active")
        with self.course.runtime.store.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    def _stop_outside_a_transaction(self, worker: Worker) -> bool:
        """Whether it could be stopped so that it holds no lock, which would stop all the others too."""
        for _ in range(50):
            worker.process.send_signal(signal.SIGSTOP)
            if not _is_stopped(worker.process.pid):
                return False
            if self._holds_nothing(worker):
                return True
            worker.process.send_signal(signal.SIGCONT)
            time.sleep(self.chance.uniform(0, 0.02))
        return False

    def _holds_nothing(self, worker: Worker) -> bool:
        store = self.course.runtime.store
        if store.is_sqlite:
            return _is_free(Path(store.engine.url.database or ""))
        busy = text(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = :name AND state <> 'idle'"
        )
        with store.read() as connection:
            return connection.execute(busy, {"name": worker.name}).scalar_one() == 0


def _is_of(worker: Worker) -> ColumnElement[bool]:
    """Whether a lease is this worker's."""
    return leases.c.worker.like(f"%:{worker.process.pid}:%")


def _is_stopped(pid: int) -> bool:
    """Wait until every thread of a process that got SIGSTOP has stopped; False if it has ended."""
    ends_at = time.monotonic() + _ASLEEP_WITHIN_S
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while time.monotonic() < ends_at:
            threads = Path(f"/proc/{pid}/task").glob("*/stat")
            states = {thread.read_text().rpartition(")")[2].split()[0] for thread in threads}
            if states == {"T"}:
                return True
            if not states or "Z" in states:
                return False
            time.sleep(0.001)
    return False


def _is_free(database: Path) -> bool:
    """Whether nobody holds a SQLite file's write lock for longer than a moment."""
    with _opened(database) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return False
        return True


@contextlib.contextmanager
def _opened(database: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(database, timeout=0.5, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()
