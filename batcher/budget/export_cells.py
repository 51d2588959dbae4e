"""Single cells of a vendor's export: days, counts and amounts, read in one way or refused."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Final

_NOTHING: Final = frozenset({"", "-", "n/a", "na", "null", "none", "not_available"})
_GROUPED: Final = re.compile(r"\d{1,3}(,\d{3})+(\.\d+)?")
_COSTS: Final = re.compile(r"(?<![a-z])(costs?|amount|price|spend|total|charges?)(?![a-z])")
_OTHER_CURRENCY: Final = re.compile(
    r"(?<![a-z])(eur|euros?|gbp|jpy|cny|chf|cad|aud|nzd|inr|brl|krw|sek|nok|dkk|pln|czk|huf|sgd|hkd|twd|mxn|zar"
    r"|ils|aed)(?![a-z])|[€£¥₹]"
)
_MOST_COUNT: Final = 10**15
_MOST_USD: Final = Decimal(10**9)
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
_SHOWN: Final = 40


class CellError(Exception):
    """A cell that cannot be read without guessing; the message goes on after "line N:"."""


def read_count(title: str, cell: str) -> int | None:
    """A count of calls or tokens; None if the cell holds nothing.

    ``1,234,567`` and ``3.0`` are read, the latter as OpenAI's exports write 3.
    """
    number = _number(title, cell, "a count", "1234")
    if number is None:
        return None
    if number != number.to_integral_value():
        raise CellError(
            f"{title} {_shown(cell)} is no whole number. If the point parts thousands, take it out"
        )
    if number >= _MOST_COUNT:
        raise CellError(f"{title} {_shown(cell)} is too large to be a count. Look at the export")
    return int(number)


def read_amount(title: str, cell: str) -> Decimal | None:
    """Dollars; None if the cell holds nothing. A sign or code of dollars is allowed."""
    bare = re.sub(r"^(US\$|USD|\$)\s*|\s*(USD|\$)$", "", cell.strip(), flags=re.IGNORECASE)
    if re.fullmatch(r"-?\d{1,3},\d{3}", bare):
        raise CellError(f"{title} {_shown(cell)} can be read in two ways. Write 1234 or 1.234")
    number = _number(title, bare, "an amount of dollars", "0.0123")
    if number is not None and number > _MOST_USD:
        raise CellError(f"{title} {_shown(cell)} is too large to be a cost. Look at the export")
    return number


def read_day(title: str, cell: str) -> str:
    """The UTC day, YYYY-MM-DD, of a date, a time (UTC unless it names its zone) or Unix seconds."""
    if re.fullmatch(r"\d{10}(\.\d+)?|\d{13}", cell):
        seconds = float(cell) / (1000 if len(cell) == 13 else 1)
        return datetime.fromtimestamp(seconds, UTC).date().isoformat()
    text = re.sub(r"\s*(UTC|GMT)$", "+00:00", cell)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CellError(f"{title} {_shown(cell)} is no day. Write it like 2026-11-20") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if not _EARLIEST <= moment < _LATEST:
        raise CellError(f"{title} {_shown(cell)} lies too far away. Write it like 2026-11-20")
    return moment.date().isoformat()


def is_in_other_currency(title: str) -> bool:
    """Whether a header names costs in another currency than dollars: ``cost_eur``, ``Amount (€)``."""
    lowered = title.lower()
    return bool(_COSTS.search(lowered) and _OTHER_CURRENCY.search(lowered))


def _number(title: str, cell: str, what: str, example: str) -> Decimal | None:
    if cell.lower() in _NOTHING:
        return None
    plain = cell.replace(",", "") if _GROUPED.fullmatch(cell) else cell
    try:
        number = Decimal(plain) if re.fullmatch(r"[-+]?[0-9.]+([eE][-+]?\d{1,3})?", plain) else None
    except InvalidOperation:
        number = None
    if number is None:
        raise CellError(f"{title} {_shown(cell)} is not {what}. Write it like {example}")
    if number < 0:
        raise CellError(
            f"{title} {_shown(cell)} is negative. Take credits and refunds out: they are no usage"
        )
    return number


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= _SHOWN else cell[:_SHOWN] + "...")
