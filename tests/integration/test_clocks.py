"""Days: runs across midnight, daylight-saving changes, another time zone, and with the clock set back."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

import pytest
from sqlalchemy import update

from batcher.budget.ledger import Account, Funding, Ledger, accounts_of
from batcher.domain import JobState
from batcher.engine.control import Ending
from batcher.engine.reclaiming import resume_due
from batcher.engine.submission import PAUSED_BY_USER
from batcher.runtime import Runtime
from batcher.store.database import Store
from batcher.store.jobs import due_jobs, set_state
from batcher.store.schema import ensure_schema
from batcher.store.tables import jobs
from tests.contract.conftest import Clock
from tests.support.runs import balances, bill_nusd, item_statuses, job_of, make_job, make_runtime, rows, run
from tests.support.vendor_server import VendorServer

TEXTS = {f"d{number}": f"text {number}" for number in range(30)}
BERLIN = "Europe/Berlin"


def at(zone: str, text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.fixture
def clock() -> Clock:
    return Clock(at(BERLIN, "2026-11-20 23:00"))


@pytest.fixture
def runtime(tmp_path: Path, vendor_server: VendorServer, clock: Clock) -> Runtime:
    runtime = make_runtime(tmp_path / "home", vendor_server, time_zone=BERLIN, concurrency=1, chunk_items=1)
    store = Store(f"sqlite:///{tmp_path / 'clocked.db'}", clock=clock)
    ensure_schema(store)
    runtime.__dict__["store"] = store
    return runtime


def set_daily_cap(runtime: Runtime, cap_nusd: int) -> None:
    with runtime.store.write() as connection:
        runtime.ledger.set_daily_cap(connection, cap_nusd)


def spent_on(runtime: Runtime) -> dict[str, int]:
    return {
        found.account.period: found.spent_nusd
        for found in balances(runtime)
        if found.account.scope == "day" and found.spent_nusd
    }


def test_a_run_across_midnight_books_each_call_on_the_day_of_its_reservation(
    runtime: Runtime, clock: Clock, vendor_server: VendorServer
) -> None:
    vendor_server.configure(latency_s=0.1)
    job = make_job(runtime, TEXTS)

    async def main() -> Ending:
        engine = runtime.engine()
        running = asyncio.create_task(engine.run([job.id]))
        await asyncio.to_thread(vendor_server.wait_for_calls, 5)
        clock.now = at(BERLIN, "2026-11-21 00:00:01")
        ending = await running
        await runtime.aclose()
        return ending

    assert asyncio.run(main()) is Ending.IDLE
    by_day = spent_on(runtime)
    assert list(by_day) == ["2026-11-20", "2026-11-21"]
    assert sum(by_day.values()) == bill_nusd(vendor_server)
    for row in rows(runtime, "attempts"):
        # Sent after midnight on yesterday's money only what was leased before it.
        assert row.day == "2026-11-20" or row.sent_at >= at(BERLIN, "2026-11-21 00:00")


def test_a_cap_reached_before_midnight_is_no_cap_after_it(
    runtime: Runtime, clock: Clock, vendor_server: VendorServer
) -> None:
    set_daily_cap(runtime, 1_000_000)
    job = make_job(runtime, TEXTS)
    assert run(runtime, job.id) is Ending.BUDGET
    first = item_statuses(runtime, job.id)["done"]
    paused = job_of(runtime, job.id)
    assert paused.resume_at == at(BERLIN, "2026-11-21 00:00")
    with runtime.store.read() as connection:
        assert due_jobs(connection, paused.resume_at - 1) == []
        assert due_jobs(connection, paused.resume_at) == [job.id]
    clock.now = paused.resume_at - 1
    assert resume_due(runtime.store, runtime.ledger) == []
    clock.now = paused.resume_at
    assert resume_due(runtime.store, runtime.ledger) == [job.id]
    resumed = job_of(runtime, job.id)
    assert (resumed.state, resumed.reason, resumed.resume_at) == (JobState.RUNNING, None, None)
    run(runtime, job.id)
    assert item_statuses(runtime, job.id)["done"] > first
    by_day = spent_on(runtime)
    assert list(by_day) == ["2026-11-20", "2026-11-21"]
    assert all(spent_nusd <= 1_000_000 for spent_nusd in by_day.values())
    assert sum(by_day.values()) == bill_nusd(vendor_server)


def test_only_jobs_that_a_cap_paused_are_due(runtime: Runtime, clock: Clock) -> None:
    ids = [make_job(runtime, {name: name}).id for name in ("a", "b", "c", "d")]
    reasons = ("budget: daily cap $1.00", PAUSED_BY_USER, "budget: cap of job 3", "interrupted")
    with runtime.store.write() as connection:
        for job_id, reason in zip(ids, reasons, strict=True):
            resume_at = None if "job" in reason else clock.now
            set_state(connection, job_id, JobState.PAUSED, clock.now, reason=reason, resume_at=resume_at)
    assert resume_due(runtime.store, runtime.ledger) == [ids[0]]
    assert [job_of(runtime, job_id).state for job_id in ids[1:]] == [JobState.PAUSED] * 3


def test_with_the_clock_set_back_the_day_stays_and_its_cap_is_not_there_again(
    runtime: Runtime, clock: Clock, vendor_server: VendorServer
) -> None:
    clock.now = at(BERLIN, "2026-11-21 00:10")
    set_daily_cap(runtime, 1_000_000)
    job = make_job(runtime, TEXTS)
    run(runtime, job.id)
    spent_nusd = bill_nusd(vendor_server)
    clock.now = at(BERLIN, "2026-11-20 22:00")
    with runtime.store.write() as connection:
        connection.execute(update(jobs).values(state=JobState.RUNNING.value))
    assert run(runtime, job.id) is Ending.BUDGET
    assert bill_nusd(vendor_server) == spent_nusd
    assert list(spent_on(runtime)) == ["2026-11-21"]
    assert job_of(runtime, job.id).resume_at == at(BERLIN, "2026-11-22 00:00")


def test_a_zone_changed_in_mid_day_opens_no_second_cap(runtime: Runtime, clock: Clock) -> None:
    """West: it is yesterday there, and the day stays. East: tomorrow begins early, once."""
    store = runtime.store
    zones = ["Asia/Tokyo", BERLIN, "America/Los_Angeles", "Pacific/Kiritimati", "Etc/GMT+12", "Asia/Tokyo"]
    opened = []
    clock.now = at(BERLIN, "2026-11-20 18:00")  # 02:00 on the 21st in Tokyo
    for _ in range(3):
        for zone in zones:
            ledger = Ledger(store, zone)
            with store.write() as connection:
                opened.append(ledger.today(connection))
                account = Account("day", opened[-1])
                ledger.set_daily_cap(connection, 100)
                ledger.reserve(connection, [account], 60)
        clock.now += 3600
    assert opened == sorted(opened)
    assert set(opened) == {"2026-11-21"}
    with store.read() as connection:
        [day] = Ledger(store, BERLIN).balances(connection, [Account("day", "2026-11-21")])
    assert day.reserved_nusd == 60, "one reservation of 60 fits a cap of 100, in whatever zone"


@pytest.mark.parametrize("zone", [BERLIN, "America/New_York", "Australia/Lord_Howe", "Africa/Cairo"])
def test_across_a_year_every_day_begins_where_the_last_one_ended(
    tmp_path: Path, clock: Clock, zone: str
) -> None:
    """A second before a day's start it is still the day before, also where days have 23, 24.5 or 25 hours."""
    store = Store(f"sqlite:///{tmp_path / 'year.db'}", clock=clock)
    ensure_schema(store)
    ledger = Ledger(store, zone)
    day = datetime(2026, 1, 1).date()
    lengths = set()
    starts = [ledger.next_day_starts_at((day + timedelta(number)).isoformat()) for number in range(365)]
    with store.write() as connection:
        for number, start in enumerate(starts):
            today = (day + timedelta(number)).isoformat()
            clock.now = start - 1
            assert ledger.today(connection) == today
            clock.now = start
            assert ledger.today(connection) == (day + timedelta(number + 1)).isoformat()
    lengths = {round((later - earlier) / 3600, 2) for earlier, later in pairwise(starts)}
    assert len(lengths) == 3
    assert 24.0 in lengths
    store.close()


def test_no_zone_has_a_day_that_begins_twice_or_never(tmp_path: Path, clock: Clock) -> None:
    """Also where midnight is skipped: the day's start is never still the day before, for a job to spin on."""
    store = Store(f"sqlite:///{tmp_path / 'zones.db'}", clock=clock)
    for name in sorted(available_timezones()):
        zone, ledger = ZoneInfo(name), Ledger(store, name)
        for day in ("2026-03-07", "2026-03-28", "2026-04-23", "2026-09-05", "2026-10-24", "2026-10-29"):
            start = ledger.next_day_starts_at(day)
            assert datetime.fromtimestamp(start, zone).date().isoformat() > day, (name, day)
            assert datetime.fromtimestamp(start - 1, zone).date().isoformat() == day, (name, day)
    store.close()


@pytest.mark.parametrize(
    ("zone", "day", "skipped_to"),
    [
        ("Africa/Cairo", "2026-04-23", "01:00"),
        ("America/Santiago", "2026-09-05", "01:00"),
        ("Asia/Beirut", "2026-03-28", "01:00"),
    ],
)
def test_where_midnight_is_skipped_the_day_begins_at_the_change(
    tmp_path: Path, clock: Clock, zone: str, day: str, skipped_to: str
) -> None:
    store = Store(f"sqlite:///{tmp_path / 'gap.db'}", clock=clock)
    start = datetime.fromtimestamp(Ledger(store, zone).next_day_starts_at(day), ZoneInfo(zone))
    assert start.strftime("%H:%M") == skipped_to
    store.close()


@pytest.mark.parametrize("hours", [23, 25])
def test_a_run_across_a_daylight_saving_change_has_one_cap_a_day(
    runtime: Runtime, clock: Clock, vendor_server: VendorServer, hours: int
) -> None:
    day = "2026-03-29" if hours == 23 else "2026-10-25"
    clock.now = at(BERLIN, f"{day} 00:00")
    set_daily_cap(runtime, 600_000)
    job = make_job(runtime, {f"d{number}": f"text {number}" for number in range(200)})
    began = clock.now
    for hour in range(hours + 1):
        clock.now = began + hour * 3600
        with runtime.store.write() as connection:
            connection.execute(update(jobs).values(state=JobState.RUNNING.value))
        assert run(runtime, job.id) is Ending.BUDGET
        resume_at = job_of(runtime, job.id).resume_at
        assert resume_at is not None
        assert (resume_at - began) / 3600 == (hours if hour < hours else hours + 24)
    by_day = spent_on(runtime)
    assert len(by_day) == 2
    assert all(spent_nusd <= 600_000 for spent_nusd in by_day.values())


def test_an_account_of_a_new_day_begins_with_the_cap_of_its_scope(runtime: Runtime, clock: Clock) -> None:
    funding = Funding(1, "verdict", "premium", "openai", "")
    with runtime.store.write() as connection:
        runtime.ledger.set_cap(connection, "tier:premium", 70)
        for _ in range(3):
            day = runtime.ledger.today(connection)
            accounts = accounts_of(funding._replace(day=day))
            assert runtime.ledger.reserve(connection, accounts, 71) == Account("tier:premium", day)
            assert runtime.ledger.reserve(connection, accounts, 70) is None
            clock.now += 86_400
