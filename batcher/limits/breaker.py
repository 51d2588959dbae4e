"""A circuit breaker per key: a provider that fails time after time is left alone for a while, then tried.

Closed lets every call through. A row of failures opens it; open lets nothing through until its time is
over. Then it is half-open and lets one call through as a probe: a success closes it, a failure opens it for
longer. The breaker only counts; it never waits and never calls.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

from batcher.domain import FailureClass
from batcher.limits.clock import Clock, SystemClock

FAILURES: Final = 8
"""The shortest row of failures that opens a circuit. Failures come back sooner than answers: of 80 calls that
leave together, 30 % of them refused at once, the first 24 to come back are failures. So a row opens it only
when it is longer than the calls are many that are under way and may yet bring an answer, or when so many of
its failures were slow."""
SLOW_S: Final = 5.0
"""A failure that took so long has waited as long as answers take, time limits above all: it did not come in
before them."""
OPEN_S: Final = 15.0
LONGEST_OPEN_S: Final = 300.0
PROBE_S: Final = 180.0
"""A probe whose outcome nobody tells is given up after so long."""

_FAILURES: Final = frozenset({FailureClass.OVERLOADED, FailureClass.TRANSIENT, FailureClass.UNKNOWN_OUTCOME})
_SAY_NOTHING: Final = frozenset({FailureClass.RATE_LIMITED, FailureClass.ACCOUNT})
"""Answered before the model was asked: neither a sign of health nor of illness."""


class Circuit(StrEnum):
    """Where a circuit stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class CircuitBreaker:
    """The circuits of all keys; a key names a provider and a model.

    Args:
        clock: what tells the time; the machine's by default.
        failures: the shortest row of failures that opens a circuit.
        open_s: how long it stays open at first; each time in a row twice as long.
        longest_open_s: and at most.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        failures: int = FAILURES,
        open_s: float = OPEN_S,
        longest_open_s: float = LONGEST_OPEN_S,
    ) -> None:
        self._clock = clock or SystemClock()
        self._failures = failures
        self._open_s = open_s
        self._longest_open_s = longest_open_s
        self._circuits: dict[str, _Circuit] = {}

    def state(self, key: str) -> Circuit:
        """Where the circuit stands now."""
        circuit = self._circuits.get(key)
        if circuit is None or circuit.opened_at is None:
            return Circuit.CLOSED
        is_over = self._clock.monotonic() >= circuit.opened_at + circuit.open_s
        return Circuit.HALF_OPEN if is_over else Circuit.OPEN

    def allows(self, key: str) -> bool:
        """Whether a call may go now. In a half-open circuit that call is the probe, and must be made."""
        state = self.state(key)
        if state is not Circuit.HALF_OPEN:
            return state is Circuit.CLOSED
        circuit, now = self._circuits[key], self._clock.monotonic()
        if now < circuit.probe_until:
            return False
        circuit.probe_until = now + PROBE_S
        return True

    def retry_in_s(self, key: str) -> float:
        """Seconds until a call may go, if no probe changes that; 0 if one may now."""
        state = self.state(key)
        if state is Circuit.CLOSED:
            return 0.0
        circuit = self._circuits[key]
        opens_at = circuit.probe_until if state is Circuit.HALF_OPEN else circuit.ends_at
        return max(0.0, opens_at - self._clock.monotonic())

    def openings(self, key: str) -> int:
        """How often the circuit has opened: a call that was let through before the last time may not go."""
        circuit = self._circuits.get(key)
        return 0 if circuit is None else circuit.openings

    def record(self, key: str, failure: FailureClass | None, took_s: float = 0.0, under_way: int = 0) -> None:
        """Learn from the outcome of a call; None is a success.

        What a model says about a request (too long, refused, not the schema, truncated) shows that it works.
        A rate limit or an account error shows nothing, and gives the probe's place to the next call.

        Args:
            key: the model and its account.
            failure: the class of the failure.
            took_s: how long the call was on the wire.
            under_way: calls of this key that still are.
        """
        circuit = self._circuits.get(key)
        if circuit is None:
            circuit = self._circuits[key] = _Circuit(self._open_s)
        state = self.state(key)
        if state is Circuit.OPEN:
            return  # calls that were under way when it opened
        if failure in _SAY_NOTHING:
            circuit.probe_until = -math.inf
        elif failure not in _FAILURES:
            circuit.close(self._clock.monotonic())
        else:
            circuit.count += 1
            circuit.slow += took_s >= SLOW_S
            circuit.last_failure = str(failure)
            is_row = circuit.count >= self._failures and circuit.count > under_way
            if state is Circuit.HALF_OPEN or is_row or circuit.slow >= self._failures:
                circuit.open(self._clock.monotonic(), self._open_s, self._longest_open_s)

    def give_back(self, key: str) -> None:
        """The call that was let through was not made: the probe's place goes to the next one."""
        if (circuit := self._circuits.get(key)) is not None:
            circuit.probe_until = -math.inf

    def reason(self, key: str) -> str:
        """Why the circuit is not closed, for people; "" if it is."""
        state = self.state(key)
        if state is Circuit.CLOSED:
            return ""
        circuit = self._circuits[key]
        what = f"{circuit.count} failures in a row, the last {circuit.last_failure}"
        if state is Circuit.HALF_OPEN:
            return f"circuit half-open: one call tries whether it works again ({what})"
        return f"circuit open for {math.ceil(self.retry_in_s(key))} s: {what}"


class _Circuit:
    """One key's circuit. ``opened_at`` is None while it is closed."""

    __slots__ = (
        "closed_at",
        "count",
        "last_failure",
        "open_s",
        "opened_at",
        "openings",
        "probe_until",
        "slow",
    )

    def __init__(self, open_s: float) -> None:
        self.count = 0
        self.slow = 0
        self.openings = 0
        self.last_failure = ""
        self.opened_at: float | None = None
        self.open_s = open_s
        self.closed_at = -math.inf
        self.probe_until = -math.inf

    @property
    def ends_at(self) -> float:
        return -math.inf if self.opened_at is None else self.opened_at + self.open_s

    def open(self, now: float, first_s: float, longest_s: float) -> None:
        """Open, for twice as long as before if that was but a moment ago."""
        is_repeat = self.opened_at is not None or now < self.closed_at + 2 * self.open_s
        self.open_s = min(self.open_s * 2, longest_s) if is_repeat else first_s
        self.opened_at = now
        self.openings += 1
        self.probe_until = -math.inf

    def close(self, now: float) -> None:
        self.count = self.slow = 0
        if self.opened_at is not None:
            self.opened_at = None
            self.closed_at = now
            self.probe_until = -math.inf
