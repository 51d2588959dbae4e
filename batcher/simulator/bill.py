"""The bill: every request that arrived, what it used, and what it costs. Memory stays flat.

The newest requests are kept in memory, older ones move to a temporary SQLite file; sums are kept as they
grow. With a bill file, every request is appended to it as one JSON line in one write before its answer
leaves, so that no answer is without its line, however this process ends.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter, OrderedDict
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson

from batcher.errors import UsageError

_KEPT: Final = 20_000
"""Requests in memory: about 15 MB."""

_MOVED: Final = 200
"""How many move out at once: under a millisecond."""


@dataclass(slots=True)
class BillLine:
    """One request that the vendor received.

    Attributes:
        number: in order of arrival, from 1.
        arrived_at: Unix seconds.
        path: where.
        model: the id asked for.
        body_hash: of the request's body.
        request_id: the vendor's id of the call, also in its headers.
        client_request_id: the client's own id, if it sent one.
        status: HTTP status; 0 until it is answered.
        input_tokens: all of them, cached ones included.
        output_tokens: all of them.
        billed: whether the vendor charges for it: true for everything it generated, whether or not the answer
            reached the client.
        sent: whether the whole answer was handed to a live connection.
        vendor: whose API.
        account: hash of the key.
        cached_tokens: input read from the vendor's cache.
        cache_write_tokens: input written to it.
        cost_nusd: nano-dollars, 0 if not billed; None if the model has no price.
        fault: what was done to it, or "".
        answered_at: Unix seconds; 0 until then.
    """

    number: int
    arrived_at: float
    path: str
    model: str
    body_hash: str
    request_id: str
    client_request_id: str = ""
    status: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    billed: bool = False
    sent: bool = False
    vendor: str = ""
    account: str = ""
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cost_nusd: int | None = 0
    fault: str = ""
    answered_at: float = 0.0


_FILED: Final = tuple(one.name for one in fields(BillLine) if one.name != "sent")
"""What a bill file tells: everything but what is not known yet when it is written."""


def _last_number(path: Path) -> int:
    """The highest number in a bill file; 0 if there is none."""
    with path.open("rb") as lines:
        return max((int(orjson.loads(line)["number"]) for line in lines), default=0)


class Bill:
    """Every request received, in order of arrival.

    Args:
        path: a file to append every answered request to, or None. Numbers go on after those in it, so that a
            vendor that is started again gives no request id twice.
        kept: how many requests stay in memory.

    Raises:
        UsageError: if the file cannot be opened.
    """

    def __init__(self, path: Path | None = None, *, kept: int = _KEPT) -> None:
        self._lines: OrderedDict[int, BillLine] = OrderedDict()
        self._open: set[int] = set()
        self._kept = kept
        self._last_number = 0
        self._old: sqlite3.Connection | None = None
        self._file: int | None = None
        if path is not None:
            try:
                self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
                self._last_number = _last_number(path)
            except OSError as error:
                raise UsageError(f"Cannot write the bill to {path}: {error.strerror}") from error
            except (orjson.JSONDecodeError, TypeError, KeyError) as error:
                raise UsageError(f"{path} is no bill: give another file, or move it away") from error
        self._start()

    def _start(self) -> None:
        self.arrived = 0
        self.finished = 0
        self._sums: Counter[str] = Counter()
        self._statuses: Counter[int] = Counter()
        self._models: dict[tuple[str, str], Counter[str]] = {}

    def next_number(self) -> int:
        """The number of the next request; never given twice, also not after :meth:`clear`."""
        self._last_number += 1
        return self._last_number

    def open(self, line: BillLine) -> None:
        """Add a request that has just arrived."""
        self.arrived += 1
        self._lines[line.number] = line
        self._open.add(line.number)
        if len(self._lines) > self._kept + _MOVED:
            self._move_out()

    def answered(self, line: BillLine) -> None:
        """Count a request whose answer is decided, and write it to the file: it is charged from now on."""
        if self._file is not None:
            row = {name: getattr(line, name) for name in _FILED}
            os.write(self._file, orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        if line.number not in self._open:
            return
        self._statuses[line.status] += 1
        if not line.billed:
            return
        sums = {
            "billed": 1,
            "input_tokens": line.input_tokens,
            "output_tokens": line.output_tokens,
            "cached_tokens": line.cached_tokens,
            "cache_write_tokens": line.cache_write_tokens,
            "cost_nusd": line.cost_nusd or 0,
            "unpriced": int(line.cost_nusd is None),
        }
        self._sums.update(sums)
        self._models.setdefault((line.vendor, line.model), Counter()).update(sums)

    def close(self, line: BillLine) -> None:
        """Count a request as over."""
        if line.number in self._open:
            self._open.discard(line.number)
            self.finished += 1
            self._sums["sent"] += line.sent

    def totals(self) -> dict[str, Any]:
        """Counts and sums over all requests; tokens and cost of the billed ones only."""
        names = ("billed", "sent", "input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens")
        return {
            "calls": self.arrived,
            "finished": self.finished,
            "ok": self._statuses[200],
            **{name: self._sums[name] for name in (*names, "cost_nusd", "unpriced")},
            "statuses": {str(status): count for status, count in sorted(self._statuses.items())},
            "models": [
                {"vendor": vendor, "model": model, **sums} for (vendor, model), sums in self._models.items()
            ],
        }

    def lines(self, after: int = 0, limit: int = 10_000) -> list[BillLine]:
        """Requests in order of arrival.

        Args:
            after: only those with a higher number.
            limit: at most so many.
        """
        old: list[BillLine] = []
        if self._old is not None:
            found = self._old.execute(
                "SELECT line FROM lines WHERE number > ? ORDER BY number LIMIT ?", (after, limit)
            )
            old = [BillLine(**orjson.loads(line)) for (line,) in found]
        newer = (line for number, line in self._lines.items() if number > after)
        return sorted([*old, *islice(newer, limit)], key=lambda line: line.number)[:limit]

    def clear(self) -> None:
        """Forget everything served so far; a bill file keeps it."""
        self._lines.clear()
        self._open.clear()
        if self._old is not None:
            self._old.execute("DELETE FROM lines")
        self._start()

    def shut(self) -> None:
        """Close the files."""
        if self._old is not None:
            self._old.close()
            self._old = None
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _move_out(self) -> None:
        """Move the oldest requests that are over to the temporary file."""
        if self._old is None:
            self._old = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._old.execute("PRAGMA synchronous=OFF")
            self._old.execute("CREATE TABLE lines (number INTEGER PRIMARY KEY, line BLOB)")
        over = (number for number in self._lines if number not in self._open)
        moved = list(islice(over, _MOVED))
        self._old.execute("BEGIN")
        self._old.executemany(
            "INSERT INTO lines VALUES (?, ?)",
            [(number, orjson.dumps(self._lines.pop(number))) for number in moved],
        )
        self._old.execute("COMMIT")
