"""How many calls may be in flight: found out by trying, per key.

Only rate limits shrink it and only saturation grows it. Answers that say that the provider has no capacity
pause it and change nothing; latency does not matter at all. After inspect_ai's model of the same.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from batcher.domain import FailureClass
from batcher.limits.clock import Clock, SystemClock

START: Final = 32
SHRINK: Final = 0.8
COOLDOWN_S: Final = 15.0
"""Rate limits within this time of a shrink are the echo of what caused it: one shrink answers them all."""

QUIET_S: Final = 5.0
"""Nothing grows until so long after the last rate limit."""
GROWTH: Final = 0.1
"""A limit grows by this share each time that as many calls have succeeded as it allows. Before the first rate
limit it doubles."""
NEAR: Final = (0.9, 1.05)
"""Between these shares of where a rate limit was met last, it creeps."""
CREEP: Final = 0.02
CREEP_S: Final = 15.0
"""Creeping is growth by this share, at least one call, once in this time."""

PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 60.0


class AdaptiveConcurrency:
    """Slots for calls in flight, per key. For the coroutines of one event loop.

    ``async with slots.slot(key)`` around a call, and ``record`` once its outcome is known.

    Args:
        ceiling: the most for a key, whatever happens: a user's limit, or this process's part of one.
        clock: what tells the time; the machine's by default.
        start: where a key begins.
        waits_elsewhere: whether those who hold slots of a key wait for something else, such as a rate limit
            (``Limiter.waits``): then slots are not what is scarce, and nothing grows.
    """

    def __init__(
        self,
        ceiling: int | Callable[[str], int],
        clock: Clock | None = None,
        *,
        start: int = START,
        waits_elsewhere: Callable[[str], bool] = lambda _key: False,
    ) -> None:
        self._ceiling_of = ceiling if callable(ceiling) else lambda _key: ceiling
        self._clock = clock or SystemClock()
        self._start = start
        self._waits_elsewhere = waits_elsewhere
        self._lanes: dict[str, _Slots] = {}

    @asynccontextmanager
    async def slot(self, key: str) -> AsyncIterator[None]:
        """Wait for a slot and hold it. First come, first served."""
        slots = self._slots(key)
        await slots.take()
        try:
            yield
        finally:
            slots.leave()

    def record(self, key: str, failure: FailureClass | None, retry_after_s: float | None = None) -> None:
        """Learn from the outcome of a call, while its slot is still held.

        Args:
            key: the lane.
            failure: None for a success. Classes other than rate limits and capacity teach nothing.
            retry_after_s: how long a provider without capacity asks to be left alone.
        """
        slots = self._slots(key)
        if failure is None:
            slots.succeeded(may_grow=not self._waits_elsewhere(key))
        elif failure is FailureClass.RATE_LIMITED:
            slots.rate_limited()
        elif failure is FailureClass.OVERLOADED:
            slots.overloaded(retry_after_s)

    def limit(self, key: str) -> int:
        """How many calls may be in flight now."""
        return self._slots(key).allowed

    def in_flight(self, key: str) -> int:
        """How many are."""
        return self._slots(key).in_flight

    def waiting(self) -> dict[str, str]:
        """Why those wait who wait for a slot, by key: not for slots where those who hold them wait too."""
        reasons = {
            key: slots.waiting_for(are_scarce=not self._waits_elsewhere(key))
            for key, slots in list(self._lanes.items())
        }
        return {key: reason for key, reason in reasons.items() if reason}

    def _slots(self, key: str) -> _Slots:
        found = self._lanes.get(key)
        if found is None:
            found = self._lanes[key] = _Slots(lambda: self._ceiling_of(key), self._clock, self._start)
        return found


class _Slots:
    """The slots of one key."""

    def __init__(self, ceiling: Callable[[], int], clock: Clock, start: int) -> None:
        self._ceiling = ceiling
        self._clock = clock
        self._limit = float(start)
        self._met_at: float | None = None
        self._limited_at = -math.inf
        self._shrunk_at = -math.inf
        self._grown_at = -math.inf
        self._pause_until = -math.inf
        self._pause_s = 0.0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._alarm: asyncio.Task[None] | None = None
        self._peak = 0
        self.in_flight = 0

    @property
    def allowed(self) -> int:
        return max(1, min(int(self._limit), self._ceiling()))

    async def take(self) -> None:
        if not self._queue and self._is_open():
            self._enter()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        self._watch_pause()
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._queue:
                self._queue.remove(turn)
            elif not turn.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        self.in_flight -= 1
        self._admit()

    def _enter(self) -> None:
        self.in_flight += 1
        self._peak = max(self._peak, self.in_flight)

    def succeeded(self, *, may_grow: bool) -> None:
        self._pause_s = 0.0
        now = self._clock.monotonic()
        is_saturated = self.in_flight >= self.allowed < self._ceiling()
        if not (may_grow and is_saturated) or now < self._limited_at + QUIET_S:
            return
        if self._met_at is None:
            self._limit += 1.0
        elif not NEAR[0] * self._met_at <= self._limit <= NEAR[1] * self._met_at:
            self._limit += GROWTH
        elif now >= max(self._grown_at, self._shrunk_at) + CREEP_S:
            self._limit += max(1.0, CREEP * self._limit)
            self._grown_at = now
        self._admit()

    def rate_limited(self) -> None:
        now = self._limited_at = self._clock.monotonic()
        if now < self._shrunk_at + COOLDOWN_S:
            return
        self._shrunk_at = now
        # What was allowed but never tried says nothing about where the limit is.
        self._met_at = float(max(1, min(self.allowed, self._peak)))
        self._peak = self.in_flight
        self._limit = max(1.0, self._met_at * SHRINK)

    def overloaded(self, retry_after_s: float | None) -> None:
        now = self._clock.monotonic()
        if now < self._pause_until:
            asked = retry_after_s or 0.0
        else:
            self._pause_s = min(max(PAUSE_S, self._pause_s * 2), LONGEST_PAUSE_S)
            asked = retry_after_s if retry_after_s is not None else self._pause_s
        self._pause_until = max(self._pause_until, now + asked)

    def waiting_for(self, *, are_scarce: bool) -> str:
        """Why the first in the queue waits, or ""; nobody is said to wait for slots that are not scarce."""
        if not self._queue:
            return ""
        pause_s = self._pause_until - self._clock.monotonic()
        if pause_s > 0:
            return f"no capacity: trying again in {math.ceil(pause_s)} s"
        if not are_scarce:
            return ""
        ceiling = self._ceiling()
        learnt = "" if self.allowed >= ceiling else f", to be found out (at most {ceiling})"
        return f"in flight: {self.in_flight} of {self.allowed} calls{learnt}"

    def _is_open(self) -> bool:
        return self.in_flight < self.allowed and self._clock.monotonic() >= self._pause_until

    def _admit(self) -> None:
        while self._queue and self._is_open():
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                self._enter()
        if self._queue:
            self._watch_pause()

    def _watch_pause(self) -> None:
        """While somebody waits for a pause to end, one task watches the clock."""
        paused = self._clock.monotonic() < self._pause_until
        if paused and (self._alarm is None or self._alarm.done()):
            self._alarm = asyncio.ensure_future(self._sleep_out())

    async def _sleep_out(self) -> None:
        while self._queue and (left := self._pause_until - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)
        self._alarm = None
        self._admit()
