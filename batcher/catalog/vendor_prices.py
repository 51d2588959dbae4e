"""List prices as genai-prices knows them: bundled with that package, or fetched by its own updater.

Two traps of that package are stepped over here: it answers with the list price where it knows no batch rate,
and a lookup may fall back to another vendor's price of a model of the same name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from batcher.errors import DependencyError

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot

PROVIDER_IDS: Final = {"gemini": "google"}
"""genai-prices' names of providers that batcher calls otherwise."""


@dataclass(frozen=True, slots=True)
class ListPrice:
    """What a vendor asks, in dollars per million tokens.

    Attributes:
        input: input tokens.
        output: output tokens.
        cached_input: input read from the vendor's cache; None if no discount is known.
        cache_write: input written to it; None if it costs no more than input.
        batch_percent: what the Batch API charges of that; 100 if no discount is known.
        context: the model's context window, tokens; None if not known.
        long: prices of calls whose input is longer than ``long_from``, by the names above; empty if they do
            not differ. Where prices rise in several steps, the dearest count from the first on.
        long_from: the most input tokens at the usual prices.
        per_request: for the call itself, dollars.
        changes_on: the day on which an announced price takes effect, or None.
    """

    input: Decimal
    output: Decimal
    cached_input: Decimal | None
    cache_write: Decimal | None
    batch_percent: int
    context: int | None
    changes_on: date | None
    long: Mapping[str, Decimal] = field(default_factory=dict)
    long_from: int = 0
    per_request: Decimal = Decimal(0)


class PriceList:
    """One state of genai-prices' data.

    Attributes:
        source: what to name as the source of a price from here.
    """

    def __init__(self, snapshot: DataSnapshot, source: str) -> None:
        self._providers = {provider.id: provider for provider in snapshot.providers}
        self.source = source

    @classmethod
    def bundled(cls) -> PriceList:
        """The prices that the installed genai-prices carries; no network."""
        from genai_prices import data_snapshot

        return cls(data_snapshot.get_snapshot(), f"genai-prices {version('genai-prices')}")

    @classmethod
    def online(cls, url: str | None = None) -> PriceList:
        """Today's prices, fetched by genai-prices' own updater.

        Args:
            url: a mirror of its data file (JSON, format v2); None for its own address.

        Raises:
            DependencyError: if they cannot be fetched or read.
        """
        import httpx2
        from genai_prices import UpdatePrices

        updater = UpdatePrices(url=url) if url else UpdatePrices()
        try:
            snapshot = updater.fetch()
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise DependencyError(
                f"Cannot fetch prices from {updater.url}: {error}. Leave --online out to use the bundled ones"
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            raise DependencyError(
                f"What {updater.url} answered is not a price list of genai-prices (format v2)."
                " Leave --online out to use the bundled one"
            ) from error
        if snapshot is None:
            raise DependencyError(f"{updater.url} has no prices. Leave --online out to use the bundled ones")
        return cls(snapshot, f"genai-prices, {updater.url}")

    def find(self, provider: str, model_id: str, *, context: int | None = None) -> ListPrice | None:
        """What ``provider`` asks for ``model_id`` today, or None if that is not known.

        Args:
            provider: batcher's name of it.
            model_id: the vendor's id.
            context: most input tokens that will be sent: prices of longer calls than that are left out; None
                leaves none out.
        """
        vendor = self._providers.get(PROVIDER_IDS.get(provider, provider))
        model = vendor.find_model(model_id) if vendor is not None else None
        if model is None:
            return None
        now = datetime.now(UTC)
        listed, batch = model.get_prices(now), model.get_prices(now, {"processing": "batch"})
        prices, batch_prices = _usual(listed), _usual(batch)
        if prices["input"] is None or prices["output"] is None:
            return None
        return ListPrice(
            input=prices["input"],
            output=prices["output"],
            cached_input=prices["cached_input"],
            cache_write=prices["cache_write"],
            batch_percent=_batch_percent(prices, batch_prices),
            context=model.context_window,
            changes_on=_next_change(model.prices, now.date()),
            long=_long(listed, context),
            long_from=min(_steps(listed, context), default=0),
            per_request=(getattr(listed, "requests_kcount", None) or Decimal(0)) / 1000,
        )


_FIELDS: Final = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
}


def _usual(prices: Any) -> dict[str, Decimal | None]:
    """One price per field, of those that depend on the length of the input the one for short ones."""
    listed = {name: getattr(prices, vendor_name) for name, vendor_name in _FIELDS.items()}
    return {name: price.base if _is_stepped(price) else price for name, price in listed.items()}


def _long(prices: Any, context: int | None) -> dict[str, Decimal]:
    """The dearest price per field of inputs within ``context``; empty if length makes no difference."""
    if not _steps(prices, context):
        return {}
    dearest = _usual(prices)
    for name, vendor_name in _FIELDS.items():
        price = getattr(prices, vendor_name)
        if _is_stepped(price):
            within = [step.price for step in price.tiers if context is None or step.start < context]
            dearest[name] = max([price.base, *within])
    return {name: price for name, price in dearest.items() if price is not None}


def _steps(prices: Any, context: int | None) -> set[int]:
    """The input lengths within ``context`` past which any price rises."""
    stepped = [getattr(prices, vendor_name) for vendor_name in _FIELDS.values()]
    starts = {step.start for price in stepped if _is_stepped(price) for step in price.tiers}
    return {start for start in starts if context is None or start < context}


def _is_stepped(price: Any) -> bool:
    return price is not None and not isinstance(price, Decimal)


def _batch_percent(listed: dict[str, Decimal | None], batch: dict[str, Decimal | None]) -> int:
    """The smaller of the discounts on input and output, as what remains to pay, rounded up."""
    pairs = [(listed[name], batch[name]) for name in ("input", "output")]
    shares = [100 * after / before for before, after in pairs if before and after is not None]
    return min(100, math.ceil(max(shares, default=Decimal(100))))


def _next_change(prices: Any, today: date) -> date | None:
    conditional = prices if isinstance(prices, list) else []
    starts = [getattr(price.constraint, "start_date", None) for price in conditional]
    return min((start for start in starts if start is not None and start > today), default=None)
