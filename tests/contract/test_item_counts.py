"""How many items stand where is what counting all rows says, whatever is taken from the running sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, insert, select

from batcher.documents.corpus import Parsed, document_of_text
from batcher.domain import ItemStatus
from batcher.engine.ingestion import ingest
from batcher.runtime import Runtime
from batcher.store import item_counts
from batcher.store.database import Store
from batcher.store.item_counts import add_to_total, count_all_items, count_items_of
from batcher.store.schema import upgrade_schema
from batcher.store.tables import items, tallies
from tests.support.older_store import older_store
from tests.support.runs import make_job

STATUSES = tuple(ItemStatus)


def plain_counts(connection: Connection, job_ids: Sequence[int]) -> dict[int, dict[ItemStatus, int]]:
    """By counting every row."""
    found = {job_id: dict.fromkeys(ItemStatus, 0) for job_id in job_ids}
    query = select(items.c.job_id, items.c.status, func.count()).group_by(items.c.job_id, items.c.status)
    for job_id, status, count in connection.execute(query.where(items.c.job_id.in_(job_ids))):
        found[job_id][ItemStatus(status)] = count
    return found


def add(connection: Connection, job_id: int, statuses: Mapping[ItemStatus, int], answered: int) -> None:
    """Items of a job, and what the running sum of its answers says."""
    rows = [
        {
            "job_id": job_id,
            "source": f"{status}-{number}",
            "accepts_key": 1,
            "status": status.value,
            "tier": "economy",
            "ready_at": 0.0,
            "reused": False,
        }
        for status, count in statuses.items()
        for number in range(count)
    ]
    if rows:
        connection.execute(insert(items), rows)
        add_to_total(connection, job_id, len(rows) // 2)
        add_to_total(connection, job_id, len(rows) - len(rows) // 2)
    sums = dict.fromkeys(("calls", "input_tokens", "cached_tokens", "output_tokens", "cost_nusd"), 0)
    for tier in ("economy", "premium"):
        key = {"job_id": job_id, "tier": tier, "model": "m"}
        connection.execute(insert(tallies).values(**key, **sums, answered=answered))


JOB = st.tuples(st.lists(st.sampled_from(STATUSES), max_size=12), st.integers(0, 8))
"""The statuses of a job's items, and half of what the sums say of answers: nothing needs to be true of it."""


@given(jobs=st.lists(JOB, max_size=3), counted=st.integers(0, 5))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_mix_of_statuses_is_counted(
    store: Store, jobs: list[tuple[list[ItemStatus], int]], counted: int
) -> None:
    job_ids = list(range(1, len(jobs) + 2))  # the last has no item
    with store.engine.connect() as connection, connection.begin() as transaction:
        for job_id, (statuses, answered) in zip(job_ids, jobs, strict=False):
            add(connection, job_id, Counter(statuses), answered)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(item_counts, "_COUNTED", counted)
            patch.setattr(item_counts, "_COUNT_FIRST", item_counts._counting_first(counted))
            assert count_items_of(connection, job_ids) == plain_counts(connection, job_ids)
            assert count_items_of(connection, [*job_ids, *job_ids]) == plain_counts(connection, job_ids)
            assert count_items_of(connection, []) == {}
        totals = [count_all_items(connection, job_id) for job_id in job_ids]
        assert totals == [*(len(statuses) for statuses, _ in jobs), 0]
        assert count_all_items(connection) == sum(totals)
        transaction.rollback()


def test_a_corpus_that_is_read_twice_counts_once(runtime: Runtime) -> None:
    texts = {f"doc-{number}": f"Document number {number}." for number in range(30)}
    job = make_job(runtime, texts)
    again = [Parsed(source, document_of_text(text)) for source, text in texts.items()]
    again.append(Parsed("one-more", document_of_text("A text that came later.")))
    ingest(runtime.store, job, again, image_tier=None)
    with runtime.store.read() as connection:
        assert count_all_items(connection, job.id) == 31
        assert count_items_of(connection, [job.id]) == plain_counts(connection, [job.id])


def test_an_older_store_is_counted_when_it_is_upgraded(empty_database_url: str) -> None:
    statuses = (*STATUSES, "done", "done", "pending")
    rows = [
        (_ITEM, {"job": 1 + number % 2, "source": f"s{number}", "status": status})
        for number, status in enumerate(statuses)
    ]
    store = older_store(empty_database_url, "0003", rows)
    upgrade_schema(store)
    with store.read() as connection:
        assert count_items_of(connection, [1, 2]) == plain_counts(connection, [1, 2])
    store.close()


_ITEM = (
    "INSERT INTO items (job_id, source, accepts_key, status, tier, ready_at, reused) VALUES "
    "(:job, :source, 1, :status, 'economy', 0, false)"
)
