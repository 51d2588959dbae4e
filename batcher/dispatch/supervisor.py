"""Starts Celery worker processes, restarts those that die, and passes signals on."""

from __future__ import annotations

import contextlib
import logging
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from batcher.processes import PYTHON

_log = logging.getLogger("batcher.supervisor")

_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
_STABLE_AFTER_S: Final = 10.0
_LOOK_EVERY_S: Final = 0.5

_STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(slots=True)
class Child:
    """One process to keep alive.

    Attributes:
        arguments: of the Python that runs this one.
        environment: its whole environment.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    pause_s: float = _FIRST_PAUSE_S
    restart_at: float = field(default=0.0)

    def keep(self, now: float) -> None:
        """Start it if it does not run and its pause is over."""
        if self.process is not None and self.process.poll() is None:
            return
        if self.process is not None:
            self._has_died(self.process, now)
        if now >= self.restart_at:
            self.started_at = now
            # A group of its own: Ctrl-C on a terminal reaches the children once, through us.
            self.process = subprocess.Popen(  # noqa: S603 - this Python, and our own arguments
                [*PYTHON, *self.arguments],
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                process_group=0,
            )

    def send(self, number: int) -> None:
        """Pass a signal on."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    def _has_died(self, process: subprocess.Popen[bytes], now: float) -> None:
        if now - self.started_at >= _STABLE_AFTER_S:
            self.pause_s = _FIRST_PAUSE_S
        self.process = None
        self.restart_at = now + self.pause_s
        _log.error(
            "process %s ended with %s; starting another in %.0f s",
            process.pid,
            process.returncode,
            self.pause_s,
        )
        self.pause_s = min(_LONGEST_PAUSE_S, 2 * self.pause_s)


def supervise(children: Sequence[Child]) -> int:
    """Keep the children running until a signal; pass it on, wait for them, return the worst of their codes.

    The first SIGTERM, SIGINT or SIGHUP lets them end their calls in flight, the second is hard.
    """
    stop = threading.Event()

    def handle(_number: int, _frame: object) -> None:
        stop.set()
        for child in children:
            child.send(signal.SIGTERM)

    for number in _STOPS:
        signal.signal(number, handle)
    while not stop.wait(_LOOK_EVERY_S):
        for child in children:
            child.keep(time.monotonic())
    codes = [_ended(child) for child in children]
    return max(codes, default=0)


def _ended(child: Child) -> int:
    return abs(child.process.wait()) if child.process is not None else 0
