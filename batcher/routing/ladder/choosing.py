"""Choosing one plan of many for a goal, and judging the choice on rows that had no part in it: numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
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

_LEVELS: Final = 64
"""Of accuracy that are tried for a target."""


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
    """A chosen plan, by its number, the evidence for it, and whether that reaches the goal."""

    plan: int
    judged: Judged
    reached: bool


def _cost(choice: Choice) -> float:
    return choice.judged.cost_nusd


class Chooser:
    """Chooses among plans."""

    def __init__(self, plans: Plans, part_sizes: Floats) -> None:
        self._plans, self._sizes = plans, part_sizes
        self._total = plans.sums.sum(axis=1)
        self._rows = float(part_sizes.sum())

    def choose(self, goal: Goal) -> Choice:
        """The best plan for this goal.

        What a plan is credited with is careful; what choosing shows on rows that had no part in it is now and
        then too good by chance. For a target accuracy both have to reach it, or, where they never do, the
        second. Then the cheapest counts of all that are no less accurate on such rows.
        """
        if goal.spend_nusd is not None:
            spend = goal.spend_nusd
            judged = self._judge(lambda sums, rows: self._best_within(sums, rows, spend))
            plan = self._best_within(self._total, self._rows, spend)
            return Choice(plan, judged, judged.cost_nusd <= spend + 2 * judged.cost_error_nusd)
        target = goal.accuracy or 0.0
        tried = [*self._tried, (target, self._at_level(target))]
        wanted = target * self._rows
        reaching = [(level, choice) for level, choice in tried if choice.judged.right >= wanted]
        careful = [choice for level, choice in reaching if level >= target]
        if careful:
            least: float = min(careful, key=_cost).judged.right
        else:
            least = wanted if reaching else max(choice.judged.right for _, choice in tried)
        chosen = min((choice for _, choice in tried if choice.judged.right >= least), key=_cost)
        return replace(chosen, reached=chosen.judged.right >= wanted)

    @cached_property
    def _tried(self) -> list[tuple[float, Choice]]:
        """Levels of accuracy, and the cheapest plan above each.

        They are the levels of the plans that are better than every cheaper one.
        """
        cost, value = self._total[:, COST], self._value(self._total, self._rows)
        order = np.lexsort((-value, cost))
        best_so_far = np.maximum.accumulate(value[order])
        frontier = order[np.r_[True, best_so_far[1:] > best_so_far[:-1]]]
        spread = np.linspace(0, len(frontier) - 1, min(len(frontier), _LEVELS)).round().astype(int)
        return [(level, self._at_level(level)) for level in map(float, value[frontier[spread]])]

    def _at_level(self, level: float) -> Choice:
        def choose(sums: Floats, rows: float) -> int:
            return self._cheapest_above(sums, rows, level)

        return Choice(choose(self._total, self._rows), self._judge(choose), reached=False)

    def _judge(self, choose: Callable[[Floats, float], int]) -> Judged:
        """What a way of choosing, given sums over rows and their number, does on rows it has not seen."""
        found = np.zeros(4)
        for part in range(PARTS):
            without = self._total - self._plans.sums[:, part]
            plan = choose(without, self._rows - float(self._sizes[part]))
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
