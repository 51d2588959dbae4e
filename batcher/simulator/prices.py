"""What the simulated vendors charge: its own table and its own arithmetic, apart from batcher's.

Prices are kept as whole pico-dollars per token: $1 per million tokens is 1,000,000 of them, so six decimals
of a price are exact. A request's parts are added first and rounded up to a nano-dollar once.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from importlib import resources
from pathlib import Path
from typing import Any, Final

from batcher.errors import ConfigurationError

_PICO_PER_NANO: Final = 1_000
_PICO_PER_TOKEN: Final = 1_000_000
"""Pico-dollars a token at $1 per million tokens."""

_FIELDS: Final = frozenset({"input", "output", "cached", "cache_write", "long", "request"})


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a request used.

    Attributes:
        input: all input tokens, cached and written ones included.
        output: all output tokens.
        cached: input read from the vendor's cache.
        cache_write: input written to it for five minutes, or for the vendor's only term.
        cache_write_1h: input written to it for an hour.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0


@dataclass(frozen=True, slots=True)
class Rate:
    """One model's prices, in pico-dollars per token."""

    input: int
    output: int
    cached: int
    cache_write: int

    def cost_nusd(self, used: Tokens) -> int:
        """Nano-dollars for a request, rounded up."""
        plain = used.input - used.cached - used.cache_write - used.cache_write_1h
        total = (
            plain * self.input
            + used.cached * self.cached
            + used.cache_write * self.cache_write
            + used.cache_write_1h * 2 * self.input
            + used.output * self.output
        )
        return -(-total // _PICO_PER_NANO)


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """A model's prices, those of long requests if they differ, and what a request costs by itself."""

    usual: Rate
    long: Rate | None = None
    long_from: int = 0
    request_nusd: int = 0

    def cost_nusd(self, used: Tokens) -> int:
        """Nano-dollars for a request, rounded up; a long one is charged wholly at the long prices."""
        rate = self.long if self.long is not None and used.input > self.long_from else self.usual
        return rate.cost_nusd(used) + self.request_nusd


class PriceFile:
    """Prices by vendor and model id."""

    def __init__(self, prices: Mapping[str, Mapping[str, ModelPrice]]) -> None:
        self._prices = prices

    @classmethod
    def load(cls, path: Path | None = None) -> PriceFile:
        """Read the built-in file, or the built-in one with ``path`` laid over it.

        Raises:
            ConfigurationError: if ``path`` cannot be read or a price in it is none.
        """
        table = _parsed(resources.files("batcher.simulator").joinpath("prices.toml").read_text("utf-8"), None)
        if path is not None:
            try:
                text = path.read_text("utf-8")
            except OSError as error:
                raise ConfigurationError(f"Cannot read the price file {path}: {error.strerror}") from error
            for vendor, models in _parsed(text, path).items():
                table.setdefault(vendor, {}).update(models)
        return cls(table)

    def find(self, vendor: str, model: str) -> ModelPrice | None:
        """A model's prices, or None if the vendor is not known to offer it."""
        return self._prices.get(vendor, {}).get(model)

    def vendor_of(self, model: str) -> str | None:
        """The vendor that offers a model, the first in the file's order; None if none does."""
        return next((vendor for vendor, models in self._prices.items() if model in models), None)

    def models(self, vendor: str) -> tuple[str, ...]:
        """The models that a vendor offers."""
        return tuple(self._prices.get(vendor, ()))


def _parsed(text: str, path: Path | None) -> dict[str, dict[str, ModelPrice]]:
    where = path or "prices.toml"
    try:
        table = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"The price file {where} is no TOML: {error}") from error
    prices: dict[str, dict[str, ModelPrice]] = {}
    for vendor, models in table.items():
        if not isinstance(models, dict):
            raise ConfigurationError(f"The price file {where} needs a table [{vendor}] of models")
        prices[vendor] = {
            model: _model_price(fields, f'{vendor}."{model}" in {where}') for model, fields in models.items()
        }
    return prices


def _model_price(fields: Any, where: str) -> ModelPrice:
    if not isinstance(fields, dict) or fields.keys() - _FIELDS:
        raise ConfigurationError(f"The prices of {where} may have these fields: {', '.join(sorted(_FIELDS))}")
    # A dollar is a million pico-dollars a token at a million tokens, and a thousand million nano-dollars.
    request = _pico(fields.get("request", 0), where) * _PICO_PER_NANO
    long = fields.get("long")
    if long is None:
        return ModelPrice(_rate(fields, where), request_nusd=request)
    return ModelPrice(_rate(fields, where), _rate(long, where), int(long.get("from", 0)), request)


def _rate(fields: Mapping[str, Any], where: str) -> Rate:
    plain = _pico(fields.get("input"), where)
    return Rate(
        input=plain,
        output=_pico(fields.get("output"), where),
        cached=_pico(fields["cached"], where) if "cached" in fields else plain,
        cache_write=_pico(fields["cache_write"], where) if "cache_write" in fields else plain,
    )


def _pico(dollars: Any, where: str) -> int:
    try:
        pico = Decimal(str(dollars)) * _PICO_PER_TOKEN
    except InvalidOperation:
        pico = Decimal(-1)
    if not pico.is_finite() or pico < 0 or pico != pico.to_integral_value():
        raise ConfigurationError(
            f"{dollars!r} of {where} is no price: write dollars per million tokens, with at most six decimals"
        )
    return int(pico)
