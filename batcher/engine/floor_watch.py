"""Watches routed jobs while they run: scores what can be scored, looks at the evidence, moves the lane.

Every process that works on a job does so. A move is one changed row, written under its lock by whoever sees
the reason first; the others read it within a second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import Connection

from batcher.alerts.book import Alert, Rule, raise_alert
from batcher.budget.ledger import Ledger
from batcher.engine.pace import Pace
from batcher.engine.sample_scoring import SampleScorer
from batcher.errors import ConfigurationError
from batcher.planning.routing import Router
from batcher.routing.choice import percent
from batcher.routing.state import Routing
from batcher.store.database import Store
from batcher.store.jobs import Job, get_job
from batcher.store.routing import count_scored, lock_routing, routed_jobs, set_routing
from batcher.tasks.definition import Task
from batcher.tasks.spec import TaskSpec

_log = logging.getLogger("batcher.routing")

LOOK_EVERY_S: Final = 2.0
LOOK_SHARE: Final = 20
"""Looking may take a twentieth of a run's time."""


class FloorWatch:
    """Keeps the lanes of routed jobs on the model that the evidence asks for.

    Args:
        store: the store.
        ledger: tells the day of an alert.
        router: makes the choices.
        find_task: the code of a stored task, for its scorer; None where it cannot be loaded.
    """

    def __init__(
        self, store: Store, ledger: Ledger, router: Router, find_task: Callable[[TaskSpec], Task | None]
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._router = router
        self._scorer = SampleScorer(store, find_task)
        self._seen: dict[int, int] = {}
        self._pace = Pace(LOOK_EVERY_S, LOOK_SHARE)

    def keep_up(self, job_ids: Sequence[int] | None, *, at_once: bool = False) -> None:
        """Look at these jobs, if it is time.

        Args:
            job_ids: those of a run; None for all that are running.
            at_once: look even if the last look was a moment ago, and however little was scored since.
        """
        if not (at_once or self._pace.is_due()):
            return
        with self._pace.looking():
            with self._store.read() as connection:
                found = [get_job(connection, job_id) for job_id in routed_jobs(connection, job_ids)]
            for job in found:
                self._look_after(job, at_once=at_once)

    def _look_after(self, job: Job, *, at_once: bool) -> None:
        self._scorer.score(job)
        routing = Routing.of(job)
        if routing is None:
            return
        with self._store.read() as connection:
            scored = count_scored(connection, job.id)
        enough = job.id not in self._seen or scored >= self._seen[job.id] + routing.look_every
        if not enough and not at_once:
            return
        with self._store.read() as connection:
            try:
                after = self._router.look(connection, job, routing, self._store.now(connection))
            except ConfigurationError as error:
                # Of those who work on a job only some may have the keys.
                _log.debug("Job %s is not routed from here: %s", job.id, error)
                return
        self._seen[job.id] = scored
        if after != routing:
            with self._store.write() as connection:
                self._change(connection, job, routing, after)

    def _change(self, connection: Connection, job: Job, before: Routing, after: Routing) -> None:
        """Write a choice down, unless somebody else has made another one meanwhile."""
        self._ledger.lock(connection, brief=True)
        if lock_routing(connection, job.id) != job.routing:
            del self._seen[job.id]
            return
        now = self._store.now(connection)
        set_routing(connection, job.id, after.to_json())
        if after.model != before.model:
            _log.info("Job %s: %s", job.id, after.reason, extra={"job_id": job.id, "model": after.model})
        if before.model in set(after.refuted) - set(before.refuted):
            self._tell(connection, job, before, after, now)

    def _tell(self, connection: Connection, job: Job, before: Routing, after: Routing, now: float) -> None:
        moved = f"the lane moves to {after.model}" if after.model != before.model else "the lane stays"
        alert = Alert(
            Rule.ACCURACY,
            f"job:{job.id}/{before.model}",
            f"Job {job.id}: {before.model} is below the floor of {percent(after.floor)}, {moved}",
            f"{job.task}. {after.reason}.\nSee: batcher status {job.id}",
        )
        raise_alert(connection, alert, self._ledger.today(connection), now)
