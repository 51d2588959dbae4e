"""The prices that an attempt's row keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, bindparam, update

from batcher.domain import Prices
from batcher.store.tables import attempts


def price_columns(prices: Prices) -> dict[str, int]:
    """The columns of an attempt that tell what it is charged at."""
    return {
        "price_input_nusd": prices.input_nusd,
        "price_output_nusd": prices.output_nusd,
        "price_cached_nusd": prices.cached_nusd,
        "price_cache_write_nusd": prices.cache_write_nusd,
        "price_request_nusd": prices.request_nusd,
    }


def charge_at(connection: Connection, prices_of: Mapping[int, Prices]) -> None:
    """Let attempts, by id, keep other prices than those they were sent at."""
    if prices_of:
        rows = [{"b_id": attempt, **price_columns(prices)} for attempt, prices in prices_of.items()]
        connection.execute(_CHARGE, rows)


_NAMES: Final = tuple(price_columns(Prices(0, 0, 0, 0)))
_CHARGE: Final = (
    update(attempts)
    .where(attempts.c.id == bindparam("b_id"))
    .values({name: bindparam(name) for name in _NAMES})
)
