"""An event loop whose clock jumps: a night of waiting takes as long as its work does."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits while time may jump: tells the loop to move its clock instead."""

    def __init__(self) -> None:
        super().__init__()
        self.jump: Callable[[float], bool] = lambda _: False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            return super().select(0 if self.jump(timeout) else None)
        return super().select(timeout)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """``time()`` stands still while anything runs, here or in an executor, and jumps to the next timer.

    For programs without network traffic: a socket that may become readable does not keep time from jumping.

    Args:
        start: the loop's clock at the beginning, seconds.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._outstanding = 0
        selector = _JumpingSelector()
        super().__init__(selector)
        selector.jump = self._jump

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """As usual; time stands still until the function has returned."""
        self._outstanding += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._returned)
        return future

    def _returned(self, _: asyncio.Future[Any]) -> None:
        self._outstanding -= 1

    def _jump(self, seconds: float) -> bool:
        if self._outstanding:
            return False
        self._now += seconds
        return True
