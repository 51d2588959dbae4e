"""The ledger on SQLite and PostgreSQL: no interleaving admits more than a cap, none loses a nano-dollar."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batcher.budget.ledger import (
    DEFAULT_DAILY_CAP_NUSD,
    Account,
    Balance,
    Funding,
    Ledger,
    Movement,
    Movements,
    accounts_of,
)
from batcher.store.database import Store
from tests.contract.conftest import Clock

USD = 1_000_000_000
DAY = "2026-11-20"


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store, "UTC")


def balance(store: Store, ledger: Ledger, account: Account) -> Balance:
    with store.read() as connection:
        [found] = ledger.balances(connection, [account])
    return found


def test_a_new_day_opens_with_the_default_cap(store: Store, ledger: Ledger) -> None:
    with store.write() as connection:
        assert ledger.today(connection) == DAY
    assert balance(store, ledger, Account("day", DAY)) == Balance(
        Account("day", DAY), DEFAULT_DAILY_CAP_NUSD, 0, 0
    )


def test_a_reservation_up_to_the_cap_is_admitted_and_one_more_nano_dollar_is_not(
    store: Store, ledger: Ledger
) -> None:
    with store.write() as connection:
        ledger.set_daily_cap(connection, 100)
        day = Account("day", ledger.today(connection))
        assert ledger.reserve(connection, [day], 100) is None
        assert ledger.reserve(connection, [day], 1) == day
    assert balance(store, ledger, day).reserved_nusd == 100


def test_a_reservation_that_one_cap_refuses_leaves_no_trace_on_the_others(
    store: Store, ledger: Ledger
) -> None:
    with store.write() as connection:
        ledger.today(connection)
        ledger.open_job(connection, 7, 50)
        accounts = accounts_of(Funding(7, "t", "economy", "openai", DAY))
        assert ledger.reserve(connection, accounts, 51) == Account("job:7", "")
        assert [found.reserved_nusd for found in ledger.balances(connection, accounts)] == [0, 0]
        assert ledger.reserve(connection, accounts, 50) is None
        assert [found.reserved_nusd for found in ledger.balances(connection, accounts)] == [50] * 5


def test_a_settlement_frees_what_the_call_did_not_cost(store: Store, ledger: Ledger) -> None:
    with store.write() as connection:
        ledger.set_daily_cap(connection, 100)
        ledger.open_job(connection, 1, None)
        day = ledger.today(connection)
        funding = Funding(1, "t", "economy", "openai", day)
        accounts = accounts_of(funding)
        assert ledger.reserve(connection, accounts, 80) is None
        movements = Movements()
        movements.add(funding, Movement(-80, 30))
        ledger.move(connection, movements)
        assert ledger.room_nusd(connection, accounts) == 70


def test_lowering_the_cap_below_what_is_spent_admits_nothing(store: Store, ledger: Ledger) -> None:
    with store.write() as connection:
        day = Account("day", ledger.today(connection))
        assert ledger.reserve(connection, [day], USD) is None
        ledger.set_daily_cap(connection, 10)
        assert ledger.reserve(connection, [day], 1) == day
        assert ledger.room_nusd(connection, [day]) == 0


def test_the_day_follows_the_zone_and_never_goes_back(store: Store, clock: Clock) -> None:
    ledger = Ledger(store, "Asia/Tokyo")
    clock.now = 1795186799.0  # 2026-11-20 23:59:59 in Tokyo
    with store.write() as connection:
        assert ledger.today(connection) == "2026-11-20"
        clock.now += 1
        assert ledger.today(connection) == "2026-11-21"
        clock.now -= 86_400
        assert ledger.today(connection) == "2026-11-21"


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-11-20", 24)])
def test_days_of_a_daylight_saving_change_have_their_own_length(store: Store, day: str, hours: int) -> None:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    midnight = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
    assert Ledger(store, "Europe/Berlin").next_day_starts_at(day) - midnight == hours * 3600


def _race(url: str, amount: int, results: multiprocessing.Queue[int]) -> None:
    store = Store(url)
    ledger = Ledger(store, "UTC")
    admitted = 0
    for _ in range(60):
        with store.write() as connection:
            day = Account("day", ledger.today(connection))
            admitted += ledger.reserve(connection, [day], amount) is None
    store.close()
    results.put(admitted * amount)


def test_racing_processes_never_pass_the_cap_together(store: Store, store_url: str, ledger: Ledger) -> None:
    with store.write() as connection:
        ledger.set_daily_cap(connection, 1_000)
    store.close()
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[int] = context.Queue()
    racers = [context.Process(target=_race, args=(store_url, amount, results)) for amount in (7, 11, 13, 17)]
    for racer in racers:
        racer.start()
    admitted = sum(results.get(timeout=60) for _ in racers)
    for racer in racers:
        racer.join()
        assert racer.exitcode == 0
    # The racers ran on the real clock: their day is the latest one.
    with store.write() as connection:
        [found] = ledger.balances(connection, [Account("day", ledger.today(connection))])
    assert found.reserved_nusd == admitted
    assert 1_000 - 17 < admitted <= 1_000, "what is left admits no racer's amount"


def test_racing_threads_open_a_new_day_once(store: Store, ledger: Ledger) -> None:
    def reserve(_: int) -> bool:
        with store.write() as connection:
            return ledger.reserve(connection, [Account("day", ledger.today(connection))], 1) is None

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(reserve, range(40)))
    assert balance(store, ledger, Account("day", DAY)).reserved_nusd == 40


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(0, 60)),
        st.tuples(st.just("settle"), st.integers(0, 100)),
        st.tuples(st.just("cap"), st.integers(0, 200)),
        st.tuples(st.just("day"), st.integers(-2, 2)),
    ),
    max_size=40,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
def test_the_books_agree_with_a_plain_model(
    store: Store, ledger: Ledger, clock: Clock, steps: list[tuple[str, int]]
) -> None:
    """Reserve, settle at any share of the reservation, change the cap, move the clock: as simple sums say."""
    clock.now += 10 * 86_400  # a day that no earlier example has used
    books: dict[str, list[int]] = {}
    open_reservations: list[tuple[str, int]] = []
    with store.write() as connection:
        ledger.set_daily_cap(connection, 100)
    cap = {}
    current = 100
    for step, value in steps:
        with store.write() as connection:
            if step == "day":
                clock.now += value * 86_400
            day = ledger.today(connection)
            books.setdefault(day, [0, 0])
            cap.setdefault(day, current)
            account = Account("day", day)
            if step == "cap":
                ledger.set_daily_cap(connection, value)
                current = cap[day] = value
            elif step == "reserve":
                refused = ledger.reserve(connection, [account], value)
                fits = value == 0 or sum(books[day]) + value <= cap[day]
                assert (refused is None) is fits
                if refused is None:
                    books[day][0] += value
                    open_reservations.append((day, value))
            elif step == "settle" and open_reservations:
                reserved_day, reserved = open_reservations.pop(0)
                cost = reserved * value // 100
                movements = Movements()
                movements.add_to(Account("day", reserved_day), Movement(-reserved, cost))
                ledger.move(connection, movements)
                books[reserved_day][0] -= reserved
                books[reserved_day][1] += cost
    with store.read() as connection:
        found = ledger.balances(connection, [Account("day", day) for day in books])
    assert {entry.account.period: [entry.reserved_nusd, entry.spent_nusd] for entry in found} == books
