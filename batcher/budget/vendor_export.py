"""Reads a vendor's usage or cost export (CSV): columns known by headers, every doubt told with its line.

Nothing is guessed: a number that can be read in two ways, a line that stands there twice or a day that is no
day stops the reading, before anything is compared.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from batcher.budget.export_cells import (
    CellError,
    is_in_other_currency,
    read_amount,
    read_count,
    read_day,
)
from batcher.errors import UsageError

MOST_BYTES: Final = 256 * 1024 * 1024
_DELIMITERS: Final = ",;\t|"
_TOTALS: Final = frozenset({"total", "totals", "grand total", "sum", "subtotal", "all"})

_ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "day": (
        "day", "date", "usage_date", "usage_date_utc", "date_utc", "start_time_iso", "starting_at",
        "start_time", "timestamp", "created_at", "window_start", "period_start",
    ),
    "model": (
        "model", "model_version", "model_name", "model_id", "snapshot_id", "base_model_name", "line_item",
        "product_name",
    ),
    "requests": (
        "requests", "num_model_requests", "n_requests", "num_requests", "request_count", "api_requests",
        "calls",
    ),
    "input_tokens": (
        "input_tokens", "prompt_tokens", "n_context_tokens_total", "context_tokens", "tokens_prompt",
    ),
    "uncached_tokens": (
        "usage_input_tokens_no_cache", "uncached_input_tokens", "input_uncached_tokens",
    ),
    "cached_tokens": (
        "cached_tokens", "input_cached_tokens", "cached_input_tokens", "usage_input_tokens_cache_read",
        "cache_read_input_tokens", "n_cached_context_tokens_total",
    ),
    "cache_write_tokens": (
        "cache_write_tokens", "input_cache_write_tokens", "usage_input_tokens_cache_write_5m",
        "usage_input_tokens_cache_write_1h", "cache_creation_input_tokens",
    ),
    "output_tokens": (
        "output_tokens", "completion_tokens", "n_generated_tokens_total", "usage_output_tokens",
        "generated_tokens", "tokens_completion",
    ),
    "cost_usd": ("cost_usd", "cost", "amount_value", "amount_usd", "total_cost", "cost_total", "spend_usd"),
    "currency": ("amount_currency", "currency"),
    "request_id": ("request_id", "generation_id"),
}  # fmt: skip
"""Headers by what they hold, those of OpenAI's, Anthropic's, OpenRouter's and Fireworks' exports among them:
each vendor's page as of 2026-11, and exports that users published."""

COLUMNS: Final = tuple(name for name in _ALIASES if name != "currency")
"""What ``--column`` may name."""

_SUMMED: Final = frozenset({"cache_write_tokens"})
"""Kinds of which an export may have several columns: Anthropic's are by how long the cache keeps them."""

_APART: Final = frozenset({"cache_read_input_tokens", "cache_creation_input_tokens"})
"""Anthropic's API names: beside them ``input_tokens`` leaves out what they hold."""

_VENDORS: Final[Mapping[str, str]] = {
    "num_model_requests": "openai",
    "amount_value": "openai",
    "n_context_tokens_total": "openai",
    "usage_input_tokens_no_cache": "anthropic",
    "list_price_usd": "anthropic",
}
"""Headers that only one vendor writes, and the name of its built-in provider."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an export that has figures; None where the export does not tell.

    Attributes:
        number: of the line in the file, from 1.
        day: in UTC, YYYY-MM-DD.
        model: as the vendor calls it; "" if the line names none.
        requests: calls.
        input_tokens: all of them, cached ones included.
        cached_tokens: the part of them read from the cache.
        cache_write_tokens: the part of them written to it.
        output_tokens: all of them.
        cost_usd: what the vendor charges.
        request_id: of the one call that the line is about, or "".
    """

    number: int
    day: str
    model: str
    requests: int | None
    input_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Export:
    """A whole export.

    Attributes:
        vendor: the built-in provider whose headers it has, or "".
        lines: with figures, in order.
        days: every day that a line is about, also one that says that there was nothing.
        columns: what it has, by what it holds: the header.
        cost_step_usd: the last place to which costs are written: 0.01 or less.
        left_out: lines that hold totals.
        ends_open: whether the last line has no line end, as one that is cut off.
    """

    vendor: str
    lines: tuple[Line, ...]
    days: frozenset[str]
    columns: Mapping[str, tuple[str, ...]]
    cost_step_usd: Decimal
    left_out: tuple[int, ...]
    ends_open: bool

    def has(self, *names: str) -> bool:
        """Whether it tells all of these."""
        return all(name in self.columns for name in names)

    @property
    def has_tokens(self) -> bool:
        """Whether it tells input and output tokens."""
        return self.has("output_tokens") and (self.has("input_tokens") or self.has("uncached_tokens"))

    @property
    def has_requests(self) -> bool:
        """Whether it counts calls, or has a line for each."""
        return self.has("requests") or self.has("request_id")


def read_export(path: Path, given: Mapping[str, str]) -> Export:
    """Read an export.

    Args:
        path: the file.
        given: headers of columns that the user named, by what they hold (one of ``COLUMNS``).

    Raises:
        UsageError: if the file cannot be read without guessing; it says the line and what to do.
    """
    text = _decoded(path)
    reader = csv.reader(io.StringIO(text), delimiter=_delimiter(text), strict=True)
    rows = _numbered(reader, path)
    header = next((row for _, row in rows), None)
    if header is None:
        raise UsageError(f"{path} is empty. Download the export again")
    return _Reading(path, header, given).read(rows, ends_open=not text.endswith(("\n", "\r")))


class _Reading:
    """The state of one pass over an export."""

    def __init__(self, path: Path, header: Sequence[str], given: Mapping[str, str]) -> None:
        self._path = path
        self._header = [cell.strip() for cell in header]
        self._columns = _choose(path, self._header, given)
        self._positions = {
            name: [self._header.index(title) for title in titles] for name, titles in self._columns.items()
        }
        titles = {title.lower() for held in self._columns.values() for title in held}
        self._cached_apart = "input_tokens" in self._columns and bool(titles & _APART)
        self._is_by_call = "request_id" in self._columns and "requests" not in self._columns
        self._days: set[str] = set()
        self._left_out: list[int] = []
        self._seen: dict[tuple[str, ...], int] = {}
        self._ids: dict[str, int] = {}
        self._places = 2

    def read(self, rows: Iterator[tuple[int, list[str]]], *, ends_open: bool) -> Export:
        lines = tuple(line for number, row in rows if (line := self._line(number, row)) is not None)
        if not self._days:
            raise UsageError(f"{self._path} has a header and nothing beneath it. Download the export again")
        lowered = [title.lower() for title in self._header]
        return Export(
            vendor=next((_VENDORS[title] for title in lowered if title in _VENDORS), ""),
            lines=lines,
            days=frozenset(self._days),
            columns=self._columns,
            cost_step_usd=Decimal(1).scaleb(-self._places),
            left_out=tuple(self._left_out),
            ends_open=ends_open,
        )

    def _line(self, number: int, row: list[str]) -> Line | None:
        row = [cell.strip() for cell in row]
        if len(row) != len(self._header):
            raise self._fault(
                number,
                f"has {len(row)} fields, the header {len(self._header)}. Is it cut off, or a quote missing?",
            )
        if self._is_total(row):
            self._left_out.append(number)
            return None
        try:
            line = self._parsed(number, row)
        except CellError as error:
            raise self._fault(number, str(error)) from None
        self._days.add(line.day)
        if not line.request_id and all(getattr(line, name) is None for name in _FIGURES):
            return None
        self._check_that_it_is_new(number, tuple(row), line)
        return line

    def _parsed(self, number: int, row: Sequence[str]) -> Line:
        counts = {name: self._count(name, row) for name in _COUNTS}
        written, cached = counts["cache_write_tokens"], counts["cached_tokens"]
        total, plain = counts["input_tokens"], counts["uncached_tokens"]
        if self._cached_apart:
            total, plain = None, total
        if total is None and plain is not None:
            total = plain + (cached or 0) + (written or 0)
        if total is not None and (cached or 0) + (written or 0) > total:
            raise CellError(f"has more cached tokens than input tokens ({total:,}). Look at the export")
        return Line(
            number=number,
            day=read_day(self._columns["day"][0], self._cell("day", row)),
            model=self._model(row),
            requests=1 if self._is_by_call else counts["requests"],
            input_tokens=total,
            cached_tokens=cached,
            cache_write_tokens=written,
            output_tokens=counts["output_tokens"],
            cost_usd=self._cost(row),
            request_id=self._cell("request_id", row),
        )

    def _cell(self, name: str, row: Sequence[str]) -> str:
        return row[self._positions[name][0]] if name in self._positions else ""

    def _model(self, row: Sequence[str]) -> str:
        name = self._cell("model", row)
        # OpenAI's costs have a line for each kind of token: "gpt-4o-mini-2024-07-18, cached input".
        return name.partition(",")[0].strip() if self._columns.get("model") == ("line_item",) else name

    def _count(self, name: str, row: Sequence[str]) -> int | None:
        titles, places = self._columns.get(name, ()), self._positions.get(name, [])
        found = [read_count(title, row[at]) for title, at in zip(titles, places, strict=True)]
        told = [value for value in found if value is not None]
        return sum(told) if told else None

    def _cost(self, row: Sequence[str]) -> Decimal | None:
        if "cost_usd" not in self._columns:
            return None
        cost = read_amount(self._columns["cost_usd"][0], self._cell("cost_usd", row))
        currency = self._cell("currency", row).upper()
        if cost is not None and currency not in {"", "USD", "$"}:
            raise CellError(f"is in {currency}. The ledger is in dollars: export in USD")
        if cost is not None:
            exponent = cost.normalize().as_tuple().exponent
            self._places = max(self._places, -exponent if isinstance(exponent, int) else 0)
        return cost

    def _is_total(self, row: Sequence[str]) -> bool:
        names = [row[0], self._cell("day", row), self._cell("model", row)]
        return any(name.lower().rstrip(":") in _TOTALS for name in names)

    def _check_that_it_is_new(self, number: int, row: tuple[str, ...], line: Line) -> None:
        first = self._seen.setdefault(row, number)
        if first != number:
            raise self._fault(
                number, f"is the same as line {first}. Take one of them out, or add them up if both are true"
            )
        if line.request_id and self._ids.setdefault(line.request_id, number) != number:
            first = self._ids[line.request_id]
            raise self._fault(number, f"is about the same request as line {first}. Take one of them out")

    def _fault(self, number: int, what: str) -> UsageError:
        return UsageError(f"{self._path}, line {number}: {what}")


_COUNTS: Final = (
    "requests",
    "input_tokens",
    "uncached_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
)
_FIGURES: Final = (
    "requests",
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "cost_usd",
)


def _choose(path: Path, header: Sequence[str], given: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Which columns hold what, by header."""
    lowered = {title.lower().replace(" ", "_"): title for title in header}
    chosen: dict[str, tuple[str, ...]] = {}
    for name, aliases in _ALIASES.items():
        found = [lowered[alias] for alias in aliases if alias in lowered]
        if name in given:
            found = [title for title in header if title.lower() == given[name].lower()]
            if not found:
                raise UsageError(f"{path} has no column {given[name]!r}. It has: {_listed(header)}")
        if found:
            chosen[name] = tuple(found) if name in _SUMMED else (found[0],)
    twice = [title for titles in chosen.values() for title in titles if header.count(title) > 1]
    if twice:
        raise UsageError(f"{path} has two columns {twice[0]!r}. Take one of them out")
    foreign = [title for title in chosen.get("cost_usd", header) if is_in_other_currency(title)]
    if foreign:
        raise UsageError(
            f"{path} has the column {foreign[0][:40]!r}, and the ledger is in dollars. Export in USD, or take"
            " the column out"
        )
    if "day" not in chosen:
        raise UsageError(
            f"{path} has no column of days that is known here. Its columns: {_listed(header)}."
            " Name the one that holds them, like: --column day='Usage date'"
        )
    if not chosen.keys() & {"requests", "request_id", "output_tokens", "cost_usd"}:
        raise UsageError(
            f"{path} has no column of requests, tokens or costs that is known here. Its columns:"
            f" {_listed(header)}. Name one that holds them, like: --column cost_usd='Amount in dollars'"
        )
    return chosen


def _listed(header: Sequence[str]) -> str:
    return ", ".join(title[:40] or "(no name)" for title in header[:30])


def _decoded(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}. Give the export's file") from error
    if len(raw) > MOST_BYTES:
        raise UsageError(f"{path} is larger than 256 MB. Export fewer days at a time, or by day and model")
    if raw[:4] in {b"PK\x03\x04", b"\x1f\x8b\x08\x00"} or raw[:2] == b"\x1f\x8b":
        raise UsageError(
            f"{path} is a workbook or an archive. Give the CSV file: unpack it, or save it as CSV"
        )
    encoding = "utf-16" if raw[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UsageError(f"{path}, line {line}: is not UTF-8. Save it as CSV in UTF-8") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise UsageError(f"{path}, line {line}: holds bytes that are no text. Download the export again")
    return text


def _delimiter(text: str) -> str:
    """The one of comma, semicolon, tab and bar that is most frequent outside quotes in the header line."""
    bare = "".join(text.lstrip().partition("\n")[0].split('"')[::2])
    return max(_DELIMITERS, key=bare.count)


def _numbered(reader: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows that hold anything, with the number of the line that each begins on."""
    begins = 1
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UsageError(
                f"{path}, line {begins}: cannot be read as CSV ({error}). Is a quote missing?"
            ) from error
        if any(cell.strip() for cell in row):
            yield begins, row
        begins = reader.line_num + 1
