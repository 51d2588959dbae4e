"""Scores what was answered of the documents whose right answer is known, while jobs run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from batcher.errors import BatcherError, StoreAwayError
from batcher.quality.golden import score_samples
from batcher.store.database import Store
from batcher.store.jobs import Job
from batcher.tasks.definition import Task
from batcher.tasks.spec import TaskSpec

_log = logging.getLogger("batcher.routing")


class Watch(Protocol):
    """Looks after jobs while they run."""

    def keep_up(self, job_ids: Sequence[int] | None, *, at_once: bool = False) -> None:
        """Look at these jobs, if it is time.

        Args:
            job_ids: those of a run; None for all that are running.
            at_once: look even if the last look was a moment ago, and however little was scored since.
        """


class SampleScorer:
    """Scores jobs' answers by their tasks' own scorers.

    Args:
        store: the store.
        find_task: the code of a stored task, for its scorer; None where it cannot be loaded.
    """

    def __init__(self, store: Store, find_task: Callable[[TaskSpec], Task | None]) -> None:
        self._store = store
        self._find_task = find_task
        self._tasks: dict[int, Task | None] = {}
        self._unscorable: set[int] = set()

    def score(self, job: Job) -> None:
        """Score what was answered since the last look and has a known answer."""
        if job.id in self._unscorable:
            return
        spec = TaskSpec.from_json(job.spec)
        if job.id not in self._tasks:
            self._tasks[job.id] = self._find_task(spec)
        task = self._tasks[job.id]
        if task is None:
            return
        try:
            score_samples(self._store, job.id, task.score, spec.correct_at)
        except StoreAwayError:
            raise
        except BatcherError as error:
            self._unscorable.add(job.id)
            _log.warning("Answers of job %s are not scored: %s", job.id, error)
