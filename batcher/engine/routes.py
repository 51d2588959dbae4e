"""Which of a job's documents a worker takes next: those to learn on, or those to work off.

Of a routed job the documents with a known answer go first, to the candidate that is being learned about: the
sooner it is known, the more of the others it may answer. When there are none left, a stated share of the
others does, if somebody judges them.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from batcher.engine.lane import LaneFactory
from batcher.routing.state import Learning, Routing
from batcher.store.jobs import Job, get_job
from batcher.store.leases import QueuedItem, next_items
from batcher.store.routing import count_leased, next_known, next_unknown, routing_of

LOOK_EVERY_S: Final = 1.0
"""How often a worker reads again how its jobs are routed: a move is in force everywhere that soon."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """Items for the candidate that is being learned about; ``known``: their right answers are."""

    items: list[QueuedItem]
    known: bool


class Routes:
    """The routing of the jobs that one engine works on.

    Args:
        lanes: makes their lanes; those of a queue whose routing has changed are made anew.
    """

    def __init__(self, lanes: LaneFactory) -> None:
        self._lanes = lanes
        self._routings: dict[int, Routing] = {}
        self._look_at = 0.0
        self._leased: Counter[int] = Counter()
        self._learned: Counter[int] = Counter()
        self._lessons: dict[int, set[int]] = defaultdict(set)

    def keep_jobs(self, running: Collection[int]) -> None:
        """Forget jobs that do not run any more."""
        for job_id in self._routings.keys() - set(running):
            del self._routings[job_id]
            self._lessons.pop(job_id, None)

    def look(self, connection: Connection, jobs: dict[int, Job]) -> set[int]:
        """Read again how these jobs are routed, if it is time; returns those that go another way now.

        Args:
            connection: any transaction.
            jobs: the jobs by id; those that changed are read again.
        """
        if time.monotonic() < self._look_at:
            return set()
        self._look_at = time.monotonic() + LOOK_EVERY_S
        moved = set()
        for job_id, stored in routing_of(connection, list(jobs)).items():
            if stored == jobs[job_id].routing:
                continue
            before, now = Routing.of(jobs[job_id]), Routing.from_json(stored)
            jobs[job_id] = get_job(connection, job_id)
            self._routings[job_id] = now
            if before is None or not before.binds_like(now):
                self._lanes.forget(job_id, now.queue)
                moved.add(job_id)
        return moved

    def to_learn(self, connection: Connection, job: Job, tier: str, now: float, limit: int) -> Lesson | None:
        """The next items for the candidate that is being learned about; None while it is the others' turn.

        Of a candidate that is slow so many items are at work that the others get their turn.
        """
        learning = self._learning(job, tier)
        if learning is None:
            return None
        is_turn = learning.known and self._at_work(connection, job.id) <= limit
        if is_turn and (known := next_known(connection, job.id, tier, now, limit)):
            return Lesson(known, known=True)
        room = int(learning.share * self._leased[job.id]) - self._learned[job.id]
        if room <= 0:
            return None
        unknown = next_unknown(connection, job.id, tier, now, min(room, limit))
        return Lesson(unknown, known=False) if unknown else None

    def to_work(
        self, connection: Connection, job: Job, tier: str, now: float, limit: int
    ) -> list[QueuedItem]:
        """The next items for the model in force; those to learn on come last."""
        learning = self._learning(job, tier)
        learns = learning is not None and learning.known
        if learns and (unknown := next_unknown(connection, job.id, tier, now, limit)):
            return unknown
        return next_items(connection, job.id, tier, now, limit)

    def leased(self, job: Job, lease_id: int, items: int, lesson: Lesson | None) -> None:
        """Count what was leased, so that learning keeps to its share."""
        if lesson is not None:
            self._lessons[job.id].add(lease_id)
        if lesson is None or not lesson.known:
            self._leased[job.id] += items
            self._learned[job.id] += 0 if lesson is None else items

    def _at_work(self, connection: Connection, job_id: int) -> int:
        """How many items this process has leased to learn on, and not brought to an end."""
        left = count_leased(connection, self._lessons[job_id])
        self._lessons[job_id] = set(left)
        return sum(left.values())

    def _learning(self, job: Job, tier: str) -> Learning | None:
        if job.routing is None:
            return None
        routing = self._routings.get(job.id)
        if routing is None:
            routing = self._routings[job.id] = Routing.from_json(job.routing)
        return routing.learning if tier == routing.queue else None
