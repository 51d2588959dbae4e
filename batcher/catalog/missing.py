"""The lines to add to batcher.toml for a model that is unknown or unpriced: such a model is refused."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batcher.catalog.models import ProviderInfo
    from batcher.catalog.vendor_prices import ListPrice


def lines_for_unpriced(name: str, table: Mapping[str, Any], provider: ProviderInfo) -> str:
    """What to say about a model that is described in batcher.toml but has no price."""
    if provider.api_key_env is None:
        lines = ["input = 0.0  # your own machine", "output = 0.0"]
        note = ""
    else:
        from batcher.catalog.vendor_prices import PriceList

        prices = PriceList.bundled()
        price = prices.find(provider.name, str(table["id"]), context=table.get("context"))
        lines = price_lines(price, prices.source) if price else _blank_prices()
        note = "" if price else f" ({prices.source} does not know it either)"
    what = f"The model {name!r} has no price{note}. Add to {table_header(name)} in batcher.toml:\n"
    return what + _indent(lines)


def lines_for_unknown(name: str, providers: Mapping[str, ProviderInfo]) -> str | None:
    """How to add a model that the catalogue does not have, where genai-prices knows its price; else None.

    ``name`` is a vendor's id, or one with ``@`` and the provider.
    """
    from batcher.catalog.vendor_prices import PriceList

    prices = PriceList.bundled()
    wanted, _, at = name.rpartition("@") if name.rpartition("@")[2] in providers else (name, "", "")
    for provider in [at] if at else providers:
        price = prices.find(provider, wanted)
        if price is not None:
            lines = [f'provider = "{provider}"', f'id = "{wanted}"', *price_lines(price, prices.source)]
            lines.append(f"context = {price.context}" if price.context else "context = ...  # tokens")
            return "To add it, put this into batcher.toml:\n" + _indent([table_header(name), *lines])
    return None


def blank_lines(name: str, providers: Mapping[str, ProviderInfo]) -> str:
    """The table to fill in for a model that nobody knows."""
    lines = [f'provider = "..."  # {", ".join(providers)}', f'id = "{name}"', *_blank_prices()]
    lines.append("context = ...  # tokens")
    return "To add it, put this into batcher.toml, filled in:\n" + _indent([table_header(name), *lines])


def price_lines(price: ListPrice, source: str) -> list[str]:
    """The TOML lines of a price, with its source and today's date."""
    return [f"{name} = {value}" for name, value in price_values(price, source).items()]


def price_values(price: ListPrice, source: str) -> dict[str, str]:
    """The fields of a price as TOML values; cache prices that are not known are left out."""
    fields: dict[str, Decimal | None] = {
        "input": price.input,
        "output": price.output,
        "cached_input": price.cached_input,
        "cache_write": price.cache_write,
    }
    values = {name: toml_number(value) for name, value in fields.items() if value is not None}
    if price.long:
        values["long_from"] = str(price.long_from)
        values |= {f"long_{name}": toml_number(value) for name, value in price.long.items()}
    if price.per_request:
        values["per_request"] = toml_number(price.per_request)
    if price.batch_percent < 100:
        values["batch_percent"] = str(price.batch_percent)
    return {**values, "source": f'"{source}"', "as_of": f'"{datetime.now(UTC).date().isoformat()}"'}


def toml_number(value: Decimal) -> str:
    """A Decimal as a TOML float: ``0.15``, ``3.0``."""
    text = format(value.normalize(), "f")
    return text if "." in text else f"{text}.0"


def table_header(name: str) -> str:
    """``[models.NAME]``, quoted where TOML needs it."""
    plain = name.isascii() and all(char.isalnum() or char in "-_" for char in name)
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f"[models.{name}]" if plain else f'[models."{quoted}"]'


def _blank_prices() -> list[str]:
    dollars = ["input = ...  # dollars per million tokens", "output = ..."]
    return [*dollars, 'source = "..."', 'as_of = "YYYY-MM-DD"']


def _indent(lines: list[str]) -> str:
    return "\n".join("    " + line for line in lines)
