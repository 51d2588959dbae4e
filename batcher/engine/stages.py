"""Hands the answers of a staged job's steps over: what a step has answered becomes an item of the next one.

Any process may do it at any time: a page of answers goes over in one transaction, which notes that it did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from batcher.catalog.models import Catalog, Model
from batcher.documents.records import Parsed
from batcher.planning.admission import admit
from batcher.planning.order import find_image_tier
from batcher.planning.stages import handed_document
from batcher.store.database import Store
from batcher.store.documents import images_of, text_of
from batcher.store.ingestion import add_items
from batcher.store.jobs import Job
from batcher.store.stages import (
    lock_job,
    next_answered,
    note_handed_over,
    staged_jobs,
    steps_of,
)
from batcher.store.steps import has_unhanded, stage_ids
from batcher.tasks.spec import TaskSpec

PAGE: Final = 200
PAGE_WITH_DOCUMENTS: Final = 50
"""Answers per transaction; fewer where they hold documents."""


@dataclass(frozen=True, slots=True)
class _Link:
    """Two neighbouring steps of a job: what the one answers, the other reads."""

    stage: Job
    spec: TaskSpec
    after: Job
    after_spec: TaskSpec
    first_id: int
    image_tier: str | None

    @property
    def with_document(self) -> bool:
        return self.spec.hands_over == "answer_and_document"


class HandOver:
    """Takes answers from step to step.

    Args:
        store: the store.
        catalog: tiers and models.
        is_usable: whether a model can be called.
    """

    def __init__(self, store: Store, catalog: Catalog, is_usable: Callable[[Model], bool]) -> None:
        self._store = store
        self._catalog = catalog
        self._is_usable = is_usable
        self._links: dict[int, tuple[_Link, ...]] = {}
        self._of_one_step: set[int] = set()

    def pull(self, job_ids: Sequence[int] | None = None, *, wait: bool = False) -> int:
        """Hand over a page of answers between any two steps that have some.

        Args:
            job_ids: of these jobs; None for all that are under way.
            wait: for another process that does the same just now; otherwise what is left is left to it.

        Returns:
            How many answers were handed over; 0 if there are none, for now.
        """
        links = self._ready(job_ids)
        return sum(self._hand_over(link, wait=wait) for link in links)

    def _ready(self, job_ids: Sequence[int] | None) -> list[_Link]:
        """The pairs of steps between which answers wait."""
        if job_ids is not None:
            job_ids = [job_id for job_id in job_ids if job_id not in self._of_one_step]
            if not job_ids:
                return []
        with self._store.read() as connection:
            found = staged_jobs(connection, job_ids)
            for job_id in job_ids or ():
                if job_id not in found and not stage_ids(connection, job_id):
                    self._of_one_step.add(job_id)
            for job_id in found:
                if job_id not in self._links:
                    self._links[job_id] = self._read_links(steps_of(connection, job_id))
            pairs = [link for job_id in found for link in self._links[job_id]]
            return [link for link in pairs if has_unhanded(connection, link.stage.id)]

    def _read_links(self, steps: Sequence[Job]) -> tuple[_Link, ...]:
        return tuple(
            _Link(
                stage=stage,
                spec=TaskSpec.from_json(stage.spec),
                after=after,
                after_spec=TaskSpec.from_json(after.spec),
                first_id=steps[0].id,
                image_tier=find_image_tier(
                    self._catalog, after.ladder or (after.tier,), after.pinned_model, self._is_usable
                ),
            )
            for stage, after in pairwise(steps)
        )

    def _hand_over(self, link: _Link, *, wait: bool) -> int:
        limit = PAGE_WITH_DOCUMENTS if link.with_document else PAGE
        with self._store.write() as connection:
            if not lock_job(connection, link.stage.parent_id or 0, wait=wait):
                return 0
            answered = next_answered(
                connection, link.stage.id, link.first_id, limit, with_document=link.with_document
            )
            if not answered:
                return 0
            batch = []
            for one in answered:
                images = images_of(connection, one.document_hash) if one.image_count else ()
                document = handed_document(
                    link.spec, one.output, text_of(one.body) if one.body else "", images
                )
                batch.append(admit(Parsed(one.source, document), link.after_spec, link.image_tier))
            add_items(connection, link.after, batch)
            note_handed_over(connection, answered, link.after.id)
            return len(answered)
