"""The limiter of one process: lanes in memory, on one event loop."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from batcher.limits.base import LaneLimiter, Permit
from batcher.limits.charging import Charging
from batcher.limits.clock import Clock, SystemClock
from batcher.limits.quotas import (
    DIMENSIONS,
    UNLIMITED,
    Charge,
    Observed,
    Quotas,
    told_limits,
    wording,
)
from batcher.limits.window import Window, renewed

LimitsOf = Mapping[str, Any] | Callable[[str], Any]
"""Records of limits by key, such as the catalogue's ``Limits``. Read once per key, when it is first used."""

_SHORTEST_SLEEP_S: Final = 0.001
_LONGEST_SLEEP_S: Final = 3600.0


def quotas_by_key(limits: LimitsOf, ceilings: LimitsOf | None) -> Callable[[str], Quotas]:
    """How a limiter finds the limits of a key; see ``MemoryLimiter``."""

    def lookup(records: LimitsOf | None, key: str) -> Any:
        if records is None:
            return None
        return records(key) if callable(records) else records.get(key)

    return lambda key: Quotas(lookup(limits, key) or UNLIMITED, lookup(ceilings, key))


class MemoryLimiter(LaneLimiter["_Lane"]):
    """A ``Limiter`` for the coroutines of one event loop. Not for several threads.

    Args:
        limits: the limits of a key until headers tell better; no record means none.
        clock: what tells the time; the machine's by default.
        ceilings: the limits that the user set on purpose: headers never raise a limit above these.
    """

    def __init__(
        self, limits: LimitsOf, clock: Clock | None = None, *, ceilings: LimitsOf | None = None
    ) -> None:
        super().__init__()
        self._quotas_of = quotas_by_key(limits, ceilings)
        self._clock = clock or SystemClock()

    def _new_lane(self, key: str) -> _Lane:
        return _Lane(self._quotas_of(key), self._clock)


class _Turn:
    """One waiting caller: its charge, and the future that makes it the first in line."""

    __slots__ = ("charge", "first")

    def __init__(self, charge: Charge, first: asyncio.Future[None]) -> None:
        self.charge = charge
        self.first = first


class _Lane:
    """What is counted together, and the queue for it. Only the first in the queue watches the clock."""

    def __init__(self, quotas: Quotas, clock: Clock) -> None:
        self._clock = clock
        self._quotas = quotas
        self._charging = Charging(charges_output_limit=quotas.charges_output_limit)
        self._windows: tuple[tuple[int, Window], ...] = ()
        self._renew_windows()
        self._in_flight = 0
        self._cool_until = -math.inf
        self._cool_reason = ""
        self._queue: deque[_Turn] = deque()
        self._sleep: asyncio.Future[None] | None = None

    async def acquire(self, input_tokens: int, output_limit: int) -> Permit:
        charge = self._charging.before(input_tokens, output_limit)
        now = self._clock.monotonic()
        if not self._queue and self._delay(charge, now) <= 0:
            return self._take(charge, output_limit, now)
        turn = _Turn(charge, asyncio.get_running_loop().create_future())
        self._queue.append(turn)
        try:
            if self._queue[0] is not turn:
                await turn.first
            now = await self._wait_for_room(charge)
            return self._take(charge, output_limit, now)
        finally:
            self._leave(turn)

    def settle(self, permit: Permit, input_tokens: int, output_tokens: int) -> None:
        self._rebook(permit, self._charging.after(input_tokens, output_tokens, permit.output_limit))

    def take_back(self, permit: Permit) -> None:
        self._rebook(permit, (0,) * len(DIMENSIONS))

    def close(self, _permit: Permit) -> None:
        self._in_flight -= 1
        if self._quotas.concurrency is not None:
            self._look_again()

    def observe(self, observed: Observed) -> None:
        if self._quotas.learn(told_limits(observed)):
            self._renew_windows()
        now = self._clock.monotonic()
        windows = {DIMENSIONS[index]: window for index, window in self._windows}
        for reading in observed.readings:
            window = windows.get(reading.dimension)
            if reading.remaining is not None and window is not None:
                window.drain(reading.remaining, now)
        self._look_again()

    def cool_down(self, seconds: float, reason: str) -> None:
        until = self._clock.monotonic() + max(seconds, 0.0)
        if until > self._cool_until:
            self._cool_until, self._cool_reason = until, reason
            self._look_again()

    @property
    def has_queue(self) -> bool:
        return bool(self._queue)

    def waiting_for(self) -> str:
        """Why the first in the queue waits, or ""."""
        if not self._queue:
            return ""
        now = self._clock.monotonic()
        if self._cool_until > now:
            return f"cooling down {math.ceil(self._cool_until - now)} s: {self._cool_reason}"
        if self._is_full():
            return f"in flight: {self._in_flight} of {self._quotas.concurrency} calls"
        charge = self._queue[0].charge
        delays = [(window.delay(charge[index], now), DIMENSIONS[index]) for index, window in self._windows]
        return wording(delays, self._quotas.in_force())

    def _renew_windows(self) -> None:
        """Windows for the limits in force; one whose span is the same goes on with what it has seen."""
        now = self._clock.monotonic()
        known = dict(self._windows)
        windows = []
        for dimension, quota in self._quotas.in_force().items():
            index = DIMENSIONS.index(dimension)
            windows.append((index, renewed(known.get(index), quota, now=now)))
        self._windows = tuple(windows)

    def _rebook(self, permit: Permit, charge: Charge) -> None:
        now = self._clock.monotonic()
        for index, window in self._windows:
            excess = permit.charge[index] - charge[index]
            if excess > 0:
                window.give_back(excess, now)
            elif excess < 0:
                window.take(-excess, now)
        permit.charge = charge
        self._look_again()

    async def _wait_for_room(self, charge: Charge) -> float:
        """Sleep until there is room; the time then. Whatever changes the outlook wakes the sleeper."""
        while (delay := self._delay(charge, now := self._clock.monotonic())) > 0:
            seconds = min(max(delay, _SHORTEST_SLEEP_S), _LONGEST_SLEEP_S)
            self._sleep = asyncio.ensure_future(self._clock.sleep(seconds))
            try:
                await asyncio.wait((self._sleep,))
            finally:
                self._sleep.cancel()
                self._sleep = None
        return now

    def _look_again(self) -> None:
        if self._sleep is not None:
            self._sleep.cancel()

    def _leave(self, turn: _Turn) -> None:
        was_first = self._queue[0] is turn
        self._queue.remove(turn)
        if was_first and self._queue and not self._queue[0].first.done():
            self._queue[0].first.set_result(None)

    def _is_full(self) -> bool:
        return self._quotas.concurrency is not None and self._in_flight >= self._quotas.concurrency

    def _delay(self, charge: Charge, now: float) -> float:
        if self._is_full():
            return math.inf
        delay = self._cool_until - now
        for index, window in self._windows:
            delay = max(delay, window.delay(charge[index], now))
        return delay

    def _take(self, charge: Charge, output_limit: int, now: float) -> Permit:
        for index, window in self._windows:
            window.take(charge[index], now)
        self._in_flight += 1
        return Permit(self, charge, output_limit)
