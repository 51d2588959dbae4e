"""Walks ladders over recorded answers, and what single models would have done for the same money.

The opponent is strict: it knows the reported rows, takes the best of all single models on them, and may send
any share of the documents to one and the rest to another, which makes every spend between two models its own.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from batcher.routing.ladder.policy import LadderPolicy
from batcher.routing.ladder.records import GoldenRow, RecordedAnswer
from batcher.routing.ladder.text_scorer import TextSignals

_RESAMPLES: Final = 2_000
_MOSTLY: Final = 0.9


@dataclass(frozen=True)
class Walk:
    """What a ladder did with one document: what it spent, the answer it kept, and whom it asked."""

    cost_nusd: int
    kept: RecordedAnswer
    asked: tuple[str, ...]


def walk(policy: LadderPolicy, signals: TextSignals, row: GoldenRow) -> Walk:
    """Take one document through a ladder."""
    step, cost, answers = policy.entry(signals), 0, []
    while True:
        model = policy.steps[step].model
        given = row.answers[model]
        cost += given.cost_nusd
        judged = given.judged if policy.is_judged(step) else None
        cost += given.judging_nusd if policy.is_judged(step) else 0
        answers.append(policy.bought(model, given.answer, given.logprob, given.verified, judged))
        verdict = policy.decide(step, signals, answers)
        if verdict.stands and verdict.kept is not None:
            kept = row.answers[answers[verdict.kept].model]
            return Walk(cost, kept, tuple(one.model for one in answers))
        step += 1


def whole_rows(rows: Sequence[GoldenRow]) -> list[GoldenRow]:
    """The rows that every model answered, of those models that answered at least nine rows of ten."""
    counts = Counter(name for row in rows for name in row.answers)
    names = [name for name, count in counts.items() if count >= _MOSTLY * len(rows)]
    return [
        replace(row, answers={name: row.answers[name] for name in names})
        for row in rows
        if row.answers.keys() >= set(names)
    ]


def split_rows(rows: Sequence[GoldenRow], seed: int) -> tuple[list[int], list[int]]:
    """Numbers of the rows to calibrate on and of those to report on.

    Seed 0 is the split that the data states, if it does; other seeds draw a part of that size, else a half.
    """
    stated = [number for number, row in enumerate(rows) if row.split == "train"]
    if stated and len(stated) < len(rows) and seed == 0:
        calibrating = set(stated)
    else:
        numbers = list(range(len(rows)))
        random.Random(seed).shuffle(numbers)
        calibrating = set(numbers[: len(stated) if 0 < len(stated) < len(rows) else len(rows) // 2])
    return sorted(calibrating), [one for one in range(len(rows)) if one not in calibrating]


class FixedModels:
    """Single models, and all mixes of two of them, on some rows."""

    def __init__(self, rows: Sequence[GoldenRow]) -> None:
        self.names = sorted(set.intersection(*(set(row.answers) for row in rows)))
        self.correct = np.array([[row.answers[m].correct for m in self.names] for row in rows], dtype=float)
        self.cost_nusd = np.array(
            [[row.answers[m].cost_nusd for m in self.names] for row in rows], dtype=float
        )
        self.points = sorted(
            zip(self.cost_nusd.mean(axis=0), self.correct.mean(axis=0), range(len(self.names)), strict=True)
        )
        self.frontier = _upper_hull(self.points)

    def at(self, cost_nusd: float) -> np.ndarray[Any, Any]:
        """For each row, how often the best mix of this mean cost is right, 0 to 1."""
        costs = [cost for cost, _, _ in self.frontier]
        above = int(np.searchsorted(costs, cost_nusd))
        if above == 0:
            return self.correct[:, self.frontier[0][2]]
        if above == len(costs):
            return self.correct[:, self.frontier[-1][2]]
        (low, _, first), (high, _, second) = self.frontier[above - 1], self.frontier[above]
        share = (cost_nusd - low) / (high - low)
        return (1 - share) * self.correct[:, first] + share * self.correct[:, second]

    def oracle(self) -> tuple[float, float]:
        """Accuracy and mean cost of asking, for each row, only the cheapest model that is right on it."""
        cheapest = np.where(self.correct > 0, self.cost_nusd, np.inf).min(axis=1)
        none = np.isinf(cheapest)
        return 1 - float(none.mean()), float(np.where(none, self.cost_nusd.min(axis=1), cheapest).mean())


def _upper_hull(points: Sequence[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
    hull: list[tuple[float, float, int]] = []
    for cost, accuracy, model in points:
        if hull and accuracy <= hull[-1][1]:
            continue
        while hull and hull[-1][0] == cost:
            hull.pop()
        while len(hull) > 1 and (hull[-1][1] - hull[-2][1]) * (cost - hull[-2][0]) <= (
            accuracy - hull[-2][1]
        ) * (hull[-1][0] - hull[-2][0]):
            hull.pop()
        hull.append((cost, accuracy, model))
    return hull


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    def show(self, form: Callable[[float], str]) -> str:
        return f"{form(self.mean)} ({form(self.low)} to {form(self.high)})"


def estimate(values: np.ndarray[Any, Any], seed: int = 0) -> Estimate:
    """The mean of seeds x rows, NaN where a row was calibrated on.

    The interval is a bootstrap in both directions: seeds and rows are drawn anew, as the same row stands in
    several seeds and a seed's rows share one calibration.
    """
    known = ~np.isnan(values)
    filled, counted = np.where(known, values, 0.0), known.astype(float)
    random_numbers = np.random.default_rng(seed)
    seeds, rows = values.shape
    means = []
    for _ in range(_RESAMPLES // 100):
        by_seed = random_numbers.multinomial(seeds, np.full(seeds, 1 / seeds), size=100).astype(float)
        by_row = random_numbers.multinomial(rows, np.full(rows, 1 / rows), size=100).astype(float)
        sums = ((by_seed @ filled) * by_row).sum(axis=1)
        means.append(sums / np.maximum(((by_seed @ counted) * by_row).sum(axis=1), 1e-9))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return Estimate(float(filled.sum() / counted.sum()), float(low), float(high))
