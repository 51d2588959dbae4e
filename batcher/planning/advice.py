"""What a dearer and what a cheaper choice would change, in one sentence each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from batcher.money import format_usd
from batcher.planning.plan import Choice, Plan

_NOTICEABLE: Final = 1.05
"""A difference below five per cent is within what an estimate can tell."""


_SLOWER: Final = 1.5
"""How far times must differ to be told: limits are known, times of calls mostly guessed."""


def cheaper_choice(plan: Plan) -> Choice | None:
    """The cheapest model whose work costs noticeably less; usable and hosted ones before others."""
    most = plan.chosen.price.likely_nusd / _NOTICEABLE
    return _best(choice for choice in _others(plan) if choice.price.likely_nusd < most)


def dearer_choice(plan: Plan) -> Choice | None:
    """What the next tier up would take, or else the next dearer model; usable ones before others."""
    chosen = plan.chosen
    least = chosen.price.likely_nusd * _NOTICEABLE
    dearer = [choice for choice in _others(plan) if choice.price.likely_nusd > least]
    tiers = list(dict.fromkeys(choice.tier for choice in plan.choices))
    above = tiers[tiers.index(chosen.tier) + 1 :]
    for tier in above:
        first = next((choice for choice in dearer if choice.tier == tier and choice.is_usable), None)
        if first is not None:
            return first
    next_tier = next((choice for choice in dearer if above and choice.tier == above[0]), None)
    return next_tier or _best(dearer)


def sentence(plan: Plan, other: Choice) -> str:
    """What taking another model would change: cost, time, and what is known of its answers."""
    chosen = plan.chosen
    parts = [
        f"{other.model.name} (tier {other.tier}) would cost about {format_usd(other.price.likely_nusd)}"
        f"{_against(chosen.price.likely_nusd, other.price.likely_nusd)}"
    ]
    parts[0] += _duration(chosen, other)
    parts.append(_quality(chosen, other))
    if not other.is_usable:
        parts.append("there is no key for it")
    return "; ".join(parts)


def _others(plan: Plan) -> list[Choice]:
    return [choice for choice in plan.choices if not choice.is_chosen and choice.has_room]


def _best(choices: Iterable[Choice]) -> Choice | None:
    """The usable and hosted one that costs least, then the usable, then any."""
    return min(
        choices,
        key=lambda choice: (not choice.is_usable, choice.price.first_nusd == 0, choice.price.likely_nusd),
        default=None,
    )


def _against(chosen_nusd: int, other_nusd: int) -> str:
    if not chosen_nusd or not other_nusd:
        return f" instead of {format_usd(chosen_nusd)}"
    ratio = other_nusd / chosen_nusd
    if ratio >= 2:
        return f", {ratio:.1f} times as much"
    return f", {abs(ratio - 1):.0%} {'more' if ratio > 1 else 'less'}"


def _duration(chosen: Choice, other: Choice) -> str:
    if chosen.time is None or other.time is None or not chosen.time.seconds:
        return ""
    ratio = other.time.seconds / chosen.time.seconds
    if ratio >= _SLOWER:
        return f" and take {ratio:.1f} times as long"
    return f" and take {ratio:.0%} of the time" if ratio <= 1 / _SLOWER else ""


def _quality(chosen: Choice, other: Choice) -> str:
    known, mine = other.accuracy, chosen.accuracy
    if known is None:
        return "its answers to this task were never scored"
    told = f"{known.interval.share:.0%} of {known.scored:,} scored answers were right"
    if mine is None:
        return told
    return f"{told}, of {chosen.name}'s {mine.interval.share:.0%} of {mine.scored:,}"
