"""A text as a set of hashed pieces: what the text scorer sees of it. Standard library only."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import Final
from zlib import crc32

BUCKETS: Final = 1 << 16
"""Pieces share this many numbers; a few thousand distinct pieces seldom meet in one."""

_FROM_THE_START: Final = 3_000
_FROM_THE_END: Final = 1_000
_WORD: Final = re.compile(r"\w+|[^\w\s]")
_PIECES: Final = (3, 4, 5)


def text_pieces(text: str) -> frozenset[int]:
    """The numbers, 0 to ``BUCKETS`` - 1, of a text's words, pairs of words and pieces of 3 to 5 characters.

    A piece does not cross a word's boundary, which is part of it. Of a long text, the first 3,000 and the
    last 1,000 characters are read.
    """
    if len(text) > _FROM_THE_START + _FROM_THE_END:
        text = f"{text[:_FROM_THE_START]} {text[-_FROM_THE_END:]}"
    words = _WORD.findall(text.casefold())
    found: set[int] = set()
    for word in set(words):
        found.update(_word_pieces(word))
    found.update(_bucket(f"{first} {second}") for first, second in pairwise(words))
    return frozenset(found)


@lru_cache(maxsize=50_000)
def _word_pieces(word: str) -> tuple[int, ...]:
    framed = f" {word} "
    pieces = {framed[at : at + size] for size in _PIECES for at in range(max(1, len(framed) - size + 1))}
    return tuple({_bucket(piece) for piece in pieces} | {_bucket(word)})


def _bucket(piece: str) -> int:
    return crc32(piece.encode("utf-8", "surrogatepass")) % BUCKETS
