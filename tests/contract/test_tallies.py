"""The running sums of a job say what counting its rows says, whatever order things came in."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, text

from batcher.budget.spend import spend_of_job
from batcher.domain import ItemStatus
from batcher.engine.lane import LaneFactory
from batcher.engine.leasing import Chunk, Leaser
from batcher.engine.reclaiming import reclaim_lost
from batcher.runtime import Runtime
from batcher.store.attempts import NewResult, insert_results
from batcher.store.item_changes import ItemChange, change_items
from batcher.store.item_counts import count_items
from batcher.store.results import count_models, count_reused
from batcher.store.schema import upgrade_schema
from tests.support.ledger_model import given_back
from tests.support.older_store import older_store
from tests.support.runs import MODEL, make_job, run
from tests.support.vendor_server import VendorServer

TEXTS = {f"doc-{number}": f"Document number {number}." for number in range(30)}

SETTLED = text(
    "SELECT sum(CASE WHEN outcome = 'not_sent' THEN 0 ELSE 1 END), "
    "coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0), "
    "coalesce(sum(CASE WHEN state = 'settled' THEN cost_nusd ELSE 0 END), 0), "
    "coalesce(sum(CASE WHEN state = 'unknown' THEN cost_nusd ELSE 0 END), 0), "
    "coalesce(sum(CASE WHEN state = 'sending' THEN reserved_nusd ELSE 0 END), 0) "
    "FROM attempts WHERE job_id = :job"
)
ANSWERED = text(
    "SELECT attempts.tier, attempts.model, count(*) FROM items "
    "JOIN attempts ON attempts.id = items.result_id "
    "WHERE items.job_id = :job AND NOT items.reused GROUP BY attempts.tier, attempts.model"
)
BY_STATUS = text("SELECT status, count(*) FROM items WHERE job_id = :job GROUP BY status")
REUSED = text("SELECT count(*) FROM items WHERE job_id = :job AND reused")


def check_sums(connection: Connection, job_id: int) -> None:
    """Hold what status reads against the rows."""
    spend = spend_of_job(connection, job_id)
    told = (spend.calls, spend.input_tokens, spend.output_tokens)
    told += (spend.settled_nusd, spend.unknown_nusd, spend.open_nusd)
    counted = connection.execute(SETTLED, {"job": job_id}).one()
    assert told == tuple(int(value) for value in counted)
    rows = connection.execute(ANSWERED, {"job": job_id})
    assert count_models(connection, job_id) == {(tier, model): count for tier, model, count in rows}
    assert count_reused(connection, job_id) == connection.execute(REUSED, {"job": job_id}).scalar_one()
    by_status = dict(connection.execute(BY_STATUS, {"job": job_id}).all())
    assert {status: count for status, count in count_items(connection, job_id).items() if count} == by_status


def test_runs_with_duplicates_failures_and_two_jobs(runtime: Runtime, vendor_server: VendorServer) -> None:
    first = make_job(runtime, {**TEXTS, "copy": TEXTS["doc-0"]})
    vendor_server.add_fault(text="no JSON", times=7)
    run(runtime, first.id)
    second = make_job(runtime, {**TEXTS, "new": "A text that nobody asked about."})
    run(runtime, second.id)
    with runtime.store.read() as connection:
        assert spend_of_job(connection, first.id).calls == 37
        for job in (first, second):
            check_sums(connection, job.id)


def lease(runtime: Runtime, job_id: int) -> Chunk:
    lanes = LaneFactory(
        runtime.catalog, runtime.provider, runtime.account, runtime.is_usable, runtime.find_task, timeout_s=5
    )
    chunk = Leaser(runtime.store, runtime.ledger, lanes, lease_s=0).lease(5, [job_id], None)
    assert isinstance(chunk, Chunk)
    return chunk


def test_an_item_that_is_answered_again_and_again_counts_once(runtime: Runtime) -> None:
    job = make_job(runtime, {"a": "One text."})
    late = lease(runtime, job.id)
    assert reclaim_lost(runtime.store, runtime.ledger) == 1
    present = lease(runtime, job.id)
    [item] = present.items

    def done(under: Chunk) -> ItemChange:
        return replace(given_back(item, under.lease_id), status=ItemStatus.DONE, model=MODEL)

    answer = NewResult(present.lease_id << 20, item.result_key, MODEL, 0, item.tier, "{}")
    for group in ([done(late), done(present)], [done(present)], [done(late)]):
        with runtime.store.write() as connection:
            insert_results(connection, [answer], 0.0)
            change_items(connection, group, 0.0)
            assert count_models(connection, job.id) == {("economy", MODEL): 1}


def test_an_older_store_is_counted_once_when_it_is_upgraded(empty_database_url: str) -> None:
    rows = []
    for number, state in enumerate(("settled", "settled", "unknown", "sending"), start=1):
        has_come = state != "sending"
        values = {"id": number, "state": state, "cost": 7 * has_come, "tokens": 5 * has_come}
        rows += [
            (ATTEMPT, values),
            (ITEM, {"id": number, "result": number if state == "settled" else None}),
        ]
    store = older_store(empty_database_url, "0001", rows)
    upgrade_schema(store)
    with store.read() as connection:
        check_sums(connection, 1)
        assert count_models(connection, 1) == {("economy", "m"): 2}
        assert spend_of_job(connection, 1).calls == 4
    store.close()


ATTEMPT = (
    "INSERT INTO attempts (id, item_id, job_id, lease_id, purpose, part, tier, model, provider, state, day, "
    "reserved_nusd, cost_nusd, price_input_nusd, price_output_nusd, price_cached_nusd, "
    "price_cache_write_nusd, input_tokens, cached_tokens, cache_write_tokens, output_tokens, "
    "reasoning_tokens, sent_at) VALUES "
    "(:id, :id, 1, 1, 'answer', 0, 'economy', 'm', 'openai', :state, '2026-11-20', 100, :cost, 1, 1, 1, 1, "
    ":tokens, 0, 0, :tokens, 0, 0)"
)
ITEM = (
    "INSERT INTO items (id, job_id, source, accepts_key, status, tier, ready_at, reused, result_id) VALUES "
    "(:id, 1, 's' || :id, 1, 'done', 'economy', 0, false, :result)"
)
