"""Holds the catalogue's prices against genai-prices, and writes those that differ into batcher.toml."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from batcher.catalog.missing import price_values
from batcher.catalog.models import Catalog, Model
from batcher.catalog.vendor_prices import ListPrice, PriceList
from batcher.domain import Prices
from batcher.errors import ConfigurationError
from batcher.money import nusd_to_usd, usd_to_nusd

STALE_DAYS: Final = 90
"""Prices read longer ago than this are reported."""

_LONG_FIELDS: Final = ("long_from", "long_input", "long_output", "long_cached_input", "long_cache_write")
_OPTIONAL_FIELDS: Final = ("cached_input", "cache_write", "batch_percent", *_LONG_FIELDS, "per_request")


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one model on which the catalogue and genai-prices disagree.

    Attributes:
        model: the model's name.
        field: ``input``, ``output``, ``cached_input``, ``cache_write``, one of these after ``long_``,
            ``per_request`` (dollars) or ``batch_percent``.
        ours: dollars per million tokens (or percent) in the catalogue.
        theirs: the same in genai-prices.
    """

    model: str
    field: str
    ours: Decimal
    theirs: Decimal


@dataclass(frozen=True, slots=True)
class PriceReport:
    """What a check found.

    Attributes:
        source: the price list it was held against.
        compared: how many models were found there.
        differences: what differs.
        unknown: models that the price list does not have.
        stale: models whose price was read more than 90 days ago, or on no known day, with that day or "".
        announced: models whose price is announced to change, with the day.
        prices: the list prices of the models with differences.
    """

    source: str
    compared: int
    differences: tuple[Difference, ...]
    unknown: tuple[str, ...]
    stale: tuple[tuple[str, str], ...]
    announced: tuple[tuple[str, date], ...]
    prices: Mapping[str, ListPrice]


def check_prices(catalog: Catalog, prices: PriceList, today: date) -> PriceReport:
    """Hold every hosted model's price against ``prices``.

    Models on your own machines (providers without a key) have no list price and are left out. A cached,
    cache-write or batch rate, a fee or the price of a long call counts as different only where the
    catalogue's is the lower one: a discount that the catalogue does not assume can make a bill smaller than
    the ledger, never larger. Where an account pays another share of the list (``price_percent``), that share
    of it counts.
    """
    hosted = [model for model in catalog.models.values() if catalog.providers[model.provider].api_key_env]
    found = {model.name: prices.find(model.provider, model.id, context=model.context) for model in hosted}
    known = {name: price for name, price in found.items() if price is not None}
    differences = tuple(
        difference
        for model in hosted
        if model.name in known
        for difference in _differences(model, known[model.name])
    )
    different = {difference.model for difference in differences}
    return PriceReport(
        source=prices.source,
        compared=len(known),
        differences=differences,
        unknown=tuple(name for name, price in found.items() if price is None),
        stale=tuple((model.name, model.as_of) for model in hosted if _is_stale(model.as_of, today)),
        announced=tuple((name, price.changes_on) for name, price in known.items() if price.changes_on),
        prices={name: price for name, price in known.items() if name in different},
    )


def refreshed_tables(report: PriceReport) -> dict[str, dict[str, str]]:
    """The fields to set, as TOML values, by model: the whole price of every model that differs."""
    return {name: price_values(price, report.source) for name, price in report.prices.items()}


def write_prices(path: Path, tables: Mapping[str, Mapping[str, str]]) -> None:
    """Set the fields in ``[models.NAME]`` tables of a TOML file; its comments and all else stay.

    Raises:
        ConfigurationError: if the file cannot be read or written, or is not TOML.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document = tomlkit.parse(path.read_text(encoding="utf-8"))
        models: Any = document.setdefault("models", tomlkit.table(is_super_table=True))
        for name, fields in tables.items():
            table = models.setdefault(name, tomlkit.table())
            for field in _OPTIONAL_FIELDS:
                table.pop(field, None)
            for field, value in fields.items():
                table[field] = tomlkit.value(value)
        _replace(path, tomlkit.dumps(document))
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error
    except OSError as error:
        raise ConfigurationError(f"Cannot write {path}: {error.strerror}. See its permissions") from error


def _differences(model: Model, listed: ListPrice) -> list[Difference]:
    ours = model.prices
    share = Decimal(model.price_percent) / 100
    discounted = {
        "cached_input": (ours.cached_nusd, listed.cached_input or listed.input),
        "cache_write": (ours.cache_write_nusd, listed.cache_write or listed.input),
        "per_request": (ours.request_nusd, listed.per_request),
        **_long_pairs(ours, listed),
    }
    plain = {"input": (ours.input_nusd, listed.input), "output": (ours.output_nusd, listed.output)}
    found = [
        Difference(model.name, field, nusd_to_usd(nusd), share * usd)
        for field, (nusd, usd) in plain.items()
        if nusd != usd_to_nusd(share * usd)
    ]
    found += [
        Difference(model.name, field, nusd_to_usd(nusd), share * usd)
        for field, (nusd, usd) in discounted.items()
        if nusd < usd_to_nusd(share * usd)
    ]
    if ours.batch_percent < listed.batch_percent:
        percents = Decimal(ours.batch_percent), Decimal(listed.batch_percent)
        found.append(Difference(model.name, "batch_percent", *percents))
    return found


def _long_pairs(ours: Prices, listed: ListPrice) -> dict[str, tuple[int, Decimal]]:
    """What a call just past the vendor's threshold costs here, and what it costs there."""
    if not listed.long:
        return {}
    charged = ours.charged(listed.long_from + 1)
    long = listed.long
    return {
        "long_input": (charged.input_nusd, long["input"]),
        "long_output": (charged.output_nusd, long["output"]),
        "long_cached_input": (charged.cached_nusd, long.get("cached_input", long["input"])),
        "long_cache_write": (charged.cache_write_nusd, long.get("cache_write", long["input"])),
    }


def _is_stale(as_of: str, today: date) -> bool:
    return not as_of or (today - date.fromisoformat(as_of)).days > STALE_DAYS


def _replace(path: Path, text: str) -> None:
    """Write beside ``path`` and move into place, so that a crash leaves the old file or the new one."""
    target = path.resolve()
    mode = target.stat().st_mode & 0o777
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=target.parent, delete=False) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        Path(file.name).chmod(mode)
        Path(file.name).replace(target)
    except OSError:
        Path(file.name).unlink(missing_ok=True)
        raise
