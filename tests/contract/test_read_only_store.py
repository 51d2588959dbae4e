"""A store opened for reading alone, as rehearsals look at the real one: on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import DBAPIError

from batcher.budget.ledger import Ledger
from batcher.dispatch.rehearsal_books import Books, open_real_store, read_books
from batcher.errors import DependencyError
from batcher.settings import Settings
from batcher.store.database import Store

CAP_NUSD = 7_000_000_000


def test_it_reads_what_is_there_and_refuses_writes(store: Store, store_url: str) -> None:
    ledger = Ledger(store, "UTC")
    with store.write() as connection:
        ledger.set_daily_cap(connection, CAP_NUSD)
    real = open_real_store(Settings(database_url=store_url))
    assert real is not None
    books = read_books(real, "UTC")
    assert books == Books(books.now, CAP_NUSD, 0)
    with pytest.raises((DependencyError, DBAPIError), match=r"read-?only"), real.write() as connection:
        Ledger(real, "UTC").set_daily_cap(connection, 1)
    real.close()
    with store.read() as connection:
        assert ledger.daily_cap_nusd(connection) == CAP_NUSD


def test_an_empty_database_counts_as_none(empty_database_url: str) -> None:
    assert open_real_store(Settings(database_url=empty_database_url)) is None
