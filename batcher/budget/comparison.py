"""The ledger and a vendor's export side by side: calls, tokens and cost for every model and UTC day.

Days are those on which calls were sent, in UTC, as vendors bill; the ledger's own days are those of its time
zone, and those on which calls were reserved.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Float, Integer, and_, case, cast, func, select

from batcher.budget.vendor_export import Export, Line
from batcher.budget.vendor_models import VendorModels
from batcher.domain import AttemptState
from batcher.money import NUSD_PER_USD
from batcher.store.tables import attempts

DAY_S: Final = 86_400
ALL_MODELS: Final = ""
"""Stands for all models where an export names none."""

_MTOK: Final = 1_000_000


class Verdict(StrEnum):
    """How a vendor's figures stand to the ledger's."""

    EQUAL = "equal"
    HIGHER = "vendor higher"
    IN_FLIGHT = "calls in flight"
    LOWER = "vendor lower"
    MISSING = "not in the export"
    ELSEWHERE = "called elsewhere"
    FOREIGN = "not batcher's"


@dataclass(frozen=True, slots=True)
class Calls:
    """What the ledger has of one model on one day, or on several.

    Attributes:
        answered: calls whose usage is known.
        unknown: calls whose outcome is not known, booked at their worst case.
        open: calls on their way.
        input_tokens: of the answered ones, cached ones included; so the next two.
        cached_tokens: read from the vendor's cache.
        output_tokens: written.
        settled_nusd: what calls cost whose cost is known.
        unknown_nusd: the worst case of the unknown ones.
        open_nusd: the worst case of those on their way, which is reserved and not yet spent.
        dearest_input_nusd: of the prices stored with the calls, per million tokens.
        dearest_output_nusd: of the prices stored with the calls, per million tokens.
        first_at: when the first was sent, Unix seconds.
        last_at: when the last was sent.
    """

    answered: int = 0
    unknown: int = 0
    open: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    settled_nusd: int = 0
    unknown_nusd: int = 0
    open_nusd: int = 0
    dearest_input_nusd: int = 0
    dearest_output_nusd: int = 0
    first_at: float = float("inf")
    last_at: float = float("-inf")

    @property
    def booked_nusd(self) -> int:
        """What the ledger holds as spent."""
        return self.settled_nusd + self.unknown_nusd

    def __add__(self, other: Calls) -> Calls:
        return Calls(
            answered=self.answered + other.answered,
            unknown=self.unknown + other.unknown,
            open=self.open + other.open,
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            settled_nusd=self.settled_nusd + other.settled_nusd,
            unknown_nusd=self.unknown_nusd + other.unknown_nusd,
            open_nusd=self.open_nusd + other.open_nusd,
            dearest_input_nusd=max(self.dearest_input_nusd, other.dearest_input_nusd),
            dearest_output_nusd=max(self.dearest_output_nusd, other.dearest_output_nusd),
            first_at=min(self.first_at, other.first_at),
            last_at=max(self.last_at, other.last_at),
        )


@dataclass(frozen=True, slots=True)
class Billed:
    """What an export has of one model on one day, or on several; 0 where it tells nothing.

    Attributes:
        lines: the export's lines, in order.
    """

    lines: tuple[Line, ...] = ()

    @property
    def requests(self) -> int:
        """Calls."""
        return sum(line.requests or 0 for line in self.lines)

    @property
    def input_tokens(self) -> int:
        """All input tokens."""
        return sum(line.input_tokens or 0 for line in self.lines)

    @property
    def cached_tokens(self) -> int:
        """The part of them read from the cache."""
        return sum(line.cached_tokens or 0 for line in self.lines)

    @property
    def output_tokens(self) -> int:
        """All output tokens."""
        return sum(line.output_tokens or 0 for line in self.lines)

    @property
    def cost_nusd(self) -> int:
        """The cost, nano-dollars, rounded up once."""
        return nusd(sum((line.cost_usd or Decimal(0) for line in self.lines), Decimal(0)))

    def __add__(self, other: Billed) -> Billed:
        return Billed(self.lines + other.lines)

    def rounding_nusd(self, export: Export) -> int:
        """How much its costs can be off for having been written to so many places."""
        lines = sum(line.cost_usd is not None for line in self.lines)
        return int(export.cost_step_usd * NUSD_PER_USD * lines / 2)


Books = dict[str, dict[int, Calls]]
"""By the vendor's id of the model, and by the day's number since 1970."""

Bills = dict[str, dict[int, Billed]]
"""The same, of an export."""


def nusd(usd: Decimal) -> int:
    """Nano-dollars, rounded up."""
    return int((usd * NUSD_PER_USD).to_integral_value(rounding=ROUND_CEILING))


def number_of(day: str) -> int:
    """The number of a day since 1970."""
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) // DAY_S


def day_of(number: int) -> str:
    """YYYY-MM-DD."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=number)).date().isoformat()


def read_calls(connection: Connection, provider: str) -> dict[str, dict[int, Calls]]:
    """All that the ledger has of a provider, by model (as the ledger names it) and the UTC day of sending."""
    answered = and_(
        attempts.c.state == AttemptState.SETTLED.value,
        attempts.c.input_tokens + attempts.c.output_tokens > 0,
    )

    def total(condition: Any, amount: Any = 1) -> Any:
        return func.coalesce(func.sum(case((condition, amount), else_=0)), 0)

    def in_state(state: AttemptState) -> Any:
        return attempts.c.state == state.value

    number = _day_number(connection).label("number")
    query = (
        select(
            attempts.c.model,
            number,
            total(answered),
            total(in_state(AttemptState.UNKNOWN)),
            total(in_state(AttemptState.SENDING)),
            total(answered, attempts.c.input_tokens),
            total(answered, attempts.c.cached_tokens),
            total(answered, attempts.c.output_tokens),
            total(in_state(AttemptState.SETTLED), attempts.c.cost_nusd),
            total(in_state(AttemptState.UNKNOWN), attempts.c.cost_nusd),
            total(in_state(AttemptState.SENDING), attempts.c.reserved_nusd),
            func.max(attempts.c.price_input_nusd),
            func.max(attempts.c.price_output_nusd),
            func.min(attempts.c.sent_at),
            func.max(attempts.c.sent_at),
        )
        .where(attempts.c.provider == provider)
        .group_by(attempts.c.model, number)
    )
    found: dict[str, dict[int, Calls]] = defaultdict(dict)
    for row in connection.execute(query):
        model, day, *figures = tuple(row)
        found[model][int(day)] = Calls(*map(int, figures[:-2]), *figures[-2:])
    return dict(found)


def keep_books(calls: Mapping[str, Mapping[int, Calls]], models: VendorModels, *, by_model: bool) -> Books:
    """The ledger's calls under the vendor's ids, or all together where the export names no models."""
    books: Books = defaultdict(dict)
    for name, by_day in calls.items():
        key = models.id_of(name) if by_model else ALL_MODELS
        for day, found in by_day.items():
            books[key][day] = books[key].get(day, Calls()) + found
    return dict(books)


def keep_bills(export: Export, models: VendorModels, *, by_model: bool) -> Bills:
    """The export's lines under the vendor's ids; models not known here under the export's own names."""
    bills: dict[str, dict[int, list[Line]]] = defaultdict(lambda: defaultdict(list))
    for line in export.lines:
        key = (models.find(line.model) or line.model) if by_model else ALL_MODELS
        bills[key][number_of(line.day)].append(line)
    return {
        key: {day: Billed(tuple(lines)) for day, lines in by_day.items()} for key, by_day in bills.items()
    }


def names_models(export: Export) -> bool:
    """Whether every line names its model; else the days are compared, all models together."""
    return all(line.model for line in export.lines)


def judge(calls: Calls, billed: Billed | None, export: Export) -> Verdict:
    """How the vendor's figures stand to what the ledger holds as spent: by cost, else by tokens and calls.

    The vendor is higher only by what the calls on their way cannot explain.
    """
    if billed is None:
        return Verdict.MISSING
    if export.has("cost_usd"):
        off = billed.cost_nusd - calls.booked_nusd
        rounding = billed.rounding_nusd(export)
        if off > rounding:
            return Verdict.HIGHER if off > rounding + calls.open_nusd else Verdict.IN_FLIGHT
        # Every call was rounded up to a nano-dollar by itself.
        return Verdict.LOWER if -off > rounding + calls.answered else Verdict.EQUAL
    extra = _extra(calls, billed, export)
    if not any(extra) and not calls.unknown:
        return Verdict.EQUAL
    if max(extra) > 0 and _passes_the_unsettled(calls, billed, export):
        return Verdict.HIGHER
    return Verdict.IN_FLIGHT if max(extra) > 0 and calls.open else Verdict.LOWER


def _extra(calls: Calls, billed: Billed, export: Export) -> tuple[int, ...]:
    """What the vendor counts beyond the answered calls: calls, tokens in and out, as far as it tells."""
    requests = (billed.requests - calls.answered,) if export.has_requests else ()
    tokens = (billed.input_tokens - calls.input_tokens, billed.output_tokens - calls.output_tokens)
    return requests + (tokens if export.has_tokens else ()) or (0,)


def _passes_the_unsettled(calls: Calls, billed: Billed, export: Export) -> bool:
    """Whether what the vendor has beyond the answered calls is more than all others can have been."""
    if export.has_requests and billed.requests > calls.answered + calls.unknown + calls.open:
        return True
    if not export.has_tokens:
        return False
    inputs = max(0, billed.input_tokens - calls.input_tokens)
    outputs = max(0, billed.output_tokens - calls.output_tokens)
    most = inputs * calls.dearest_input_nusd + outputs * calls.dearest_output_nusd
    return most > (calls.unknown_nusd + calls.open_nusd) * _MTOK


def _day_number(connection: Connection) -> Any:
    """Whole days since 1970 of ``sent_at``: PostgreSQL's cast would round, SQLite's cuts off."""
    days = attempts.c.sent_at / float(DAY_S)
    return (
        cast(days, Integer)
        if connection.dialect.name == "sqlite"
        else cast(func.floor(days, type_=Float), Integer)
    )
