"""Money: Decimal dollars at the edges, integer nano-dollars everywhere else.

One nano-dollar (nusd) is 1e-9 USD. The cost of a call is the sum of its parts, rounded up once: so a ledger
kept this way is never below a bill computed from the same usage and prices.
"""

from __future__ import annotations

import unicodedata
from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation
from typing import Final, Literal

from batcher.domain import Prices, Usage
from batcher.errors import UsageError

NUSD_PER_USD: Final = 1_000_000_000
_MTOK: Final = 1_000_000
_MOST_USD: Final = 1_000_000_000
"""Nano-dollars of this much, and sums of several, fit a database's 64-bit integer."""

_FORMS: Final[tuple[Literal["NFC"], Literal["NFKC"]]] = ("NFC", "NFKC")
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
    """What a call with this usage costs, in nano-dollars, rounded up once.

    A call past the length at which prices rise is charged wholly at the dearer ones.
    """
    charged = prices.charged(usage.input_tokens)
    plain_input = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    total = (
        plain_input * charged.input_nusd
        + usage.cached_tokens * charged.cached_nusd
        + usage.cache_write_tokens * charged.cache_write_nusd
        + usage.output_tokens * charged.output_nusd
    )
    return -(-total // _MTOK) + charged.request_nusd


def worst_case_nusd(
    input_tokens_bound: int,
    output_tokens_limit: int,
    prices: Prices,
    *,
    calls: int = 1,
    longest_input: int | None = None,
) -> int:
    """The most that calls can cost: every input token at the dearest input price, the whole output limit.

    Args:
        input_tokens_bound: the most input tokens of all calls together.
        output_tokens_limit: the most output tokens of all calls together.
        prices: the usual prices; if an input can pass ``long_from``, the dearer ones count too.
        calls: how many calls.
        longest_input: the most input tokens of any one call; None is all of them in one.
    """
    longest = input_tokens_bound if longest_input is None else longest_input
    possible = (prices,) if longest <= prices.long_from or prices.long is None else (prices, prices.long)
    dearest_input = max(max(some.input_nusd, some.cached_nusd, some.cache_write_nusd) for some in possible)
    dearest_output = max(some.output_nusd for some in possible)
    total = input_tokens_bound * dearest_input + output_tokens_limit * dearest_output
    return -(-total // _MTOK) + calls * max(some.request_nusd for some in possible)


def most_tokens(text: str) -> int:
    """The most tokens that a text can be billed as: its UTF-8 bytes, however a vendor normalises it first.

    A tokenizer over bytes, or with bytes to fall back on, never makes more tokens than it sees bytes. What it
    sees may have been normalised: Qwen's published tokenizers apply NFC, the one that Anthropic published
    (for Claude 2) NFKC, sentencepiece by default a form of NFKC; others see the text as it is. So the longest
    of the three counts: the ligature U+FDFA is 3 bytes, and 33 after NFKC.
    """
    if text.isascii():
        return len(text)
    most = len(text.encode())
    # What is in NFKC is in NFC too; most texts are, and the test for it is quick.
    if not unicodedata.is_normalized("NFKC", text):
        for form in _FORMS:
            most = max(most, len(unicodedata.normalize(form, text).encode()))
    return most
