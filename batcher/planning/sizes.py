"""How large the documents of a corpus are: few enough figures to keep, exact enough to price each of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

_SIZE_DIGITS: Final = 4
_COUNT_DIGITS: Final = 3
"""Significant digits kept: at most 9,000 and 900 figures for each power of ten, however many documents."""


class Size(NamedTuple):
    """Documents of about one size.

    Attributes:
        text_bytes: of each, as a reservation counts them; rounded up, so that a bound stays one.
        images: pictures or pages of each.
        items: how many documents.
        tokens: of each on average, as ``estimate_tokens`` counts.
    """

    text_bytes: int
    images: int
    items: int
    tokens: float


class Sizes:
    """A corpus as a table of sizes. Its memory does not grow with the corpus."""

    def __init__(self) -> None:
        self._table: dict[tuple[int, int], list[float]] = {}

    def add(self, text_bytes: int, images: int, tokens: float, count: int = 1) -> None:
        """Count documents.

        Args:
            text_bytes: of each.
            images: of each.
            tokens: of each, as ``estimate_tokens`` counts.
            count: how many there are.
        """
        entry = self._table.setdefault((rounded_up(text_bytes, _SIZE_DIGITS), images), [0, 0.0])
        entry[0] += count
        entry[1] += tokens * count

    def __iter__(self) -> Iterator[Size]:
        for (text_bytes, images), (count, tokens) in self._table.items():
            yield Size(text_bytes, images, int(count), tokens / count)

    def __bool__(self) -> bool:
        return bool(self._table)

    @property
    def documents(self) -> int:
        """How many there are."""
        return sum(size.items for size in self)

    @property
    def images(self) -> int:
        """How many of them have pictures."""
        return sum(size.items for size in self if size.images)


def rounded_up(number: int, digits: int) -> int:
    """A count to so many significant digits, never below itself."""
    step: int = 10 ** max(0, len(str(number)) - digits)
    return -(-number // step) * step


@dataclass(slots=True)
class Distribution:
    """How counts are spread, to one per cent, whatever their number."""

    _counts: dict[int, int] = field(default_factory=dict)
    total: int = 0
    largest: int = 0

    def add(self, number: int) -> None:
        """Count a number, 0 or more."""
        key = rounded_up(number, _COUNT_DIGITS)
        self._counts[key] = self._counts.get(key, 0) + 1
        self.total += number
        self.largest = max(self.largest, number)

    @property
    def count(self) -> int:
        """How many numbers there were."""
        return sum(self._counts.values())

    def percentiles(self, *shares: float) -> list[int]:
        """The smallest number that each share of the numbers does not exceed; 0 without numbers."""
        found, seen, wanted = [], 0, [math.ceil(share * self.count) for share in shares]
        ordered = iter(sorted(self._counts.items()))
        key = 0
        for least in wanted:
            while seen < least:
                key, count = next(ordered)
                seen += count
            found.append(min(key, self.largest))
        return found

    def bars(self) -> Mapping[int, int]:
        """How many numbers lie above one power of two and up to the next, by that next one; without gaps."""
        bars: dict[int, int] = {}
        for key, count in self._counts.items():
            upper = 1 << max(0, key - 1).bit_length()
            bars[upper] = bars.get(upper, 0) + count
        if not bars:
            return {}
        steps = range(min(bars).bit_length() - 1, max(bars).bit_length())
        return {1 << step: bars.get(1 << step, 0) for step in steps}
