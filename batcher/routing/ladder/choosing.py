"""Choosing one plan of many for a goal, and judging the choice on rows that had no part in it: numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from batcher.routing.ladder.goals import Goal
from batcher.routing.ladder.golden_table import Floats
from batcher.routing.ladder.plans import COST, PARTS, RIGHT, SQUARED_COST, VALUE, Plans

_STEP_COSTS: Final = 0.3
"""Standard errors of accuracy that each further model, and a way in by text, must gain to be chosen."""

_TIE: Final = 0.1
"""Plans at most so many standard errors of accuracy behind the best are as good; the cheapest of them
is chosen. Money that buys no more than that is not spent."""

_CORRECTIONS: Final = 3


@dataclass(frozen=True, slots=True)
class Judged:
    """What a way of choosing does on rows that had no part in the choice.

    Attributes:
        rows: how many rows.
        right: how many right answers.
        cost_nusd: mean of a document.
        cost_error_nusd: its standard error.
    """

    rows: int
    right: int
    cost_nusd: float
    cost_error_nusd: float


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen plan, by its number, and the evidence for it."""

    plan: int
    judged: Judged
    reached: bool


class Chooser:
    """Chooses among plans."""

    def __init__(self, plans: Plans, part_sizes: Floats) -> None:
        self._plans, self._sizes = plans, part_sizes
        self._total = plans.sums.sum(axis=1)
        self._rows = float(part_sizes.sum())

    def choose(self, goal: Goal) -> Choice:
        """The best plan for this goal.

        A target accuracy is raised by what the choice is too hopeful, as judged on rows that had no part in
        it, so that what is promised is what such rows show.
        """
        if goal.spend_nusd is not None:
            plan = self._best_within(self._total, self._rows, goal.spend_nusd)
            judged = self._judge(goal)
            return Choice(plan, judged, judged.cost_nusd <= goal.spend_nusd + 2 * judged.cost_error_nusd)
        wanted = asked = goal.accuracy or 0.0
        for _ in range(_CORRECTIONS):
            judged = self._judge(Goal(accuracy=asked))
            missing = wanted - judged.right / judged.rows
            if missing <= 0:
                break
            asked += missing
        plan = self._cheapest_above(self._total, self._rows, asked)
        judged = self._judge(Goal(accuracy=asked))
        return Choice(plan, judged, judged.right / judged.rows >= wanted)

    def _judge(self, goal: Goal) -> Judged:
        found = np.zeros(4)
        for part in range(PARTS):
            without = self._total - self._plans.sums[:, part]
            rows = self._rows - float(self._sizes[part])
            if goal.spend_nusd is not None:
                plan = self._best_within(without, rows, goal.spend_nusd)
            else:
                plan = self._cheapest_above(without, rows, goal.accuracy or 0.0)
            found += self._plans.sums[plan, part]
        cost = found[COST] / self._rows
        variance = max(0.0, found[SQUARED_COST] / self._rows - cost * cost)
        return Judged(
            round(self._rows), round(found[RIGHT]), float(cost), float((variance / self._rows) ** 0.5)
        )

    def _value(self, sums: Floats, rows: float) -> Floats:
        """The accuracy that a plan is credited with: less for one that is not simple."""
        value = sums[:, VALUE] / rows
        error = np.sqrt(np.clip(value * (1 - value), 0.0, None) / rows)
        return np.asarray(value - _STEP_COSTS * error * self._plans.complexity)

    def _best_within(self, sums: Floats, rows: float, spend_nusd: float) -> int:
        cost = sums[:, COST] / rows
        error = np.sqrt(np.clip(sums[:, SQUARED_COST] / rows - cost * cost, 0.0, None) / rows)
        single = self._plans.complexity == 0
        fits = cost + np.where(single, -2.0, 1.0) * error <= spend_nusd
        if not fits.any():
            return int(np.argmin(cost))
        value = np.where(fits, self._value(sums, rows), -np.inf)
        best = value.max()
        tied = value >= best - _TIE * (max(0.0, best * (1 - best)) / rows) ** 0.5
        return int(np.lexsort((-value, np.where(tied, cost, np.inf)))[0])

    def _cheapest_above(self, sums: Floats, rows: float, accuracy: float) -> int:
        cost, value = sums[:, COST] / rows, self._value(sums, rows)
        enough = value >= accuracy
        if not enough.any():
            return int(np.lexsort((cost, -value))[0])
        return int(np.argmin(np.where(enough, cost, np.inf)))
