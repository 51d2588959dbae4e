"""Which of the measured models to take: the cheapest that clears the floor, and what taking it changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from batcher.money import format_usd
from batcher.quality.evaluation import Measurement
from batcher.statistics.intervals import Interval
from batcher.statistics.paired import Difference, PairedCounts, Within, difference, mcnemar, within
from batcher.statistics.sample_size import more_to_settle

MARGIN: Final = 0.05
"""The loss of accuracy that switching to a cheaper model may cost: 5 points."""


class Standing(StrEnum):
    """Where a model's accuracy lies: its whole interval at or above the floor, below it, or neither."""

    CLEARS = "clears"
    MISSES = "misses"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Placed:
    """A measured model beside the floor.

    Attributes:
        more: samples that would settle an open case at the present rate; None if no number does, because
            its accuracy is the floor itself or it has no answer; 0 where it is settled.
        is_on_frontier: whether no other model is both as cheap and more accurate, or cheaper and as accurate.
    """

    measured: Measurement
    accuracy: Interval
    standing: Standing
    more: int | None
    is_on_frontier: bool

    @property
    def model(self) -> str:
        """Its name."""
        return self.measured.model

    @property
    def per_document_nusd(self) -> float:
        """What a document cost; infinite where no call brought an answer or was paid."""
        cost = self.measured.per_document_nusd
        return math.inf if cost is None else cost


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the documents that both answered; the second would take the first's place.

    Attributes:
        counts: documents that both, only the first, only the second, or neither got right.
        difference: the second's accuracy less the first's.
        p_value: of McNemar's test that both are right equally often.
        within: whether switching costs at most 5 points.
    """

    first: str
    second: str
    counts: PairedCounts
    difference: Difference
    p_value: float
    within: Within


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the measurements say.

    Attributes:
        floor: the least accuracy that is good enough, 0 to 1.
        confidence: of every interval, 0 to 1.
        placed: the models with a score, cheapest document first, those without any answer last.
        unjudged: the models that take no part, because some of their answers lack a judge's verdict.
        chosen: the cheapest that clears the floor, or None.
        best: the most accurate, the cheaper of equals.
        present: what the task would use without this; None if it was not measured.
        against_best: every other model beside the best one.
        switches: the chosen model in place of the best, and in place of the present one, where it is another.
    """

    floor: float
    confidence: float
    placed: tuple[Placed, ...]
    chosen: Placed | None
    best: Placed | None
    present: Placed | None
    against_best: tuple[Comparison, ...]
    switches: tuple[Comparison, ...]
    unjudged: tuple[Measurement, ...] = ()

    @property
    def close_calls(self) -> tuple[Placed, ...]:
        """Open cases that would be chosen if they cleared the floor: those cheaper than the choice.

        Without an answer none is close: its calls were refused, and more of them settle nothing.
        """
        limit = self.chosen.per_document_nusd if self.chosen else math.inf
        return tuple(
            one
            for one in self.placed
            if one.standing is Standing.OPEN and one.measured.answered and one.per_document_nusd < limit
        )

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        has_answers = self.best is not None and self.best.measured.answered
        if self.unjudged and not has_answers:
            told = ", ".join(f"{one.model} {judged_words(one)}" for one in self.unjudged)
            return f"No verdict yet: no model's answers are all judged ({told}). Let their judging go on."
        if self.best is None:
            return "Nothing was measured: no document has an answer yet."
        if not self.best.measured.answered:
            return "Nothing was measured: no call brought an answer."
        model = "model whose answers are all judged" if self.unjudged else "model"
        floor, sure = percent(self.floor), f"{percent(self.confidence)} confidence"
        if self.chosen is not None:
            alone = len(self.placed) == 1
            what = "clears" if alone else f"is the cheapest {model} that clears"
            return f"{self.chosen.model} {what} the floor of {floor} with {sure}: {figures(self.chosen)}."
        if not self.close_calls:
            closest = f"{self.best.model} comes closest, {figures(self.best)}"
            return f"No {model} reaches the floor of {floor}: {closest}."
        nearest = min(self.close_calls, key=lambda one: math.inf if one.more is None else one.more)
        return (
            f"No {model} clears the floor of {floor} with {sure} yet: {nearest.model} may, "
            f"{figures(nearest)}; {settling(nearest)}."
        )


def judge(
    measurements: Sequence[Measurement], floor: float, confidence: float, present: str | None = None
) -> Verdict:
    """Weigh the models against the floor and against each other.

    Args:
        measurements: one for each model; those without a score are passed over, and those that are judged in
            part take no part.
        floor: the least accuracy that is good enough, 0 to 1.
        confidence: of the intervals, 0 to 1; the measurements' own.
        present: the model that the task would use without this.
    """
    placed = _place(measurements, floor, confidence)
    best = max(placed, key=lambda one: (one.accuracy.share, -one.per_document_nusd), default=None)
    chosen = next((one for one in placed if one.standing is Standing.CLEARS), None)
    in_use = next((one for one in placed if one.model == present), None)
    answering = [one for one in placed if one.measured.answered]
    others = [one for one in answering if one is not best]
    against_best = [compare(best, one, confidence) for one in others] if best else []
    switches = []
    if chosen is not None:
        replaced = {one.model: one for one in (best, in_use) if one in answering and one is not chosen}
        switches = [compare(one, chosen, confidence) for one in replaced.values()]
    return Verdict(
        floor=floor,
        confidence=confidence,
        placed=placed,
        chosen=chosen,
        best=best,
        present=in_use,
        against_best=tuple(found for found in against_best if found is not None),
        switches=tuple(found for found in switches if found is not None),
        unjudged=tuple(found for found in measurements if found.unjudged),
    )


def _place(measurements: Sequence[Measurement], floor: float, confidence: float) -> tuple[Placed, ...]:
    by_cost = sorted(
        (found for found in measurements if found.accuracy is not None),
        key=lambda found: (
            math.inf if found.per_document_nusd is None else found.per_document_nusd,
            -(found.accuracy.share if found.accuracy else 0),
        ),
    )
    placed = []
    most = -1.0
    for found in by_cost:
        assert found.accuracy is not None
        interval = found.accuracy
        standing = Standing.OPEN
        if interval.low >= floor:
            standing = Standing.CLEARS
        elif interval.high < floor:
            standing = Standing.MISSES
        more: int | None = 0
        if standing is Standing.OPEN:
            count = more_to_settle(found.correct, found.scored, floor, confidence)
            more = count if found.answered else None
        placed.append(Placed(found, interval, standing, more, bool(found.answered) and interval.share > most))
        most = max(most, interval.share)
    return tuple(placed)


def compare(first: Placed, second: Placed, confidence: float) -> Comparison | None:
    """The second in place of the first, on the documents that both have a score for; None without any."""
    right = {outcome.key: outcome.correct for outcome in first.measured.outcomes}
    pairs = [
        (right[outcome.key], outcome.correct) for outcome in second.measured.outcomes if outcome.key in right
    ]
    if not pairs:
        return None
    counts = PairedCounts.of(pairs)
    return Comparison(
        first=first.model,
        second=second.model,
        counts=counts,
        difference=difference(counts, confidence),
        p_value=mcnemar(counts),
        within=within(counts, MARGIN, confidence),
    )


def percent(share: float) -> str:
    """A share for people, to a tenth: ``91.2 %``, ``85 %``."""
    return f"{100 * share:.1f}".removesuffix(".0") + " %"


def accuracy_words(interval: Interval, scored: int) -> str:
    """``accuracy 91.2 % (88.1 to 93.6 %, 512 scored)``."""
    return (
        f"accuracy {100 * interval.share:.1f} % "
        f"({100 * interval.low:.1f} to {100 * interval.high:.1f} %, {scored:,} scored)"
    )


def judged_words(found: Measurement) -> str:
    """How far the judging of a model's answers is: ``25 of 100 judged so far``."""
    return f"{found.answered:,} of {found.answered + found.unjudged:,} judged so far"


def figures(one: Placed) -> str:
    """A model's accuracy and its cost per correct answer, in words."""
    cost = one.measured.per_correct_nusd
    price = "no correct answer" if cost is None else f"{format_usd(round(cost))} per correct answer"
    return f"{accuracy_words(one.accuracy, one.measured.scored)}, {price}"


def settling(one: Placed) -> str:
    """How many more samples settle an open case, in words."""
    if one.more is None:
        return "no number of samples settles it: its accuracy is the floor itself"
    return f"about {one.more:,} more sample{'' if one.more == 1 else 's'} would settle it"


def switch_words(found: Comparison, role: str) -> str:
    """What taking the second model in place of the first changes, in a sentence.

    Args:
        found: the comparison.
        role: what the first one is, e.g. ``the most accurate``.
    """
    points = 100 * found.difference.difference
    change = "gains" if points > 0 else "costs"
    return (
        f"Switching to {found.second} from {found.first}, {role}, {change} {abs(points):.1f} points "
        f"({100 * found.difference.low:+.1f} to {100 * found.difference.high:+.1f}, "
        f"{found.counts.items:,} documents in common, p {p_words(found.p_value)}): {_loss_words(found)}."
    )


def _loss_words(found: Comparison) -> str:
    """What the interval of the difference shows: that the second is better, or worse and by how much."""
    if found.difference.low > 0:
        return "it is better"
    if found.within is Within.NO:
        return "it is more than 5 points worse"
    if found.difference.high < 0:
        open_or_not = (
            "but at most 5 points" if found.within is Within.YES else "whether by more than 5 is open"
        )
        return f"it is worse, {open_or_not}"
    if found.within is Within.YES:
        return "it is at most 5 points worse, if at all"
    return "whether it is more than 5 points worse is open"


def p_words(p_value: float) -> str:
    """``= 0.04``, or ``< 0.001``."""
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.2g}"
