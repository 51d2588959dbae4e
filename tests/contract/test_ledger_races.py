"""Many workers on one store at once: no deadlock, no cap passed, no nano-dollar lost; accounts on demand."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select, text

from batcher.budget.ledger import Account, Funding, Ledger, Movement, Movements, accounts_of
from batcher.domain import AttemptState, JobState, Purpose
from batcher.engine.lane import LaneFactory
from batcher.engine.leasing import Chunk, Leaser
from batcher.engine.marks import Mark
from batcher.engine.reclaiming import reclaim_lost
from batcher.engine.writer import Writer, _Asked, _Group
from batcher.runtime import Runtime
from batcher.store.attempts import SEQUENCE_BITS, Settlement
from batcher.store.database import Store
from batcher.store.jobs import list_job_ids
from batcher.store.tables import ledger_accounts
from tests.support.ledger_model import given_back, sums_of_rows, two_vendors
from tests.support.runs import make_job

WORKERS, ROUNDS = 6, 12
FUNDING = Funding(3, "verdict", "economy", "openai", "2026-11-20")
CAP_NUSD = 6_000_000


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store, "UTC")


def standing(store: Store) -> dict[Account, tuple[int | None, int, int]]:
    """Cap, reserved and spent of every account."""
    with store.read() as connection:
        found = connection.execute(select(ledger_accounts)).all()
    return {
        Account(row.scope, row.period): (row.cap_nusd, row.reserved_nusd, row.spent_nusd) for row in found
    }


def test_accounts_are_opened_by_the_first_reservation_with_the_cap_of_their_scope(
    store: Store, ledger: Ledger
) -> None:
    with store.write() as connection:
        ledger.lock(connection)
        ledger.set_cap(connection, "task:verdict", 90)
        accounts = accounts_of(FUNDING)
        assert ledger.reserve(connection, accounts, 91) == Account("task:verdict", FUNDING.day)
        assert ledger.reserve(connection, accounts, 90) is None
        assert ledger.reserve(connection, accounts, 1) == Account("task:verdict", FUNDING.day)
    assert {account: (cap, reserved) for account, (cap, reserved, _) in standing(store).items()} == {
        Account("day", FUNDING.day): (5_000_000_000, 90),
        Account("job:3", ""): (None, 90),
        Account("provider:openai", FUNDING.day): (None, 90),
        Account("task:verdict", FUNDING.day): (90, 90),
        Account("tier:economy", FUNDING.day): (None, 90),
    }


def test_a_movement_on_accounts_that_are_not_there_opens_them(store: Store, ledger: Ledger) -> None:
    with store.write() as connection:
        ledger.lock(connection)
        assert ledger.today(connection) == FUNDING.day
        movements = Movements()
        movements.add(FUNDING, Movement(0, 70))
        movements.add(FUNDING, Movement(5, 1))
        movements.add_to(Account("day", FUNDING.day), Movement(0, 1_000))
        ledger.move(connection, movements)
        ledger.move(connection, Movements())
    moved = {account: values[1:] for account, values in standing(store).items()}
    assert moved.pop(Account("day", FUNDING.day)) == (5, 1_071)
    assert set(moved.values()) == {(5, 71)}
    assert len(moved) == 4


def test_lifted_caps_stay_lifted_on_the_next_day(store: Store, ledger: Ledger) -> None:
    with store.write() as connection:
        ledger.lock(connection)
        for scope in ("day", "tier:economy"):
            ledger.set_cap(connection, scope, 1)
            ledger.set_cap(connection, scope, None)
        assert ledger.daily_cap_nusd(connection) is None
        assert ledger.capped(connection, FUNDING.day) == []
        tomorrow = FUNDING._replace(day="2026-11-21")
        assert ledger.reserve(connection, accounts_of(tomorrow), 10**15) is None


def test_caps_in_force_are_listed_with_what_stands_under_them(store: Store, ledger: Ledger) -> None:
    with store.write() as connection:
        ledger.lock(connection)
        ledger.set_cap(connection, "tier:premium", 50)
        ledger.set_cap(connection, "provider:openai", 40)
        ledger.reserve(connection, accounts_of(FUNDING), 30)
        listed = ledger.capped(connection, FUNDING.day)
        next_day = ledger.capped(connection, "2026-11-21")
    found = [(balance.account.scope, balance.cap_nusd, balance.reserved_nusd) for balance in listed]
    day = ("day", 5_000_000_000, 30)
    assert found == [day, ("provider:openai", 40, 30), ("tier:premium", 50, 0)]
    assert [balance.reserved_nusd for balance in next_day] == [0, 0, 0]


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_money_moves_in_one_transaction_at_a_time_on_postgresql(store: Store, ledger: Ledger) -> None:
    """A second one waits at its first statement; on SQLite BEGIN IMMEDIATE does the same."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    with ThreadPoolExecutor(1) as pool:
        with store.write() as connection:
            ledger.lock(connection)
            other = pool.submit(_lock, store, ledger)
            while connection.execute(waiting).scalar_one() == 0:
                assert not other.done()
        other.result(timeout=10)


def _lock(store: Store, ledger: Ledger) -> None:
    with store.write() as connection:
        ledger.lock(connection)


@pytest.fixture
def runtime(tmp_path: Path, store: Store) -> Runtime:
    return two_vendors(tmp_path / "home", store)


def test_workers_that_touch_the_same_accounts_in_any_order_never_lock_each_other_out(
    runtime: Runtime, store: Store, store_url: str
) -> None:
    for number in range(3):
        texts = {f"{number}-{row}": f"{number} {row} " * (1 + 7 * row) for row in range(60)}
        make_job(runtime, texts, model=None, tier=("economy", "premium")[number % 2])
    with store.write() as connection:
        runtime.ledger.lock(connection)
        for scope in ("day", "tier:economy", "provider:together"):
            runtime.ledger.set_cap(connection, scope, CAP_NUSD)
    for name in ("openai", "together"):
        runtime.provider(name)  # threads that import a vendor's SDK at once may see it half imported
    with ThreadPoolExecutor(WORKERS) as pool:
        workers = [pool.submit(_work, runtime, store_url, seed) for seed in range(WORKERS)]
        assert sum(worker.result(timeout=120) for worker in workers) > 0
    with store.read() as connection:
        reserved, spent = sums_of_rows(connection)
    for account, (cap_nusd, reserved_nusd, spent_nusd) in standing(store).items():
        assert (reserved_nusd, spent_nusd) == (reserved[account], spent[account]), account
        assert cap_nusd is None or reserved_nusd + spent_nusd <= cap_nusd


def _work(runtime: Runtime, url: str, seed: int) -> int:
    """What a worker does to the books, in an order of its own; returns how many calls it was admitted."""
    draw = random.Random(seed)
    store = Store(url, clock=lambda: 1795176000.0)
    ledger = Ledger(store, "UTC")
    lanes = LaneFactory(
        runtime.catalog, runtime.provider, runtime.account, runtime.is_usable, lambda _: None, timeout_s=5
    )
    leaser = Leaser(store, ledger, lanes, lease_s=60)
    loop = asyncio.new_event_loop()
    admitted = 0
    with ThreadPoolExecutor(1) as pool:
        writer = Writer(store, ledger, pool)
        with store.read() as connection:
            job_ids = list_job_ids(connection, JobState.RUNNING)
        for _ in range(ROUNDS):
            draw.shuffle(job_ids)
            chunk = leaser.lease(draw.randint(1, 5), job_ids, None)
            if not isinstance(chunk, Chunk):
                continue
            group = _Group(marks=[_Asked(mark, loop.create_future()) for mark in _marks(chunk, draw)])
            sent = [
                asked.mark
                for asked, verdict in zip(group.marks, _commit(store, writer, group), strict=True)
                if verdict is None
            ]
            admitted += len(sent)
            if draw.random() < 0.2:
                continue  # killed with its calls on the wire
            settlements = [_settlement(mark, draw) for mark in sent]
            _commit(store, writer, _Group(settlements=settlements))
            changes = [given_back(item, chunk.lease_id) for item in chunk.items]
            _commit(store, writer, _Group(changes=changes, closings=[chunk.lease_id]))
            reclaim_lost(store, ledger)
    loop.close()
    store.close()
    return admitted


def _commit(store: Store, writer: Writer, group: _Group) -> list[Exception | None]:
    with store.write() as connection:
        return writer._commit(connection, group)


def _marks(chunk: Chunk, draw: random.Random) -> list[Mark]:
    marks = []
    for number, item in enumerate(chunk.items):
        model = draw.choice(chunk.lane.bindings).model
        marks.append(
            Mark(
                attempt_id=(chunk.lease_id << SEQUENCE_BITS) | number,
                item_id=item.id,
                job_id=item.job_id,
                lease_id=chunk.lease_id,
                purpose=Purpose.ANSWER,
                part=0,
                tier=item.tier,
                model=model.name,
                provider=model.provider,
                reserved_nusd=chunk.lane.first.item_reservation_nusd(item) * draw.randint(1, 3) // 2,
                prices=model.prices,
            )
        )
    draw.shuffle(marks)
    return marks


def _settlement(mark: Mark, draw: random.Random) -> Settlement:
    if draw.random() < 0.2:
        return Settlement(mark.attempt_id, AttemptState.UNKNOWN, mark.reserved_nusd, "unknown_outcome")
    return Settlement(mark.attempt_id, AttemptState.SETTLED, draw.randint(0, mark.reserved_nusd), "ok")
