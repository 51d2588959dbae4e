"""Money: Decimal dollars at the edges, integer nano-dollars everywhere else.

One nano-dollar (nusd) is 1e-9 USD. The cost of a call is the sum of its parts, rounded up once: so a ledger
kept this way is never below a bill computed from the same usage and prices.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation
from typing import Final

from batcher.domain import Prices, Usage
from batcher.errors import UsageError

NUSD_PER_USD: Final = 1_000_000_000
_MTOK: Final = 1_000_000
_MOST_USD: Final = 1_000_000_000
"""Nano-dollars of this much, and sums of several, fit a database's 64-bit integer."""

_FOUR_DIGITS: Final = Context(prec=4)


def usd_to_nusd(usd: Decimal | str | int) -> int:
    """Dollars to nano-dollars, rounding up.

    Raises:
        UsageError: if ``usd`` is not a finite amount from 0 to a thousand million.
    """
    try:
        amount = Decimal(usd)
    except InvalidOperation as error:
        raise UsageError(f"{usd!r} is not an amount of dollars. Write it like 5.00") from error
    if not amount.is_finite() or amount < 0:
        raise UsageError(f"{usd!r} is not an amount of dollars. Write it like 5.00")
    if amount > _MOST_USD:
        raise UsageError(f"{usd!r} is more dollars than can be booked. The most is {_MOST_USD:,}")
    return int((amount * NUSD_PER_USD).to_integral_value(rounding=ROUND_CEILING))


def nusd_to_usd(nusd: int) -> Decimal:
    """Nano-dollars to exact Decimal dollars."""
    return Decimal(nusd).scaleb(-9)


def format_usd(nusd: int) -> str:
    """Dollars for people: to the cent from a dollar up, below it to four significant digits.

    At least two decimals are shown, and no further zeros at the end.
    """
    usd = nusd_to_usd(nusd)
    if abs(nusd) < NUSD_PER_USD:
        usd = _FOUR_DIGITS.plus(usd).normalize()
    if abs(usd) >= 1 or usd.as_tuple().exponent >= -2:  # type: ignore[operator] # a finite number's is an int
        return f"${usd:,.2f}"
    return f"${usd:f}"


def cost_nusd(usage: Usage, prices: Prices) -> int:
    """What a call with this usage costs, in nano-dollars, rounded up once."""
    plain_input = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    total = (
        plain_input * prices.input_nusd
        + usage.cached_tokens * prices.cached_nusd
        + usage.cache_write_tokens * prices.cache_write_nusd
        + usage.output_tokens * prices.output_nusd
    )
    return -(-total // _MTOK)


def worst_case_nusd(input_tokens_bound: int, output_tokens_limit: int, prices: Prices) -> int:
    """The most that a call can cost: every input token at the dearest input price, the whole output limit."""
    dearest_input = max(prices.input_nusd, prices.cached_nusd, prices.cache_write_nusd)
    total = input_tokens_bound * dearest_input + output_tokens_limit * prices.output_nusd
    return -(-total // _MTOK)
