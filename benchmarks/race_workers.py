"""The workers of a race: started, killed, stopped past their leases and woken again."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from select import select
from typing import Final, Self

from race_course import Course
from sqlalchemy import ColumnElement, func, make_url, text
from sqlalchemy import select as query_of

from batcher.store.tables import leases

OVERSLEPT_S: Final = 2.0
"""How long past its last lease a stopped worker is left asleep."""

_FORKER: Final = Path(__file__).with_name("race_worker.py")
_STOPPED_WITHIN_S: Final = 5.0


@dataclass(eq=False)
class Worker:
    """One process.

    Attributes:
        pid: its id.
        handle: its pidfd, which no later process of the same id can be mistaken for.
        name: what the database knows its connections by.
        account: what the simulator's bill knows its key by.
        says: the file that takes how its run ended.
        ended: what it said; None while it runs, or if it was killed.
        wakes_at: until when it sleeps, on the monotonic clock; None if it is awake.
    """

    number: int
    pid: int
    handle: int
    name: str
    account: str
    says: Path
    ended: str | None = None
    was_killed: bool = False
    wakes_at: float | None = None

    @property
    def is_asleep(self) -> bool:
        """Whether it is stopped."""
        return self.wakes_at is not None

    @property
    def is_gone(self) -> bool:
        """Whether the process has ended."""
        return bool(select([self.handle], [], [], 0)[0])

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, number)


class Workers:
    """All workers of a race, as a context manager: whoever still runs at the end is killed.

    Args:
        course: where they run.
        chance: decides who is killed and stopped.

    Attributes:
        everyone: in the order in which they were started.
        kills: how many were killed in the race.
        naps: how many were stopped past their leases and woken.
    """

    def __init__(self, course: Course, chance: random.Random) -> None:
        self.course = course
        self.chance = chance
        self.everyone: list[Worker] = []
        self.kills = 0
        self.naps = 0

    def __enter__(self) -> Self:
        command = [sys.executable, str(_FORKER), str(self.course.home), str(self.course.job.id)]
        self._forker = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.running():
            self._kill(worker)
        self._forker.communicate()
        for worker in self.everyone:
            os.close(worker.handle)

    def start(self) -> None:
        """One more."""
        number = len(self.everyone)
        name, key = f"racer-{number}", f"sk-racer-{number}"
        environment = {"OPENAI_API_KEY": key}
        if not self.course.runtime.store.is_sqlite:
            url = make_url(self.course.database_url).update_query_dict({"application_name": name})
            environment["BATCHER_DATABASE_URL"] = url.render_as_string(hide_password=False)
        says = self.course.home / f"{name}.txt"
        assert self._forker.stdin is not None
        assert self._forker.stdout is not None
        self._forker.stdin.write(json.dumps({"environment": environment, "says": str(says)}) + "\n")
        self._forker.stdin.flush()
        pid = int(self._forker.stdout.readline())
        account = blake2b(key.encode(), digest_size=6).hexdigest()
        self.everyone.append(Worker(number, pid, os.pidfd_open(pid), name, account, says))

    def running(self) -> list[Worker]:
        """Those that have not ended; takes down what the others said."""
        for worker in self.everyone:
            if worker.ended is None and not worker.was_killed and worker.is_gone:
                worker.ended = worker.says.read_text() if worker.says.exists() else "it is gone"
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
                worker.send(signal.SIGCONT)
                continue
            worker.wakes_at = time.monotonic() + ends_at - self._now() + OVERSLEPT_S
            return

    def wake(self) -> None:
        """SIGCONT those that have slept long enough."""
        for worker in self.everyone:
            if worker.wakes_at is not None and time.monotonic() >= worker.wakes_at:
                worker.send(signal.SIGCONT)
                worker.wakes_at = None
                self.naps += 1

    def _kill(self, worker: Worker) -> None:
        worker.was_killed = True
        worker.send(signal.SIGKILL)
        while not worker.is_gone:
            time.sleep(0.001)

    def _now(self) -> float:
        with self.course.runtime.store.read() as connection:
            return self.course.runtime.store.now(connection)

    def _has_begun(self, worker: Worker) -> bool:
        """Whether it ever had a lease: one that is still starting up can lose nothing."""
        query = query_of(func.count()).select_from(leases).where(_is_of(worker))
        with self.course.runtime.store.read() as connection:
            return connection.execute(query).scalar_one() > 0

    def _lease_ends_at(self, worker: Worker) -> float | None:
        """When the last of a worker's leases runs out, on the database's clock."""
        query = query_of(func.max(leases.c.expires_at)).where(_is_of(worker), leases.c.state == "active")
        with self.course.runtime.store.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    def _stop_outside_a_transaction(self, worker: Worker) -> bool:
        """Whether it could be stopped so that it holds no lock, which would stop all the others too."""
        for _ in range(50):
            worker.send(signal.SIGSTOP)
            if not _is_stopped(worker):
                return False
            if self._holds_nothing(worker):
                return True
            worker.send(signal.SIGCONT)
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
    return leases.c.worker.like(f"%:{worker.pid}:%")


def _states(worker: Worker) -> set[str]:
    """The states of a worker's threads; empty if it is gone."""
    states: set[str] = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{worker.pid}/task").iterdir():
            states.add((thread / "stat").read_text().rpartition(")")[2].split()[0])
    return states


def _is_stopped(worker: Worker) -> bool:
    """Wait until every thread of a worker that got SIGSTOP has stopped; False if it has ended."""
    ends_at = time.monotonic() + _STOPPED_WITHIN_S
    while time.monotonic() < ends_at and not worker.is_gone:
        if _states(worker) == {"T"}:
            return True
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
