"""From golden rows to a ladder. Imports numpy and scikit-learn; call it where nothing waits for it.

What is held against a threshold is always a chance given by scorers that were learned from other rows, and
what a ladder promises was measured on rows that had no part in choosing it. The same rows and seed give the
same ladder.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from batcher.routing.ladder.answer_learning import AnswerLearner, models_habits
from batcher.routing.ladder.answer_scorer import AnswerScorer
from batcher.routing.ladder.choosing import Choice, Chooser
from batcher.routing.ladder.goals import Goal
from batcher.routing.ladder.golden_table import Numbers, golden_table
from batcher.routing.ladder.plans import COST, PARTS, VALUE, Ladder, Planner, Plans, joined
from batcher.routing.ladder.policy import Evidence, LadderPolicy, Step
from batcher.routing.ladder.records import GoldenRow
from batcher.routing.ladder.text_learning import FOLDS, learn_text
from batcher.statistics.intervals import wilson

_MOST_IN_PAIRS: Final = 12
_MOST_IN_THREES: Final = 6
_ABOUT_EQUAL: Final = 1.25
"""Of two models whose costs differ by less than this factor, either may come first."""

_EXCHANGE_RATES: Final = 12


class Calibration:
    """Golden rows, looked at once, from which a ladder for any goal is chosen in moments.

    Args:
        rows: golden rows with the answers of several models.
        models: which of them may be on the ladder; None for all that answered nearly all rows.
        seed: of the folds.
        judge: the model whose word on answers the rows hold; None: no judge was asked.

    Raises:
        UsageError: if there are too few rows.
    """

    def __init__(
        self,
        rows: Sequence[GoldenRow],
        models: Sequence[str] | None = None,
        seed: int = 0,
        judge: str | None = None,
    ) -> None:
        self.table = golden_table(rows, models)
        self._judge = judge
        self._judged = frozenset() if judge is None else self.table.judged_models
        random = np.random.default_rng(seed)
        folds = random.permutation(self.table.rows) % FOLDS
        parts = random.permutation(self.table.rows) % PARTS
        self._text = learn_text(self.table, folds)
        self._learner = AnswerLearner(self.table, self._text, folds)
        self._planner = Planner(self.table, self._text, self._learner, folds, parts)
        self._plans = self._promising()
        self._chooser = Chooser(self._plans, np.bincount(parts, minlength=PARTS).astype(np.float64))

    def ladder(self, goal: Goal) -> LadderPolicy:
        """The ladder for a goal."""
        choice = self._chooser.choose(goal)
        models = tuple(int(one) for one in self._plans.models[choice.plan] if one >= 0)
        stands_at = [float(one) for one in self._plans.stands_at[choice.plan]][: len(models) - 1]
        enters_at = float(self._plans.enters_at[choice.plan])
        steps = tuple(
            Step(self.table.models[model], bar, enters_at if number == 0 else 0.0)
            for number, (model, bar) in enumerate(zip(models, [*stands_at, 0.0], strict=True))
        )
        alone = len(models) == 1
        ladder = Ladder(models, bool(self._plans.judged[choice.plan]))
        return LadderPolicy(
            steps=steps,
            goal=goal,
            reached=bool(choice.reached),
            text=None if alone else self._text.scorer,
            habits={
                self.table.models[one]: models_habits(self.table, self._learner.habits, one) for one in models
            },
            scorers={
                positions: self._scorer(ladder, [models[one] for one in positions])
                for size in range(1, len(models) + 1)
                for positions in itertools.combinations(range(len(models)), size)
            },
            entries=(self._planner.entry_scorer(models[0]),) if enters_at > 0 else (),
            skips=float(self._plans.skips[choice.plan]),
            evidence=self._evidence(choice),
            verifies=self.table.is_verified and not alone,
            judge=self._judge if ladder.judged else None,
        )

    def _scorer(self, ladder: Ladder, bought: Sequence[int]) -> AnswerScorer:
        return self._learner.scorer(bought, ladder.judged_of(bought))

    def _evidence(self, choice: Choice) -> Evidence:
        judged, table = choice.judged, self.table
        interval = wilson(judged.right, judged.rows)
        accuracy, cost = table.correct.mean(axis=0), table.cost_nusd.mean(axis=0)
        best = int(np.lexsort((cost, -accuracy))[0])
        return Evidence(
            rows=judged.rows,
            accuracy=interval.share,
            low=interval.low,
            high=interval.high,
            cost_nusd=judged.cost_nusd,
            cost_error_nusd=judged.cost_error_nusd,
            best_model=table.models[best],
            best_accuracy=float(accuracy[best]),
            best_cost_nusd=float(cost[best]),
            by_model={
                name: (float(cost[number]), float(accuracy[number]))
                for number, name in enumerate(table.models)
            },
        )

    def _promising(self) -> Plans:
        """All plans of one model; of two of the better models; of three of those that shine in pairs."""
        singles = [joined(list(self._planner.plans(Ladder((one,))))) for one in range(len(self.table.models))]
        few = _leading(joined(singles), _MOST_IN_PAIRS)
        pairs = [
            joined(list(self._planner.plans(ladder)))
            for pair in itertools.combinations(few, 2)
            for ladder in self._ladders(pair)
        ]
        fewer = _leading(joined([*singles, *pairs]), _MOST_IN_THREES)
        threes = [
            joined(list(self._planner.plans(ladder)))
            for three in itertools.combinations(fewer, 3)
            for ladder in self._ladders(three)
        ]
        return joined([*singles, *pairs, *threes])

    def _ladders(self, models: tuple[int, ...]) -> Iterator[Ladder]:
        """These models in every order that makes sense, without a judge and, where one was asked, with it."""
        for order in self._orders(models):
            yield Ladder(order)
            if self._judged.issuperset(order[:-1]):
                yield Ladder(order, judged=True)

    def _orders(self, models: tuple[int, ...]) -> list[tuple[int, ...]]:
        """From cheap to dear, in every order of those that cost about the same."""
        cost = self.table.cost_nusd.mean(axis=0)
        return [
            order
            for order in itertools.permutations(models)
            if all(cost[a] <= cost[b] * _ABOUT_EQUAL for a, b in itertools.pairwise(order))
        ]


def _leading(plans: Plans, most: int) -> list[int]:
    """The models, by number, of the plans that are best at some rate of exchange of money for accuracy.

    Rates run from "only accuracy counts" to "only money counts"; models of the best plans come first, then
    those of the second best ladders, and so on.
    """
    rows = plans.sums.sum(axis=1)
    cost, value = rows[:, COST], rows[:, VALUE]
    span = (cost.max() - cost.min()) or 1.0
    rates = [0.0, *np.geomspace(0.003, 30, _EXCHANGE_RATES) * max(value.max() - value.min(), 1e-9) / span]
    rankings = [_ladders_in_order(plans, value - rate * cost) for rate in rates]
    chosen: list[int] = []
    for at_this_place in itertools.zip_longest(*rankings):
        for ladder in at_this_place:
            if ladder is not None and not set(ladder) <= set(chosen):
                fresh = [one for one in ladder if one not in chosen]
                if len(chosen) + len(fresh) <= most:
                    chosen += fresh
        if len(chosen) >= most:
            break
    return sorted(chosen)


def _ladders_in_order(plans: Plans, worth: Numbers) -> list[tuple[int, ...]]:
    ladders = dict.fromkeys(
        tuple(int(one) for one in plans.models[plan] if one >= 0)
        for plan in np.argsort(-worth, kind="stable")
    )
    return list(ladders)
