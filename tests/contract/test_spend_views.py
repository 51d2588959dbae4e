"""Views of spend and savings on SQLite and PostgreSQL: each adds up to the ledger, to the nano-dollar."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, update

from batcher.budget.savings import Saving, read_savings
from batcher.budget.spend import (
    Period,
    View,
    latest_day,
    ledger_by_key,
    ledger_total,
    read_days,
    read_spend,
    total_of,
)
from batcher.runtime import Runtime
from batcher.store.tables import attempts, jobs, ledger_accounts
from tests.support.runs import bill_nusd, make_job, rows, run, spent
from tests.support.vendor_server import VendorServer

TEXTS = {f"doc-{number}": f"Document number {number}." for number in range(10)}


@pytest.fixture
def today(runtime: Runtime) -> str:
    with runtime.store.read() as connection:
        return latest_day(connection, runtime.store.now(connection), "UTC")


def run_in_every_way(runtime: Runtime, vendor: VendorServer) -> None:
    """Answers, a repair, a climb to another provider, a lost answer, and a second job of another model."""
    vendor.add_fault(text="no JSON", contains="number 3", times=1)
    vendor.add_fault(text="no JSON", contains="number 4", times=2)
    vendor.add_fault(connection="reset_after", contains="number 5", times=1)
    first = make_job(runtime, TEXTS, model=None, ladder=("economy", "standard"))
    run(runtime, first.id)
    run(runtime, make_job(runtime, TEXTS, model="gpt-4.1-mini").id)


@pytest.mark.parametrize("view", list(View))
def test_every_view_comes_to_what_the_ledger_holds(
    runtime: Runtime, vendor_server: VendorServer, today: str, view: View
) -> None:
    run_in_every_way(runtime, vendor_server)
    booked = spent(runtime)
    with runtime.store.read() as connection:
        for period in (None, Period.ending(today)):
            found = read_spend(connection, view, period)
            assert total_of(found).booked_nusd == ledger_total(connection, period, None) == booked > 0
            accounts = ledger_by_key(connection, view, period)
            has_accounts = view not in {View.MODEL, View.PURPOSE, View.STAGE} and not (
                view is View.JOB and period
            )
            assert accounts == ({row.key: row.booked_nusd for row in found} if has_accounts else {})
        yesterday = Period("2000-01-01", "2000-01-02")
        assert read_spend(connection, view, yesterday) == []
        assert ledger_total(connection, yesterday, None) == 0
    assert total_of(found).unknown_nusd > 0
    assert total_of(found).calls == len(rows(runtime, "attempts"))


def test_purposes_and_one_job(runtime: Runtime, vendor_server: VendorServer, today: str) -> None:
    run_in_every_way(runtime, vendor_server)
    with runtime.store.read() as connection:
        purposes = {row.key: row.calls for row in read_spend(connection, View.PURPOSE)}
        assert purposes == {"answer": 21, "repair": 2, "escalation": 1}
        [job] = read_spend(connection, View.JOB, job_id=2)
        assert (job.key, job.calls) == ("2", 10)
        assert ledger_total(connection, None, 2) == job.booked_nusd
        assert ledger_total(connection, Period.ending(today), 2) is None
        assert total_of(read_spend(connection, View.PURPOSE, Period.ending(today), 2)) == job.__class__(
            "all", *(getattr(job, name) for name in job.__slots__[1:])
        )


def test_the_days_of_the_chart_have_their_caps(
    runtime: Runtime, vendor_server: VendorServer, today: str
) -> None:
    run_in_every_way(runtime, vendor_server)
    with runtime.store.write() as connection:
        runtime.ledger.set_daily_cap(connection, 7 * 10**9)
    with runtime.store.read() as connection:
        days = read_days(connection, Period.ending(today))
    assert len(days) == 30
    assert [(day.cap_nusd, day.spend) for day in days[:-1]] == [(None, None)] * 29
    assert days[-1].cap_nusd == 7 * 10**9
    assert days[-1].spend is not None
    assert days[-1].spend.booked_nusd == spent(runtime)


def savings(runtime: Runtime, period: Period | None = None, job_id: int | None = None) -> dict[str, Saving]:
    with runtime.store.read() as connection:
        found = read_savings(connection, runtime.catalog, period, job_id, "UTC")
    return {f"{saving.kind.value} {saving.against}".strip(): saving for saving in found}


def test_reuse_saves_what_the_answers_had_cost(
    runtime: Runtime, vendor_server: VendorServer, today: str
) -> None:
    run(runtime, make_job(runtime, TEXTS).id)
    again = make_job(runtime, {**TEXTS, "copy": TEXTS["doc-0"]})
    run(runtime, again.id)
    copied = next(row for row in rows(runtime, "items") if row.source == "doc-0")
    cost = {row.id: row.cost_nusd for row in rows(runtime, "attempts")}
    for found in (savings(runtime), savings(runtime, Period.ending(today)), savings(runtime, None, again.id)):
        assert found["reuse"].count == 11
        assert found["reuse"].saved_nusd == bill_nusd(vendor_server) + cost[copied.result_id]
    assert savings(runtime, Period("2000-01-01", "2000-01-02"))["reuse"].saved_nusd == 0
    assert savings(runtime, None, 1)["reuse"].count == 0


def test_cheap_tiers_are_held_against_the_top_rung_or_the_premium_tier(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    vendor_server.add_fault(text="no JSON", contains="number 3", times=1)
    plain = make_job(runtime, TEXTS)
    laddered = make_job(runtime, {"other": "Quite another text."}, ladder=("economy", "standard"))
    run(runtime, plain.id, laddered.id)
    found = savings(runtime)
    premium, standard = (runtime.catalog.tier(tier)[0] for tier in ("premium", "standard"))
    for job, model in ((plain, premium), (laddered, standard)):
        calls = [row for row in rows(runtime, "attempts") if row.job_id == job.id]
        answers = [row for row in calls if row.outcome == "ok"]
        instead = sum(
            row.input_tokens * model.prices.input_nusd + row.output_tokens * model.prices.output_nusd
            for row in answers
        )
        saving = found[f"cheap_tiers {model.name}"]
        assert saving.paid_nusd == sum(row.cost_nusd for row in calls)
        assert saving.saved_nusd == instead // 10**6 - saving.paid_nusd > 0
        assert saving.count == len(answers)
        assert model.name in saving.how


def test_the_judging_of_a_job_with_a_floor_is_part_of_what_its_answers_cost(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    job, child = make_job(runtime, TEXTS), make_job(runtime, {"other": "What a judge reads."})
    run(runtime, job.id, child.id)
    judged = jobs.c.id == child.id
    with runtime.store.write() as connection:
        connection.execute(update(jobs).where(judged).values(parent_id=job.id, purpose="judge"))
        connection.execute(update(attempts).where(attempts.c.job_id == child.id).values(purpose="judge"))

    def paid(job_id: int | None) -> tuple[int, int]:
        [found] = [one for name, one in savings(runtime, None, job_id).items() if name.startswith("cheap")]
        return found.paid_nusd, found.count

    own = sum(row.cost_nusd for row in rows(runtime, "attempts") if row.job_id == job.id)
    answers = paid(None)[1]
    assert paid(job.id) == (own, answers), "samples are checked beside the work"
    with runtime.store.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(routing="{}"))
    assert paid(job.id) == paid(None) == (spent(runtime), answers)


def test_caching_saves_at_the_prices_of_each_call(runtime: Runtime, vendor_server: VendorServer) -> None:
    run(runtime, make_job(runtime, {"a": "one", "b": "two", "c": "three"}).id)
    first, second, third = rows(runtime, "attempts")
    cached: list[dict[str, Any]] = [
        {"cached_tokens": 1_000, "cache_write_tokens": 0},
        {"cached_tokens": 0, "cache_write_tokens": 400, "price_cache_write_nusd": 200_000_000},
        {"cached_tokens": 10, "cache_write_tokens": 0, "price_cached_nusd": 150_000_000},
    ]
    with runtime.store.write() as connection:
        for row, values in zip((first, second, third), cached, strict=True):
            connection.execute(update(attempts).where(attempts.c.id == row.id).values(**values))
    saving = savings(runtime)["caching"]
    assert (first.price_input_nusd, first.price_cached_nusd) == (150_000_000, 75_000_000)
    assert saving.saved_nusd == 1_000 * 75 - 400 * 50
    assert saving.count == 1_010
    with runtime.store.write() as connection:
        # Sums that would pass 64 bits if the database multiplied.
        values = {"cached_tokens": 2_000_000_000, "price_input_nusd": 10**13, "price_cached_nusd": 0}
        connection.execute(update(attempts).values(**values, cache_write_tokens=0))
    assert savings(runtime)["caching"].saved_nusd == 3 * 2_000_000_000 * 10**7


def test_a_ledger_day_ahead_of_the_clock_is_the_last_day(runtime: Runtime, today: str) -> None:
    with runtime.store.write() as connection:
        runtime.ledger.today(connection)
        connection.execute(
            insert(ledger_accounts).values(scope="day", period="2999-01-01", reserved_nusd=0, spent_nusd=0)
        )
        connection.exec_driver_sql("UPDATE ledger_clock SET last_day = '2999-01-01'")
        assert latest_day(connection, runtime.store.now(connection), "UTC") == "2999-01-01"
        assert latest_day(connection, 4e10, "UTC") > "2999-01-01"
