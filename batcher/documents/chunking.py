"""Splits a long text into pieces that a model can take, at the best boundary near each piece's end."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Final

_MIN_FILL: Final = 0.5
"""A boundary is taken only if the piece before it is at least this full."""

_BOUNDARIES: Final = (
    re.compile(r"\n[ \t\r]*\n\s*"),
    re.compile(r"\r?\n|[\r\u2028\u2029]"),
    re.compile(r"[.!?\u2026\u061f\u0964][\"'\u2019\u201d)\]]*\s+|[\u3002\uff01\uff1f]+[\u300d\u300f\u201d]*"),
    re.compile(r"\s+"),
)
"""Ends of paragraphs, lines, sentences and words, best first; the piece keeps the boundary itself."""

_GROW: Final = 1.5
_PRECISION: Final = 64
"""The largest piece that fits is sought to within a 64th of its length."""

_MAX_CLUSTER_CHARS: Final = 64
_JOINER: Final = "\u200d"
_JOINING: Final = re.compile("[\u200d\ufe0e\ufe0f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f\u1160-\u11ff]")


def split_text(text: str, max_tokens: int, count: Callable[[str], int]) -> list[str]:
    """Splits a text into pieces of at most ``max_tokens``.

    The pieces joined are the text, to the character. A piece ends after a paragraph if there is an end of
    one in its second half, else after a line, a sentence, a word, and only then within a word; never within
    what is seen as one character (accents, emoji, flags, CR LF), unless that alone is too large.

    Args:
        text: any text; the empty text gives no pieces.
        max_tokens: what a piece may count, at least 1.
        count: estimates the tokens of a text; should grow with the text. It is called a few times for each
            piece, on texts of about a piece's length.

    Raises:
        ValueError: a single character counts more than ``max_tokens``.
    """
    if not text:
        return []
    total = count(text)
    if total <= max_tokens:
        return [text]
    pieces: list[str] = []
    start = 0
    guess = max(1, len(text) * max_tokens // total)
    while start < len(text):
        end = _longest(text, start, guess, max_tokens, count)
        guess = end - start
        if end < len(text):
            end = _fitting(text, start, _boundary(text, start, end), end, max_tokens, count)
        pieces.append(text[start:end])
        start = end
    return pieces


def _longest(text: str, start: int, guess: int, max_tokens: int, count: Callable[[str], int]) -> int:
    """Finds about the largest end for which ``text[start:end]`` fits, with a handful of counts."""
    rest = len(text) - start
    fits, too_long = 0, rest + 1
    length = min(guess, rest)
    while True:
        tokens = count(text[start : start + length])
        if tokens <= max_tokens:
            fits = length
            if fits == rest:
                break
        else:
            too_long = length
        if too_long - fits <= max(1, fits // _PRECISION):
            break
        if too_long > rest:
            length = min(rest, int(fits * _GROW) + 1)
        elif fits == 0:
            length = min(max(1, length * max_tokens // max(1, tokens)), too_long // 2)
        else:
            length = (fits + too_long) // 2
        if length == 0:
            break
    if fits == 0:
        raise ValueError(f"max_tokens={max_tokens} is too small to hold a single character of the text.")
    return start + fits


def _boundary(text: str, start: int, end: int) -> int:
    """The best place to cut in the second half of ``text[start:end]``."""
    earliest = start + int((end - start) * _MIN_FILL)
    for pattern in _BOUNDARIES:
        cut = 0
        for found in pattern.finditer(text, earliest, end):
            cut = found.end()
        if cut > start and _is_whole(text, start, cut):
            return cut
    cut = end
    while cut > max(start + 1, end - _MAX_CLUSTER_CHARS) and not _is_whole(text, start, cut):
        cut -= 1
    return cut if _is_whole(text, start, cut) else end


def _is_whole(text: str, start: int, cut: int) -> bool:
    """Whether cutting here parts no character from what belongs to it (close to UAX 29)."""
    if cut >= len(text):
        return True
    before, after = text[cut - 1], text[cut]
    if after.isascii():
        return not (before == "\r" and after == "\n")
    if before == _JOINER or _JOINING.match(after) or unicodedata.category(after) in {"Mn", "Mc", "Me"}:
        return False
    return not (_is_flag_half(after) and _flag_halves_before(text, start, cut) % 2)


def _is_flag_half(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _flag_halves_before(text: str, start: int, cut: int) -> int:
    first = cut
    while first > start and _is_flag_half(text[first - 1]):
        first -= 1
    return cut - first


def _fitting(text: str, start: int, cut: int, end: int, max_tokens: int, count: Callable[[str], int]) -> int:
    """Keeps the promise with an estimator that does not always grow with the text: shortens until it fits."""
    if cut == end:
        return cut
    while count(text[start:cut]) > max_tokens:
        if cut - start == 1:
            return end
        cut = _boundary(text, start, start + (cut - start) // 2)
    return cut
