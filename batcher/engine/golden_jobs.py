"""Golden jobs: one model's answers to documents whose right answer is known."""

from __future__ import annotations

from typing import Final

from batcher.budget.ledger import Ledger
from batcher.domain import FailureClass, JobState
from batcher.engine.ingestion import ingest
from batcher.engine.submission import create_requested, sources_of, take_up_request
from batcher.planning.known import KnownDocuments
from batcher.planning.order import Order
from batcher.store.database import Store
from batcher.store.job_items import retry_failed
from batcher.store.jobs import Job, find_newest, get_job, set_state

NOT_THE_MODELS_FAULT: Final = (
    FailureClass.RATE_LIMITED,
    FailureClass.OVERLOADED,
    FailureClass.TRANSIENT,
    FailureClass.UNKNOWN_OUTCOME,
    FailureClass.ACCOUNT,
)
"""What failed so says nothing of the model, and is asked again; an answer that is no good stays one."""


def open_golden_job(
    store: Store,
    ledger: Ledger,
    order: Order,
    known: KnownDocuments,
    *,
    key: bytes,
    shared: bool = False,
    hold: str | None = None,
) -> Job:
    """The job that asks one model for the answers to known documents: that of an equal request, or a new one.

    Nothing is asked twice: a job that is done is given back as it is, but for failures that were not the
    model's; one that was stopped goes on; a new one takes the answers that the store has.

    Args:
        store: the store.
        ledger: its books.
        order: what ``check_request`` gave for a request with the purpose ``golden`` and a pinned model.
        known: its documents and their answers.
        key: the order's ``corpus_key``.
        shared: workers do the work: they may be at this job already.
        hold: keep a job that has something to ask paused with this reason.

    Raises:
        UsageError: if a live process is running the job.
    """
    with store.read() as connection:
        found = find_newest(connection, key)
    if found is not None and found.state is JobState.DONE:
        return _with_another_try(store, found, hold)
    if found is None or found.state is JobState.CANCELLED:
        job = create_requested(store, ledger, order, key, sources_of(order), hold)
    else:
        job = take_up_request(store, ledger, order, found, shared=shared, hold=hold)
    ingest(store, job, known.documents, image_tier=order.first.image_tier, golden=known)
    with store.read() as connection:
        return get_job(connection, job.id)


def _with_another_try(store: Store, job: Job, hold: str | None) -> Job:
    with store.write() as connection:
        count = sum(retry_failed(connection, job.id, failure, job.tier) for failure in NOT_THE_MODELS_FAULT)
        if count:
            now = store.now(connection)
            set_state(connection, job.id, JobState.RUNNING, now, only=[JobState.DONE])
            if hold is not None:
                set_state(connection, job.id, JobState.PAUSED, now, reason=hold)
        return get_job(connection, job.id)
