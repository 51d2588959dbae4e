"""What models cost at given tokens and volume: a request, a month, a correct answer, and a mix of models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from batcher.catalog.models import Model
from batcher.domain import Prices, Usage
from batcher.money import cost_nusd
from batcher.planning.history import History, Measured, MeasuredAccuracy

DAYS_PER_MONTH: Final = Fraction(365, 12)
"""A month is a twelfth of a year: 730 hours, which is what a GPU at $2 an hour is rented for at $1,460."""

_ENOUGH_CALLS: Final = 3
"""Fewer measured calls say nothing of a task's tokens."""


@dataclass(frozen=True, slots=True)
class Volume:
    """So many requests a day or a month."""

    count: Fraction
    per: Literal["day", "month"]

    @property
    def per_day(self) -> Fraction:
        """Requests a day."""
        return self.count if self.per == "day" else self.count / DAYS_PER_MONTH

    @property
    def per_month(self) -> Fraction:
        """Requests a month."""
        return self.count if self.per == "month" else self.count * DAYS_PER_MONTH


@dataclass(frozen=True, slots=True)
class Tokens:
    """What one request takes in and gives out, tokens."""

    input: int
    output: int

    @property
    def total(self) -> int:
        """Both together."""
        return self.input + self.output


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How often answers are right.

    Attributes:
        share: 0 to 1.
        measured: the scored answers that it rests on; None if the user said it.
    """

    share: Fraction
    measured: MeasuredAccuracy | None = None


@dataclass(frozen=True, slots=True)
class CostLine:
    """One model at given tokens.

    Attributes:
        name: the model's, or the name that the user gave to a price.
        prices: what it charges.
        tokens: of a request.
        model: None for a price given by hand.
        accuracy: None where nobody knows.
        extra_share: what repairs and retries cost on top of first calls, as was measured; else 0.
    """

    name: str
    prices: Prices
    tokens: Tokens
    model: Model | None = None
    accuracy: Accuracy | None = None
    extra_share: Fraction = Fraction(0)

    @property
    def request_nusd(self) -> int:
        """What one call costs, without a cache's discount."""
        usage = Usage(input_tokens=self.tokens.input, output_tokens=self.tokens.output)
        return cost_nusd(usage, self.prices)

    @property
    def answer_nusd(self) -> Fraction:
        """What one answer costs, its repairs and retries included."""
        return self.request_nusd * (1 + self.extra_share)

    @property
    def correct_nusd(self) -> Fraction | None:
        """What one correct answer costs; None where accuracy is unknown, or nothing was right."""
        if self.accuracy is None or not self.accuracy.share:
            return None
        return self.answer_nusd / self.accuracy.share

    @property
    def fits(self) -> bool:
        """Whether one call of the model can hold these tokens; a price given by hand knows no limits."""
        model = self.model
        return model is None or (
            self.tokens.total <= model.context and self.tokens.output <= model.max_output
        )


@dataclass(frozen=True, slots=True)
class Mix:
    """Requests that a router sends to several models.

    Attributes:
        parts: each model with its share of the requests; the shares add up to 1.
        router_nusd: what the router's own decision costs, per request.
    """

    parts: tuple[tuple[CostLine, Fraction], ...]
    router_nusd: int = 0

    @property
    def name(self) -> str:
        """For people: ``70 % mini, 30 % sonnet``."""
        return ", ".join(f"{float(share * 100):g} % {line.name}" for line, share in self.parts)

    @property
    def request_nusd(self) -> Fraction:
        """What a request costs on average, the router included."""
        return sum((share * line.request_nusd for line, share in self.parts), Fraction(self.router_nusd))

    @property
    def accuracy(self) -> Fraction | None:
        """The share of right answers, if that of every part is known."""
        shares = [line.accuracy.share * share for line, share in self.parts if line.accuracy is not None]
        return sum(shares, Fraction(0)) if len(shares) == len(self.parts) else None

    @property
    def correct_nusd(self) -> Fraction | None:
        """What one correct answer costs; None where that is not known."""
        if not self.accuracy:
            return None
        answers = sum((share * line.answer_nusd for line, share in self.parts), Fraction(self.router_nusd))
        return answers / self.accuracy

    def saved_share(self, against: CostLine) -> Fraction | None:
        """What it saves against one model alone, negative if it costs more; None if that one is free."""
        if not against.request_nusd:
            return None
        return 1 - self.request_nusd / against.request_nusd

    def dearest(self) -> CostLine:
        """The part whose requests cost most."""
        return max((line for line, _ in self.parts), key=lambda line: line.request_nusd)


def cheapest_first(lines: Sequence[CostLine]) -> list[CostLine]:
    """In the order of what a request costs, then by name."""
    return sorted(lines, key=lambda line: (line.request_nusd, line.name))


def whole_nusd(amount: Fraction) -> int:
    """Nano-dollars, rounded up."""
    return math.ceil(amount)


def measured_accuracy(history: History, model: str) -> Accuracy | None:
    """How often a model's scored answers to a task were right; None if none was scored."""
    found = history.accuracies.get(model)
    return None if found is None else Accuracy(Fraction(found.interval.share), found)


def measured_extra(history: History, model: str) -> Fraction:
    """What repairs and retries cost a model on top of its first calls to a task, as a share."""
    found = history.same_task.get(model)
    return Fraction(0) if found is None or found.asks < _ENOUGH_CALLS else Fraction(found.extra_share)


def measured_tokens(history: History) -> Tokens | None:
    """What a first call to a task took and gave on average, over all models; None if hardly any was made."""
    total = sum(history.same_task.values(), Measured())
    if total.first_calls < _ENOUGH_CALLS:
        return None
    return Tokens(
        round(total.input_tokens / total.first_calls), round(total.output_tokens_all / total.first_calls)
    )
