"""Time as an object, so that tests of waiting need not wait."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final, Protocol

_AWAKE_OR_NOT: Final = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
"""A clock that goes on while the machine sleeps: Linux has one for that, macOS' monotonic one does."""


class Clock(Protocol):
    """What tells the time and lets it pass."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds of this clock."""
        ...


class SystemClock:
    """The machine's clock."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time by every clock at hand, for what must not be missed whatever is stopped or set.

    Attributes:
        loop_s: on the running loop's clock, which a rehearsal makes its own.
        machine_s: since the machine started, its sleep included.
        wall_s: Unix seconds: they alone tell that a virtual machine stood still.
    """

    loop_s: float
    machine_s: float
    wall_s: float

    @classmethod
    def now(cls) -> Moment:
        """This moment."""
        return cls(asyncio.get_running_loop().time(), _machine_s(), time.time())

    def passed_s(self) -> float:
        """Seconds since then, by the clock that says most."""
        loop_s = asyncio.get_running_loop().time() - self.loop_s
        return max(loop_s, _machine_s() - self.machine_s, time.time() - self.wall_s)


def _machine_s() -> float:
    return time.monotonic() if _AWAKE_OR_NOT is None else time.clock_gettime(_AWAKE_OR_NOT)
