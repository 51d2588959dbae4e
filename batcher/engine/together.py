"""Questions to the store that are asked in one moment are put as one: those of all documents of a chunk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from batcher.engine.lane import Lane

T = TypeVar("T")

_MOST_KEYS: Final = 1_000
"""Of one question: databases take no more than some ten thousands."""


class Together(Generic[T]):
    """Finds answers by key, with one question for all that ask in the same turn of the event loop.

    Args:
        read: what is stored for these keys of a lane.
    """

    def __init__(self, read: Callable[[Lane, Sequence[bytes]], Awaitable[dict[bytes, T]]]) -> None:
        self._read = read
        self._rounds: dict[Lane, tuple[dict[bytes, None], asyncio.Task[dict[bytes, T]]]] = {}

    async def __call__(self, lane: Lane, keys: Sequence[bytes]) -> dict[bytes, T]:
        """What is stored for these keys of a lane."""
        if lane not in self._rounds:
            asked: dict[bytes, None] = {}
            answer = asyncio.create_task(self._ask(lane, asked))
            answer.add_done_callback(_retrieved)
            self._rounds[lane] = asked, answer
        asked, answer = self._rounds[lane]
        asked.update(dict.fromkeys(keys))
        # Who waits may be cut off; the others wait on.
        found = await asyncio.shield(answer)
        return {key: found[key] for key in keys if key in found}

    async def _ask(self, lane: Lane, asked: dict[bytes, None]) -> dict[bytes, T]:
        # A task starts in the next turn: whoever asks from now on has a round of its own.
        del self._rounds[lane]
        found: dict[bytes, T] = {}
        keys = list(asked)
        for start in range(0, len(keys), _MOST_KEYS):
            found |= await self._read(lane, keys[start : start + _MOST_KEYS])
        return found


def _retrieved(answer: asyncio.Task[Any]) -> None:
    """Those who asked may all have been cut off before it failed."""
    if not answer.cancelled():
        answer.exception()
