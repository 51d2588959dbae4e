"""Whether a cost fits the caps, how many days it takes, and when it would be done."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.budget.ledger import Account, Balance, Ledger
from batcher.catalog.models import Limits
from batcher.planning.caps import CapCheck, check_caps, days_needed, first_books
from batcher.planning.estimate import Costs
from batcher.planning.schedule import RunTime, ends_at, run_time
from batcher.store.database import Store

from .planning_cases import MODEL, make_catalog

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
MIDNIGHT = datetime(2026, 11, 21, tzinfo=UTC).timestamp()
DAY_S = 86_400.0


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('schedule') / 'none.db'}", read_only=True)
    yield Ledger(store, "UTC")
    store.close()


def daily(cap: int, spent: int = 0, reserved: int = 0) -> Balance:
    return Balance(Account("day", "2026-11-20"), cap, reserved, spent)


def one(balance: Balance, likely: int, worst: int = 0) -> CapCheck:
    [check] = check_caps([balance], likely, max(worst, likely))
    return check


def test_a_cost_is_held_against_what_is_left() -> None:
    fits = one(daily(100, 30, 10), 60, 60)
    assert (fits.fits_likely, fits.fits_worst, fits.days) == (True, True, 1)
    risky = one(daily(100, 30, 10), 60, 61)
    assert (risky.fits_likely, risky.fits_worst, risky.days) == (True, False, 1)
    assert one(daily(100, 30, 10), 61).days == 2
    assert one(daily(100, 30, 10), 160).days == 2
    assert one(daily(100, 30, 10), 161).days == 3
    assert one(daily(100, 120), 1).days == 2
    assert one(daily(0), 1).days is None


def test_a_job_s_own_cap_does_not_come_back_the_next_day() -> None:
    own = one(Balance(Account("job:7", ""), 50, 0, 0), 60)
    assert own.days is None
    assert own.name == "the job's own cap"
    assert days_needed([one(daily(10), 100), own]) is None
    assert days_needed([one(daily(10), 100), one(daily(50), 100)]) == 10
    assert days_needed([]) == 1


def test_a_cap_below_the_smallest_call_admits_nothing_on_any_day() -> None:
    balances = [daily(100, 60), Balance(Account("job:7", ""), 200, 0, 60)]
    for least, expected in ((100, (None, None)), (101, (101, None)), (141, (141, 141))):
        checks = check_caps(balances, 400, 900, least)
        assert tuple(check.least_nusd for check in checks) == expected
    [check] = check_caps([daily(100)], 90, 120, 101)
    assert (check.fits_likely, check.fits_worst, check.days) == (False, False, None)
    assert check_caps([daily(0)], 0, 0, 0)[0].days == 1, "what costs nothing fits under any cap"


def test_a_cap_that_is_lifted_is_no_cap() -> None:
    assert check_caps([Balance(Account("day", "2026-11-20"), None, 0, 0)], 10, 10) == []


def test_books_of_a_new_store() -> None:
    books = first_books(NOON, "Pacific/Auckland", 1_000)
    assert books.day == "2026-11-21"
    assert [balance.account.scope for balance in books.covering("economy", ["openai"], "cards")] == [
        "day",
        "job:new",
    ]


@given(cap=st.integers(1, 1_000), spent=st.integers(0, 1_000), likely=st.integers(1, 20_000))
def test_days_are_the_fewest_that_suffice(cap: int, spent: int, likely: int) -> None:
    check = one(daily(cap, spent), likely)
    room = max(0, cap - spent)
    assert check.days is not None
    assert room + (check.days - 1) * cap >= likely
    assert check.days == 1 or room + (check.days - 2) * cap < likely


def timed(limits: Limits, costs: Costs, *, latency_s: float = 2.0, concurrency: int = 10) -> RunTime:
    model = make_catalog(limits=limits).models[MODEL]
    return run_time(model, costs, 0.0, latency_s, concurrency, is_measured=True)


COSTS = Costs(calls=100, input_tokens=60_000, output_tokens=6_000, longest_answer_tokens=60_000)


@pytest.mark.parametrize(
    ("limits", "seconds", "limit"),
    [
        (Limits(rpm=None, tpm=None), 20.0, "10 calls in flight"),
        (Limits(rpm=None, tpm=None, concurrency=4), 50.0, "4 calls in flight"),
        (Limits(rpm=100, tpm=None), 62.0, "100 requests/min"),
        (Limits(rpm=1_000, tpm=33_000), 122.0, "33,000 tokens/min"),
        (Limits(rpm=None, tpm=60_000, charges_output_limit=True), 122.0, "60,000 tokens/min"),
        (Limits(rpm=None, tpm=None, itpm=30_000, otpm=6_000), 122.0, "30,000 input tokens/min"),
        (Limits(rpm=None, tpm=None, itpm=90_000, otpm=3_000), 122.0, "3,000 output tokens/min"),
        (Limits(rpm=None, tpm=None, rpd=100), 20.0, "10 calls in flight"),
        (Limits(rpm=None, tpm=None, rpd=40), 2 * DAY_S + 4, "40 requests/day"),
    ],
)
def test_the_tightest_limit_says_how_long_it_takes(limits: Limits, seconds: float, limit: str) -> None:
    time = timed(limits, COSTS)
    assert time.seconds == pytest.approx(seconds)
    assert time.limit == limit


def test_repairs_take_their_time_and_nothing_takes_none() -> None:
    model = make_catalog(limits=Limits(rpm=60, tpm=None)).models[MODEL]
    assert run_time(model, COSTS, 0.5, 2.0, 10, is_measured=False).seconds == pytest.approx(152)
    assert timed(Limits(rpm=1, tpm=1), Costs()).seconds == 0


def test_it_ends_when_the_caps_let_it(ledger: Ledger) -> None:
    def end(balance: Balance, likely: int, seconds: float = 3_600.0) -> float | None:
        return ends_at("2026-11-20", NOON, seconds, [one(balance, likely)], likely, ledger)

    assert end(daily(100), 100) == NOON + 3_600
    assert end(daily(100, 50), 100) == MIDNIGHT + 0.5 * 3_600
    assert end(daily(100), 350) == MIDNIGHT + 2 * DAY_S + 50 / 350 * 3_600
    assert end(daily(100), 200, 3 * DAY_S) == NOON + 3 * DAY_S
    assert end(daily(0), 1) is None
    assert end(daily(1), 10**9) is None
    assert ends_at("2026-11-20", NOON, 60.0, [], 100, ledger) == NOON + 60


def test_the_day_that_is_meant_is_the_ledgers(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'none.db'}", read_only=True)
    berlin = Ledger(store, "Europe/Berlin")
    at = ends_at("2026-11-20", NOON, 0.0, [one(daily(100, 100), 100)], 100, berlin)
    assert at == MIDNIGHT - 3_600
    store.close()
