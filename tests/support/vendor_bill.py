"""The loopback vendor's bill (what it served and charges for) and the faults that it is told to make."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class BillLine:
    """One request that the vendor received.

    ``billed`` says whether the vendor charges for it: true for everything it generated, whether or not
    the answer reached the client. ``sent`` says whether the whole answer was handed to a live connection.
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


@dataclass(slots=True)
class Fault:
    """Something to do to a call instead of serving it well.

    Attributes:
        status: HTTP status; 200 with no ``body`` serves the usual answer (delayed, cut or reset as told).
        headers: response headers to add.
        body: JSON value, or a str or bytes to send as it is; None: what that vendor says with that status.
        delay_s: seconds to wait before answering.
        connection: ``reset_before`` (no byte of an answer), ``reset_after`` (half of it), ``hang``.
        finish: ``length``, ``refused`` or ``filtered``: the answer ends that way, in the vendor's own words.
        text: the answer's text instead of the generated one.
        times: how many calls it hits (None: all).
        every: it hits every k-th of the calls that match.
        skip: matching calls that go free first.
        model: only calls to this model.
        contains: only calls whose body contains this text.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    delay_s: float = 0.0
    connection: str = ""
    finish: str = ""
    text: str | None = None
    times: int | None = 1
    every: int = 1
    skip: int = 0
    model: str = ""
    contains: str = ""
    _seen: int = 0

    def hits(self, model: str, body: bytes) -> bool:
        """Whether this call is one to spoil (counts the call if it matches)."""
        if self.times == 0 or (self.model and self.model != model):
            return False
        if self.contains and self.contains.encode() not in body:
            return False
        self._seen += 1
        if self._seen <= self.skip or (self._seen - self.skip) % self.every:
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Bill:
    """Every request served, in order of arrival."""

    def __init__(self) -> None:
        self.lines: list[BillLine] = []
        self._waiters: list[tuple[Callable[[], int], int, asyncio.Future[None]]] = []
        self.finished = 0

    def open(self, line: BillLine) -> None:
        """Add a request that has just arrived."""
        self.lines.append(line)
        self.wake()

    def close(self) -> None:
        """Count a request as answered (or given up)."""
        self.finished += 1
        self.wake()

    def wake(self) -> None:
        """Let those go on whose count has been reached."""
        if not self._waiters:
            return
        for current, count, future in self._waiters:
            if current() >= count and not future.done():
                future.set_result(None)
        self._waiters = [waiter for waiter in self._waiters if not waiter[2].done()]

    async def wait(self, count: int, timeout_s: float, *, finished: bool) -> None:
        """Return when ``count`` requests have arrived (or have been answered)."""

        def current() -> int:
            return self.finished if finished else len(self.lines)

        if current() >= count:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((current, count, future))
        async with asyncio.timeout(timeout_s):
            await future

    def totals(self) -> dict[str, int]:
        """Counts and tokens over all lines; tokens of billed lines only."""
        billed = [line for line in self.lines if line.billed]
        return {
            "calls": len(self.lines),
            "finished": self.finished,
            "ok": sum(line.status == 200 for line in self.lines),
            "billed": len(billed),
            "sent": sum(line.sent for line in self.lines),
            "input_tokens": sum(line.input_tokens for line in billed),
            "output_tokens": sum(line.output_tokens for line in billed),
        }

    def rows(self) -> list[dict[str, Any]]:
        """The lines as plain dicts."""
        return [asdict(line) for line in self.lines]

    def clear(self) -> None:
        """Forget everything served so far."""
        self.lines.clear()
        self.finished = 0
