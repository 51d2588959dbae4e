"""How far two raters of the same items agree: a judge and people, two people, two models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from batcher.statistics.intervals import Interval, wilson


@dataclass(frozen=True, slots=True)
class Agreement:
    """What two raters say of the same items.

    Attributes:
        items: how many items both rated.
        interval: the share of items on which they agree, with Wilson's interval.
        kappa: Cohen's kappa, -1 to 1: agreement beyond what chance brings (1: all of it, 0: none); None
            where both gave every item the same one rating, so that chance explains everything.
    """

    items: int
    interval: Interval
    kappa: float | None


def agreement(ratings: Iterable[tuple[Hashable, Hashable]], confidence: float = 0.95) -> Agreement | None:
    """Compare two raters' ratings of the same items (Cohen 1960), or None if there are none.

    Args:
        ratings: for each item the first rater's and the second's rating: right or wrong, or any label.
        confidence: of the interval.
    """
    pairs = Counter(ratings)
    items = pairs.total()
    if not items:
        return None
    first: Counter[Hashable] = Counter()
    second: Counter[Hashable] = Counter()
    agreed = 0
    for (one, other), count in pairs.items():
        first[one] += count
        second[other] += count
        agreed += count if one == other else 0
    by_chance = sum(count * second[rating] for rating, count in first.items())
    kappa = (agreed * items - by_chance) / (items * items - by_chance) if by_chance < items * items else None
    return Agreement(items, wilson(agreed, items, confidence), kappa)
