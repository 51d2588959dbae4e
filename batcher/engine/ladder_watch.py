"""Watches jobs whose documents climb a learned ladder: what is checked of their answers against its promise.

Where the answers fall short somebody is told, and nothing is changed. Of a ladder that no longer fits it is
not known which of its models does: the last one was asked about the hardest documents only, costs most, and
would be trusted without evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import Connection

from batcher.alerts.book import Alert, Rule, raise_alert
from batcher.budget.ledger import Ledger
from batcher.engine.pace import Pace
from batcher.engine.sample_scoring import SampleScorer
from batcher.planning.ladder_record import read_production
from batcher.routing.choice import percent
from batcher.routing.ladder.policy import LadderPolicy
from batcher.store.database import Store
from batcher.store.jobs import Job, get_job
from batcher.store.ladders import climbing_jobs
from batcher.store.routing import count_scored
from batcher.tasks.definition import Task
from batcher.tasks.spec import TaskSpec

LOOK_EVERY_S: Final = 5.0
LOOK_SHARE: Final = 50
"""Looking may take a fiftieth of a run's time."""

LOOK_EVERY: Final = 10
"""Answers of a job that have to be checked before it is looked at again."""


class LadderWatch:
    """Tells when answers that stood on a learned ladder are not as often right as it promises.

    Args:
        store: the store.
        ledger: tells the day of an alert.
        load_ladder: a learned ladder by its id.
        find_task: the code of a stored task, for its scorer; None where it cannot be loaded.
    """

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        load_ladder: Callable[[int], LadderPolicy],
        find_task: Callable[[TaskSpec], Task | None],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._load_ladder = load_ladder
        self._scorer = SampleScorer(store, find_task)
        self._policies: dict[int, LadderPolicy] = {}
        self._seen: dict[int, int] = {}
        self._pace = Pace(LOOK_EVERY_S, LOOK_SHARE)

    def keep_up(self, job_ids: Sequence[int] | None, *, at_once: bool = False) -> None:
        """Look at these jobs, if it is time.

        Args:
            job_ids: those of a run; None for all that are running.
            at_once: look even if the last look was a moment ago, and however little was checked since.
        """
        if not (at_once or self._pace.is_due()):
            return
        with self._pace.looking():
            with self._store.read() as connection:
                found = [get_job(connection, job_id) for job_id in climbing_jobs(connection, job_ids)]
            for job in found:
                self._scorer.score(job)
                self._look_at(job, at_once=at_once)

    def _look_at(self, job: Job, *, at_once: bool) -> None:
        ladder_id = job.ladder_policy_id
        assert ladder_id is not None
        with self._store.read() as connection:
            scored = count_scored(connection, job.id)
            if not at_once and scored < self._seen.get(job.id, 0) + LOOK_EVERY:
                return
            self._seen[job.id] = scored
        if ladder_id not in self._policies:
            self._policies[ladder_id] = self._load_ladder(ladder_id)
        with self._store.read() as connection:
            spec = TaskSpec.from_json(job.spec)
            found = read_production(connection, ladder_id, spec, self._policies[ladder_id])
        if found.falls_short and found.estimate is not None:
            share = percent(round(found.estimate.interval.share, 3))
            alert = Alert(
                Rule.ACCURACY,
                f"ladder:{ladder_id}",
                f"Ladder {ladder_id} of task {job.task}: {share} right, {percent(found.promised)} promised",
                f"{found.words[:1].upper()}{found.words[1:]}\nSee: batcher status {job.id}",
            )
            with self._store.write() as connection:
                self._tell(connection, alert)

    def _tell(self, connection: Connection, alert: Alert) -> None:
        self._ledger.lock(connection, brief=True)
        raise_alert(connection, alert, self._ledger.today(connection), self._store.now(connection))
