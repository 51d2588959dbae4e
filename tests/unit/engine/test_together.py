"""One question to the store for all who ask in one moment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from batcher.engine.lane import Lane
from batcher.engine.together import Together

ONE, OTHER = cast("Lane", "one lane"), cast("Lane", "another lane")


class Stored:
    """What is stored, and which questions came."""

    def __init__(self, *, fails: bool = False) -> None:
        self.questions: list[tuple[Lane, list[bytes]]] = []
        self.asked, self.goes_on = asyncio.Event(), asyncio.Event()
        self._fails = fails

    async def read(self, lane: Lane, keys: Sequence[bytes]) -> dict[bytes, Any]:
        self.questions.append((lane, list(keys)))
        self.asked.set()
        await self.goes_on.wait()
        if self._fails:
            raise OSError("the store is away")
        return {key: key.decode() for key in keys if key != b"unknown"}


async def test_those_of_a_turn_are_one_and_each_gets_its_own() -> None:
    stored = Stored()
    find = Together(stored.read)
    asking = [asyncio.create_task(find(ONE, keys)) for keys in ([b"a", b"b"], [b"b", b"unknown"], [b"c"])]
    apart = asyncio.create_task(find(OTHER, [b"a"]))
    stored.goes_on.set()
    assert await asyncio.gather(*asking, apart) == [
        {b"a": "a", b"b": "b"},
        {b"b": "b"},
        {b"c": "c"},
        {b"a": "a"},
    ]
    assert stored.questions == [(ONE, [b"a", b"b", b"unknown", b"c"]), (OTHER, [b"a"])]


async def test_who_asks_later_is_told_what_is_stored_then() -> None:
    stored = Stored()
    find = Together(stored.read)
    first = asyncio.create_task(find(ONE, [b"a"]))
    await stored.asked.wait()
    second = asyncio.create_task(find(ONE, [b"a"]))
    stored.goes_on.set()
    assert await asyncio.gather(first, second) == [{b"a": "a"}, {b"a": "a"}]
    assert len(stored.questions) == 2


async def test_very_many_keys_are_several_questions() -> None:
    stored = Stored()
    stored.goes_on.set()
    keys = [b"%d" % number for number in range(2_500)]
    assert await Together(stored.read)(ONE, keys) == {key: key.decode() for key in keys}
    assert [len(asked) for _, asked in stored.questions] == [1_000, 1_000, 500]


async def test_one_that_is_cut_off_takes_no_other_with_it() -> None:
    stored = Stored()
    find = Together(stored.read)
    cut_off, other = (asyncio.create_task(find(ONE, [key])) for key in (b"a", b"b"))
    await stored.asked.wait()
    cut_off.cancel()
    stored.goes_on.set()
    assert await other == {b"b": "b"}
    assert cut_off.cancelled()


async def test_a_question_that_fails_fails_for_all_who_asked() -> None:
    stored = Stored(fails=True)
    find = Together(stored.read)
    asking = [asyncio.create_task(find(ONE, [key])) for key in (b"a", b"b")]
    stored.goes_on.set()
    for asked in asking:
        with pytest.raises(OSError, match="the store is away"):
            await asked
