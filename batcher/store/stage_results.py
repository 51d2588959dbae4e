"""The results of a staged job: a line per document, whichever step it came to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from batcher.domain import ItemStatus
from batcher.store.jobs import Job
from batcher.store.results import ItemResult, iter_item_results, read_item_results


def iter_document_results(
    connection: Connection, steps: Sequence[Job], statuses: Sequence[ItemStatus], page: int = 500
) -> Iterator[ItemResult]:
    """A staged job's documents in order of submission, a page in memory at a time.

    A document that is done has the last step's answer. One that failed, was rejected or was cancelled before
    has that step's reason. Its cost and its calls are those of all its steps.

    Args:
        connection: any transaction.
        steps: the jobs of its steps, in order.
        statuses: which documents.
        page: how many at once.
    """
    first, later = steps[0], steps[1:]
    documents: list[ItemResult] = []
    for item in iter_item_results(connection, first.id, list(ItemStatus), page):
        documents.append(item)
        if len(documents) == page:
            yield from _ended(connection, documents, first, later, statuses)
            documents = []
    yield from _ended(connection, documents, first, later, statuses)


def _ended(
    connection: Connection,
    documents: Sequence[ItemResult],
    first: Job,
    later: Sequence[Job],
    statuses: Sequence[ItemStatus],
) -> Iterator[ItemResult]:
    found = [{item.source: item for item in documents}]
    for step in later:
        found.append(read_item_results(connection, step.id, list(found[-1])) if found[-1] else {})
    for document in documents:
        steps = [step[document.source] for step in found if document.source in step]
        job = (first, *later)[len(steps) - 1]
        last = steps[-1]
        is_between = last.status is ItemStatus.DONE and len(steps) <= len(later)
        if is_between or last.status not in statuses:
            continue
        stage = job.step.partition(".")[2]
        reason = f"stage {stage}: {last.error or ''}" if stage and last.error else last.error
        yield replace(
            last,
            error=reason,
            cost_nusd=sum(step.cost_nusd for step in steps),
            attempts=sum(step.attempts for step in steps),
            reused=all(step.reused for step in steps),
        )
