"""What a rehearsal begins with: the real store's caps, and what stands against them today. Read only."""

from __future__ import annotations

import time
from dataclasses import dataclass

from batcher.budget.ledger import DAY_SCOPE, DEFAULT_DAILY_CAP_NUSD, Account, Balance, Ledger
from batcher.settings import Settings
from batcher.store.database import Store
from batcher.store.schema import open_to_read


@dataclass(frozen=True, slots=True)
class Books:
    """What the real store's books say at the start, nano-dollars.

    Attributes:
        now: Unix seconds.
        cap_nusd: the daily cap, or None.
        taken_nusd: what is spent and reserved of today's already.
        others: the caps of tiers, providers and tasks, and how full they are today.
    """

    now: float
    cap_nusd: int | None
    taken_nusd: int
    others: tuple[Balance, ...] = ()


def open_real_store(settings: Settings) -> Store | None:
    """The real store, which refuses every write; None if there is none yet.

    Raises:
        ConfigurationError: if another version of batcher left it behind.
        DependencyError: if it cannot be reached.
    """
    return open_to_read(settings.store_url())


def read_books(store: Store | None, time_zone: str) -> Books:
    """The books of the real store, or those that a new one begins with."""
    if store is None:
        return Books(time.time(), DEFAULT_DAILY_CAP_NUSD, 0)
    ledger = Ledger(store, time_zone)
    with store.read() as connection:
        now, day = store.now(connection), ledger.current_day(connection)
        cap_nusd = ledger.daily_cap_nusd(connection)
        today = ledger.balances(connection, [Account(DAY_SCOPE, day)])
        others = [found for found in ledger.capped(connection, day) if found.account.period == day]
    taken_nusd = sum(found.spent_nusd + found.reserved_nusd for found in today)
    return Books(
        now, cap_nusd, taken_nusd, tuple(found for found in others if found.account.scope != DAY_SCOPE)
    )
