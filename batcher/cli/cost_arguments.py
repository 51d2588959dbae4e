"""Arguments of the commands that compute costs: volumes, prices, accuracies, mixes, as people write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Literal

import click

if TYPE_CHECKING:
    from batcher.catalog.models import Catalog
    from batcher.domain import Prices
    from batcher.planning.monthly import Volume

MOST: Final = 10**15
"""Requests or tokens beyond this are a slip."""
TOKENS: Final = click.IntRange(0, 1_000_000_000)
"""Tokens of a request."""

_VOLUME: Final = re.compile(r"(\d[\d_,]*(?:\.\d+)?)\s*([kKmM]?)\s*(?:(?:/|per|a)\s*(day|month|d|m|mo))?")
_FACTORS: Final = {"": 1, "k": 1_000, "m": 1_000_000}


def volume_per(usual: Literal["day", "month"]) -> Callable[[str], Volume]:
    """Reads ``4000/day``, ``1M/month`` and ``8,000``, which is that many per ``usual``."""

    def read(text: str) -> Volume:
        from batcher.planning.monthly import Volume

        found = _VOLUME.fullmatch(text.strip().replace("_", ""))
        if found is None:
            raise click.BadParameter(f"{text!r} is no volume. Write it like 4000/day or 1M/month")
        count = Fraction(found[1].replace(",", "")) * _FACTORS[found[2].lower()]
        if not 0 < count <= MOST:
            raise click.BadParameter(f"{text!r}: give more than 0 and at most {MOST:,} requests")
        unit = (found[3] or usual)[0]
        return Volume(count, "day" if unit == "d" else "month")

    return read


def read_dollars(text: str) -> int:
    """An amount of dollars, as nano-dollars."""
    from batcher.errors import UsageError
    from batcher.money import usd_to_nusd

    try:
        return usd_to_nusd(text.strip().removeprefix("$").replace(",", ""))
    except UsageError as error:
        raise click.BadParameter(str(error)) from error


@dataclass(frozen=True, slots=True)
class GivenPrice:
    """A price that the user gives by hand; ``name`` is what they call it."""

    name: str
    prices: Prices


def read_price(text: str) -> GivenPrice:
    """``NAME=IN/OUT``, dollars per million tokens."""
    from batcher.domain import Prices

    name, _, dollars = text.rpartition("=")
    given, _, taken = dollars.partition("/")
    if not name.strip() or not taken:
        raise click.BadParameter(f"{text!r} is no price. Write it like GPT-4o=2.50/10.00")
    paid_in, paid_out = read_dollars(given), read_dollars(taken)
    return GivenPrice(name.strip(), Prices(paid_in, paid_out, paid_in, paid_in))


def read_share(text: str) -> Fraction:
    """A share, ``0.85`` or ``85%``: above 0 and at most 1."""
    share = _share(text)
    if share is None or not 0 < share <= 1:
        raise click.BadParameter(f"{text!r} is no share. Write it like 0.85 or 85%")
    return share


def read_named_share(text: str) -> tuple[str, Fraction]:
    """``NAME=SHARE``."""
    name, _, share = text.rpartition("=")
    if not name.strip():
        raise click.BadParameter(f"{text!r}: write it like GPT-4o=0.92")
    return name.strip(), read_share(share)


def read_mix(text: str) -> tuple[tuple[str, Fraction], ...]:
    """``NAME:70,NAME:30``, percent of the requests: each name with its share, 0 to 1, 1 in all."""
    parts = []
    for part in text.split(","):
        name, _, percent = part.strip().rpartition(":")
        share = _share(f"{percent.strip().rstrip('%')}%")
        if not name.strip() or share is None or share <= 0:
            raise click.BadParameter(f"{part!r} is no part of a mix. Write it like mini:70,sonnet:30")
        parts.append((name.strip(), share))
    total = sum((share for _, share in parts), Fraction(0))
    if total != 1:
        raise click.BadParameter(f"The parts of {text!r} make {float(100 * total):g} %, not 100 %")
    return tuple(parts)


def find_prices(name: str, given: Sequence[GivenPrice], catalog: Catalog) -> str | GivenPrice:
    """What a name means: a price given by hand, else a model; a part of a name will do, if only one has it.

    Raises:
        UsageError: if it is neither, or several names hold it.
    """
    from batcher.errors import CatalogError, UsageError

    wanted = name.casefold()
    by_hand: dict[str, str | GivenPrice] = {price.name: price for price in given}
    everything = {**{known: known for known in catalog.models}, **by_hand}
    for known in (by_hand, everything):
        exact = [found for key, found in known.items() if key.casefold() == wanted]
        held = exact or [found for key, found in known.items() if wanted in key.casefold()]
        if len(held) == 1:
            return held[0]
    close = [key for key in everything if wanted in key.casefold()]
    if close:
        raise UsageError(f"There is no model {name!r}. Names that hold it: {', '.join(close[:6])}")
    try:
        return catalog.model(name).name
    except CatalogError as error:
        raise UsageError(str(error)) from error


def _share(text: str) -> Fraction | None:
    """The share of ``0.85`` or ``85%``; None if it is no number."""
    bare = text.strip()
    try:
        number = Decimal(bare.removesuffix("%").strip())
    except InvalidOperation:
        return None
    if not number.is_finite() or number.adjusted() > 6 or number.adjusted() < -12:
        return None
    return Fraction(number) / (100 if bare.endswith("%") else 1)
