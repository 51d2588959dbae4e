"""The limiter of one process: lanes in memory, on one event loop."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from batcher.catalog.models import Limits
from batcher.limits.clock import Clock, SystemClock
from batcher.limits.window import Window

_UNLIMITED: Final = Limits(rpm=None, tpm=None)
_SHORTEST_SLEEP_S: Final = 0.001


class MemoryLimiter:
    """A ``Limiter`` for the coroutines of one event loop. Not for several threads.

    ``Limits.concurrency`` is not its business: it counts what leaves, not what is under way.

    Args:
        limits: the limits of a key; a mapping without the key, or a callable that answers
            ``Limits(None, None)``, lets it through unlimited. Read once per key, when it is first used.
        clock: what tells the time; the machine's by default.
    """

    def __init__(
        self, limits: Mapping[str, Limits] | Callable[[str], Limits], clock: Clock | None = None
    ) -> None:
        self._limits_of = limits if callable(limits) else lambda key: limits.get(key, _UNLIMITED)
        self._clock = clock or SystemClock()
        self._lanes: dict[str, _Lane] = {}

    async def acquire(self, key: str, tokens: int) -> None:
        """See ``Limiter``."""
        await self._lane(key).acquire(max(tokens, 0))

    def refund(self, key: str, tokens: int) -> None:
        """See ``Limiter``."""
        if tokens > 0:
            self._lane(key).refund(tokens)

    def cool_down(self, key: str, seconds: float, reason: str) -> None:
        """See ``Limiter``."""
        self._lane(key).cool_down(seconds, reason)

    def waiting(self) -> dict[str, str]:
        """See ``Limiter``."""
        return {key: reason for key, lane in list(self._lanes.items()) if (reason := lane.waiting_for())}

    def _lane(self, key: str) -> _Lane:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(self._limits_of(key), self._clock)
        return lane


class _Turn:
    """One waiting caller: its tokens, and the future that makes it the first in line."""

    __slots__ = ("first", "tokens")

    def __init__(self, tokens: int, first: asyncio.Future[None]) -> None:
        self.tokens = tokens
        self.first = first


class _Lane:
    """What is counted together, and the queue for it. Only the first in the queue watches the clock."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        now = clock.monotonic()
        self._clock = clock
        self._request_windows = _windows({60.0: limits.rpm, 86_400.0: limits.rpd}, now)
        self._token_windows = _windows({60.0: limits.tpm}, now)
        self._cool_until = -math.inf
        self._cool_reason = ""
        self._queue: deque[_Turn] = deque()
        self._sleep: asyncio.Future[None] | None = None

    async def acquire(self, tokens: int) -> None:
        now = self._clock.monotonic()
        if not self._queue and self._delay(tokens, now) <= 0:
            self._take(tokens, now)
            return
        turn = _Turn(tokens, asyncio.get_running_loop().create_future())
        self._queue.append(turn)
        try:
            if self._queue[0] is not turn:
                await turn.first
            await self._wait_for_room(tokens)
        finally:
            self._leave(turn)

    def refund(self, tokens: int) -> None:
        now = self._clock.monotonic()
        for window in self._token_windows:
            window.give_back(tokens, now)
        self._look_again()

    def cool_down(self, seconds: float, reason: str) -> None:
        until = self._clock.monotonic() + max(seconds, 0.0)
        if until > self._cool_until:
            self._cool_until, self._cool_reason = until, reason
            self._look_again()

    def waiting_for(self) -> str:
        """Why the first in the queue waits, or ""."""
        if not self._queue:
            return ""
        now = self._clock.monotonic()
        if self._cool_until > now:
            return f"cooling down {math.ceil(self._cool_until - now)} s: {self._cool_reason}"
        tokens = self._queue[0].tokens
        delays = [(window.delay(1, now), window, "requests") for window in self._request_windows]
        delays += [(window.delay(tokens, now), window, "tokens") for window in self._token_windows]
        if not delays:
            return ""
        _, window, unit = max(delays, key=lambda delay: delay[0])
        return f"rate limit: {window.limit:,} {unit}/{'min' if window.span_s == 60 else 'day'}"

    async def _wait_for_room(self, tokens: int) -> None:
        """Sleep until there is room, and take it. A refund or a cool-down wakes the sleeper to look again."""
        while (delay := self._delay(tokens, now := self._clock.monotonic())) > 0:
            self._sleep = asyncio.ensure_future(self._clock.sleep(max(delay, _SHORTEST_SLEEP_S)))
            try:
                await asyncio.wait((self._sleep,))
            finally:
                self._sleep.cancel()
                self._sleep = None
        self._take(tokens, now)

    def _look_again(self) -> None:
        if self._sleep is not None:
            self._sleep.cancel()

    def _leave(self, turn: _Turn) -> None:
        was_first = self._queue[0] is turn
        self._queue.remove(turn)
        if was_first and self._queue and not self._queue[0].first.done():
            self._queue[0].first.set_result(None)

    def _delay(self, tokens: int, now: float) -> float:
        delay = self._cool_until - now
        for window in self._request_windows:
            delay = max(delay, window.delay(1, now))
        for window in self._token_windows:
            delay = max(delay, window.delay(tokens, now))
        return delay

    def _take(self, tokens: int, now: float) -> None:
        for window in self._request_windows:
            window.take(1, now)
        for window in self._token_windows:
            window.take(tokens, now)


def _windows(limits: Mapping[float, int | None], now: float) -> tuple[Window, ...]:
    return tuple(
        Window(limit, span_s, now=now, paced=span_s <= 60)
        for span_s, limit in limits.items()
        if limit is not None
    )
