"""Calls of the past, written into a store's books by hand: what was sent, what was billed, what came back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import insert, select

from batcher.budget.comparison import DAY_S, day_of
from batcher.budget.ledger import Funding, Ledger, Movement, Movements, accounts_of
from batcher.budget.reconcile import Reconciliation, compare, settle
from batcher.budget.vendor_export import read_export
from batcher.catalog.models import Catalog, load_catalog
from batcher.domain import AttemptState, Prices, Purpose, Usage
from batcher.money import cost_nusd
from batcher.settings import Settings
from batcher.store.attempts import NewAttempt, Settlement, insert_attempts, settle_attempts
from batcher.store.database import Store
from batcher.store.tables import attempts, jobs, ledger_accounts
from tests.support.vendor_exports import write_csv

PRICES = Prices(input_nusd=150_000_000, output_nusd=600_000_000, cached_nusd=75_000_000, cache_write_nusd=0)
WORST = 5_000_000
"""What is reserved for each call, nano-dollars."""

FIRST_DAY = 20_772
"""2026-11-15, as days since 1970."""


def at(day: int, hour: float) -> float:
    """Unix seconds; day 0 is 2026-11-15 in UTC."""
    return (FIRST_DAY + day) * DAY_S + hour * 3600


@dataclass(frozen=True)
class Sent:
    """A call that was sent: what the vendor did, and what came back.

    Attributes:
        at: when, Unix seconds.
        billed: whether the vendor charges for it.
        answered: whether its answer came back.
        names_itself: whether at least its headers came back, with the vendor's id of the call.
    """

    at: float
    billed: bool = True
    answered: bool = True
    model: str = "some-model"
    tokens: tuple[int, int] = (1_000, 100)
    cached: int = 0
    names_itself: bool = False

    @property
    def usage(self) -> Usage:
        return Usage(self.tokens[0], self.cached, 0, self.tokens[1]) if self.billed else Usage()

    @property
    def cost_nusd(self) -> int:
        return cost_nusd(self.usage, PRICES)


@dataclass
class Books:
    """One provider's calls, in a store of several."""

    store: Store
    ledger: Ledger
    catalog: Catalog
    provider: str
    clock: Callable[[], float]

    def book(self, calls: list[Sent]) -> list[str]:
        """Write them; returns the vendor's ids of all, told or not."""
        with self.store.write() as connection:
            first = (
                connection.execute(select(attempts.c.id).order_by(attempts.c.id.desc())).scalar() or 0
            ) + 1
            if connection.execute(select(jobs.c.id)).scalar() is None:
                connection.execute(insert(jobs), [JOB])
            movements = Movements()
            for number, call in enumerate(calls, start=first):
                day = day_of(int(call.at // DAY_S))
                funding = Funding(1, "verdict", "economy", self.provider, day)
                assert self.ledger.reserve(connection, accounts_of(funding), WORST) is None
                cost = call.cost_nusd if call.answered else WORST
                insert_attempts(connection, [self._new(number, call, day)])
                state = AttemptState.SETTLED if call.answered else AttemptState.UNKNOWN
                usage = call.usage if call.answered else Usage()
                request_id = f"r{number}" if call.answered or call.names_itself else ""
                outcome = "ok" if call.answered else "unknown_outcome"
                settlement = Settlement(number, state, cost, outcome, usage, request_id=request_id)
                settle_attempts(connection, [settlement])
                movements.add(funding, Movement(-WORST, cost))
            self.ledger.move(connection, movements)
        return [f"r{number}" for number in range(first, first + len(calls))]

    def _new(self, number: int, call: Sent, day: str) -> NewAttempt:
        return NewAttempt(
            id=number, item_id=number, job_id=1, lease_id=1, purpose=Purpose.ANSWER, part=0, tier="economy",
            model=call.model, provider=self.provider, day=day, reserved_nusd=WORST, prices=PRICES,
            sent_at=call.at,
        )  # fmt: skip

    def spent(self) -> int:
        query = select(ledger_accounts.c.spent_nusd).where(
            ledger_accounts.c.scope == f"provider:{self.provider}"
        )
        with self.store.read() as connection:
            return sum(connection.execute(query).scalars())

    def reconcile(self, file: Path, *, final: bool = False) -> tuple[Reconciliation, int]:
        export = read_export(file, {})
        with self.store.write() as connection:
            self.ledger.lock(connection)
            found = compare(connection, self.catalog, export, self.provider, final=final, now=self.clock())
            return found, settle(connection, self.ledger, found.proofs)


def books_in(store: Store) -> Callable[[], Books]:
    """Makes books of new providers, seen from days later; no cap is in their way."""
    ledger = Ledger(store, "Asia/Tokyo")
    with store.write() as connection:
        ledger.set_daily_cap(connection, None)
        connection.execute(
            insert(ledger_accounts),
            [
                {"scope": "day", "period": day_of(day), "reserved_nusd": 0, "spent_nusd": 0}
                for day in range(FIRST_DAY - 2, FIRST_DAY + 5)
            ],
        )
    catalog = load_catalog(Settings.model_construct())
    numbers = itertools.count()
    return lambda: Books(store, ledger, catalog, f"vendor-{next(numbers)}", lambda: at(5, 12))


def by_day(path: Path, *lines: tuple[object, ...]) -> Path:
    """An export with a line for each day and model."""
    return write_csv(path, ("day", "model", "requests", "input_tokens", "output_tokens", "cost_usd"), lines)


JOB = {
    "id": 1, "corpus_key": b"k" * 20, "task": "verdict", "paths": "[]", "source_options": "{}", "spec": "{}",
    "tier": "economy", "ladder": "[]", "accepts": "[]", "refresh": False, "state": "done", "created_at": 0.0,
}  # fmt: skip
