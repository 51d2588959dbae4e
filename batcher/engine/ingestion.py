"""Takes a corpus into a job: parse, name, drop what is already answered, store, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from batcher.documents.corpus import Parsed, Rejected
from batcher.domain import Document, JobState
from batcher.engine.patience import Patience, patience_with
from batcher.engine.reading import Reader
from batcher.planning.admission import admit
from batcher.planning.entry import EntryRules
from batcher.quality.golden import GoldenAnswers, add_samples
from batcher.store.database import Store
from batcher.store.ingestion import NewItem, add_items
from batcher.store.jobs import Job, set_state
from batcher.store.reading import end_reading
from batcher.store.stages import lock_job, steps_of
from batcher.tasks.spec import TaskSpec

BATCH_ITEMS: Final = 1_000
BATCH_BYTES: Final = 16_000_000
"""A batch is committed when it holds this many items or bytes: both bound the memory that it takes."""


@dataclass(frozen=True, slots=True)
class Intake:
    """How far an ingestion is: items seen, and those of them that were rejected."""

    seen: int = 0
    rejected: int = 0


def ingest(
    store: Store,
    job: Job,
    corpus: Iterable[Parsed | Rejected],
    *,
    image_tier: str | None,
    rules: EntryRules | None = None,
    golden: GoldenAnswers | None = None,
    on_progress: Callable[[Intake], None] = lambda _: None,
) -> Intake:
    """Store a corpus as items of a job, or of the first of its steps, then set the job running.

    Sources that the job holds already are left as they are, so that an ingestion that was killed can be
    started again.

    Args:
        store: the store.
        job: a job in state ``ingesting``.
        corpus: parsed documents and rejections, in order.
        image_tier: the first tier on that step's ladder whose model sees images, or None: then they are
            rejected.
        rules: where documents start, before anything is asked; None: on the job's tier.
        golden: right answers, for the documents that have one.
        on_progress: called after each batch.
    """
    with store.read() as connection:
        steps = steps_of(connection, job.id)
    spec = TaskSpec.from_json(steps[0].spec)
    patience = Patience(patience_with(store))
    intake = Intake()
    batch: list[NewItem] = []
    size = 0
    with Reader(store, job.id) as reader:
        for entry in corpus:
            new = admit(entry, spec, image_tier, rules)
            batch.append(new)
            intake = replace(intake, seen=intake.seen + 1, rejected=intake.rejected + (new.document is None))
            size += _bytes_of(new.document)
            if len(batch) >= BATCH_ITEMS or size >= BATCH_BYTES:
                patience.keep(_store, store, steps, batch, golden)
                batch, size = [], 0
                on_progress(intake)
        if batch:
            patience.keep(_store, store, steps, batch, golden)
        patience.keep(reader.renew)
        patience.keep(_set_running, store, job)
        on_progress(intake)
    return intake


def _store(store: Store, steps: Sequence[Job], batch: list[NewItem], golden: GoldenAnswers | None) -> None:
    job_id = steps[-1].id
    with store.write() as connection:
        if golden is not None and len(steps) > 1:
            # A document that is handed over meanwhile would have its right answer noted in both steps.
            lock_job(connection, job_id, wait=True)
        add_items(connection, steps[0], batch)
        if golden is not None:
            sources = [new.source for new in batch if new.document]
            add_samples(connection, job_id, sources, golden, step_ids=[step.id for step in steps])


def _set_running(store: Store, job: Job) -> None:
    with store.write() as connection:
        set_state(connection, job.id, JobState.RUNNING, store.now(connection), only=[JobState.INGESTING])
        end_reading(connection, job.id)


def _bytes_of(document: Document | None) -> int:
    if document is None:
        return 0
    return len(document.text) + sum(len(image.data) for image in document.images)
