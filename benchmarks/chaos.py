"""Many workers under attack: what is there must be there at the end, once, and be paid for once.

    python benchmarks/chaos.py
    python benchmarks/chaos.py --seeds 1 --docs 600

Worker processes on PostgreSQL and Redis put documents through the simulator, which spoils a tenth of the
calls. Every second one of these is done: `kill -9` of a worker, Redis killed and started empty, Redis
flushed, all database connections dropped, a worker stopped for longer than its leases, a message delivered
twice, the simulator killed or ended and started again. Afterwards `batcher retry` brings what the faults made
fail. The exit code is 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil
import redis
from chaos_books import Books, Watch
from chaos_ground import LEASE_S, Ground, grounds, wait_for
from sqlalchemy import func, select, text

from batcher.dispatch.celery_app import WORK, make_app, queue_of
from batcher.dispatch.waking import Waker
from batcher.domain import JobState
from batcher.engine.reclaiming import reclaim_lost
from batcher.errors import DependencyError
from batcher.store.tables import leases

EVERY_S: Final = 1.0
LONGEST_S: Final = 900.0
OVERSLEPT_S: Final = (1.0, 3.0)
_LOOK_EVERY_S: Final = 0.25
_SETTLE_S: Final = 30.0
_MOST_SHOWN: Final = 8

DECK: Final = {
    "kill": 3,
    "drop connections": 3,
    "stop": 2,
    "restart redis": 2,
    "flush redis": 2,
    "deliver twice": 2,
    "restart vendor": 1,
}
"""How often each is dealt, of 15."""

MOST_VENDOR_RESTARTS: Final = 2
"""Each opens the circuits of all workers, for 15 s at first and ever longer: no work would be attacked."""

_DROP: Final = text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


class Chaos:
    """Does one thing after the other to a ground.

    Args:
        ground: whose workers and servers.
        watch: is told of lost workers.
        chance: who and when.

    Attributes:
        done: how often each was done.
    """

    def __init__(self, ground: Ground, watch: Watch, chance: random.Random) -> None:
        self._ground, self._watch, self._chance = ground, watch, chance
        self._deck: list[str] = []
        self._asleep: tuple[psutil.Process, float] | None = None
        self._app = make_app(ground.runtime.settings, ground.runtime.catalog.tiers)
        self.done: Counter[str] = Counter()

    def strike(self) -> None:
        """Do what comes next."""
        if not self._deck:
            self._deck = [name for name, times in DECK.items() for _ in range(times)]
            self._chance.shuffle(self._deck)
        name = self._deck.pop()
        if name == "restart vendor" and self.done[name] >= MOST_VENDOR_RESTARTS:
            name = "deliver twice"
        deeds: dict[str, Callable[[], bool]] = {
            "kill": self._kill,
            "drop connections": self._drop,
            "stop": self._stop,
            "restart redis": self._restart_redis,
            "flush redis": self._flush_redis,
            "deliver twice": self._deliver_twice,
            "restart vendor": self._restart_vendor,
        }
        self.done[name] += deeds[name]()

    def wake(self, *, at_once: bool = False) -> None:
        """SIGCONT the stopped worker when it has slept long enough."""
        if self._asleep is not None and (at_once or time.monotonic() >= self._asleep[1]):
            with suppress(psutil.NoSuchProcess):
                self._asleep[0].resume()
            self._asleep = None

    def is_somebody_asleep(self) -> bool:
        """Whether a worker is stopped."""
        return self._asleep is not None

    def _victim(self) -> psutil.Process | None:
        """A worker that is awake and holds a lease."""
        busy = select(leases.c.worker).where(leases.c.state == "active").distinct()
        with self._ground.runtime.store.read() as connection:
            pids = {int(worker.rsplit(":", 2)[1]) for worker in connection.execute(busy).scalars()}
        asleep = self._asleep[0].pid if self._asleep is not None else None
        found = [one for one in self._ground.worker_processes() if one.pid in pids and one.pid != asleep]
        return self._chance.choice(found) if found else None

    def _kill(self) -> bool:
        victim = self._victim()
        if victim is None:
            return False
        at = time.time()
        victim.kill()
        wait_for(lambda: not _lives(victim), "a killed worker lives on")
        self._watch.lost("kill", victim.pid, at)
        return True

    def _stop(self) -> bool:
        victim = self._victim() if self._asleep is None else None
        if victim is None:
            return False
        at = time.time()
        victim.suspend()
        self._asleep = victim, time.monotonic() + LEASE_S + self._chance.uniform(*OVERSLEPT_S)
        self._watch.lost("stop", victim.pid, at)
        return True

    def _drop(self) -> bool:
        with self._ground.runtime.store.session() as connection:
            connection.execute(_DROP)
        return True

    def _restart_redis(self) -> bool:
        self._ground.redis.end()
        time.sleep(self._chance.uniform(0, 1.0))
        self._ground.redis.start()
        return True

    def _flush_redis(self) -> bool:
        with redis.Redis(port=self._ground.redis.port, socket_timeout=5.0) as client:
            client.flushall()
            client.script_flush()
        return True

    def _deliver_twice(self) -> bool:
        name = str(uuid.uuid4())
        with self._app.connection_for_write() as connection:
            for _ in range(2):
                self._app.send_task(
                    WORK,
                    args=["economy"],
                    queue=queue_of("economy"),
                    task_id=name,
                    connection=connection,
                    ignore_result=True,
                )
        return True

    def _restart_vendor(self) -> bool:
        self._ground.restart_vendor(self._chance.choice([signal.SIGKILL, signal.SIGTERM]))
        return True


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run(ground: Ground, seed: int) -> list[str]:
    """Run one seed and print its figures; returns what is wrong."""
    watch = Watch(ground)
    try:
        ground.start()
        watch.install()
        chaos = Chaos(ground, watch, random.Random(seed))
        started = time.monotonic()
        state = _attack(ground, watch, chaos)
        seconds = time.monotonic() - started
        wrong = [*watch.wrong[:3], *_come_to_rest(ground, chaos, state)]
        books = Books(watch)
        wrong += books.faults()
        figures = books.show()
        wrong += _bring_the_rest(ground, watch)
        wrong += _end(ground, watch)
    except Exception:  # noqa: BLE001 - the next seeds are to be run all the same
        traceback.print_exc()
        return [f"seed {seed} broke off"]
    finally:
        ground.close()
    deeds = ", ".join(f"{name} {times}" for name, times in chaos.done.items())
    print(f"seed {seed}: {'WRONG' if wrong else 'ok'} in {seconds:.0f} s, {watch.looks} looks; {deeds}")
    print(figures, flush=True)
    for what in wrong[:_MOST_SHOWN]:
        print(f"  WRONG {what}", flush=True)
    return wrong


def _attack(ground: Ground, watch: Watch, chaos: Chaos) -> JobState:
    """Strike every second until the job ends; the state that it is in then."""
    begun = select(func.count()).select_from(leases)

    def somebody_works() -> bool:
        with ground.runtime.store.read() as connection:
            return bool(connection.execute(begun).scalar_one())

    wait_for(somebody_works, "no worker began")
    strike_at, ends_at = time.monotonic() + EVERY_S, time.monotonic() + LONGEST_S
    state = JobState.RUNNING
    while state is JobState.RUNNING and time.monotonic() < ends_at:
        time.sleep(_LOOK_EVERY_S)
        with suppress(DependencyError):
            state = watch.look()
        chaos.wake()
        if time.monotonic() >= strike_at:
            with suppress(DependencyError):
                chaos.strike()
            strike_at = max(strike_at + EVERY_S, time.monotonic())
    return state


def _come_to_rest(ground: Ground, chaos: Chaos, state: JobState) -> list[str]:
    """Let the last sleeper oversleep, wake it, and wait until nobody holds anything."""
    ends_at = time.monotonic() + _SETTLE_S
    while chaos.is_somebody_asleep():
        time.sleep(_LOOK_EVERY_S)
        chaos.wake(at_once=time.monotonic() > ends_at)
    wrong = [] if state is JobState.DONE else [f"the job is {state} after {LONGEST_S:.0f} s"]
    active = select(func.count()).select_from(leases).where(leases.c.state == "active")

    def all_is_given_back() -> bool:
        with ground.runtime.store.read() as connection:
            return not connection.execute(active).scalar_one()

    try:
        wait_for(all_is_given_back, "leases are still held", _SETTLE_S)
    except RuntimeError as error:
        wrong.append(str(error))
    time.sleep(1.0)  # what a sleeper had in flight comes in late
    return wrong


def _bring_the_rest(ground: Ground, watch: Watch) -> list[str]:
    """Without faults, `batcher retry` brings every item; and the workers still hear what they are told."""
    ground.vendor.ask("DELETE", "/_faults")
    retried = ground.batcher("retry", str(ground.job.id))
    books = Books(watch)
    wrong = []
    if books.statuses["done"] != len(books.items):
        wrong.append(f"after retry ({retried.returncode}) items are {dict(books.statuses)}: {retried.stderr}")
    app = make_app(ground.runtime.settings, ground.runtime.catalog.tiers)
    Waker(app).ring(["economy"])
    try:
        wait_for(lambda: not Waker(app).depth(queue_of("economy")), "messages are not consumed", _SETTLE_S)
    except RuntimeError as error:
        wrong.append(str(error))
    return wrong


def _end(ground: Ground, watch: Watch) -> list[str]:
    code = ground.stop_workers()
    reclaim_lost(ground.runtime.store, ground.runtime.ledger)
    wrong = [] if code == 0 else [f"the workers ended with {code}"]
    return wrong + [f"at the end {what}" for what in Books(watch).faults()]


def main() -> int:
    """Run the seeds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--docs", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="keep the logs and the bills here")
    arguments = parser.parse_args()
    wrong = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    with grounds(arguments.folder) as create:
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            ground = create(seed, arguments.docs, arguments.workers)
            wrong += run(ground, seed)
    print(f"{len(wrong)} things are wrong" if wrong else "nothing is wrong")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
