"""Every ladder with every setting of its thresholds, and what each would have done. Imports numpy.

A plan is a ladder (one to three models; a judge may look at the answers of all but the last), a share of
documents that skip its first model by their text, and a threshold after each model but the last. All plans of
a ladder are summed up at once: rows are counted into bins of their chances, and sums over "at least this
chance" are running sums over bins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from batcher.routing.ladder.answer_learning import AnswerLearner, Candidates, chances_of, fit, stiffness
from batcher.routing.ladder.golden_table import Floats, GoldenTable, Numbers, Truths
from batcher.routing.ladder.policy import EntryScorer
from batcher.routing.ladder.text_learning import FOLDS, LearnedText

PARTS: Final = 10
"""Plans are chosen on nine tenths of the rows and judged on the tenth, ten times."""

NEVER: Final = 1.0
"""A threshold that no chance reaches."""

COST, SQUARED_COST, VALUE, RIGHT = range(4)
"""What is summed over rows: nano-dollars, their squares, the value plans are chosen by, right answers."""

_SEEN: Final = 0.25
"""How much of a row's value is whether it was right; the rest is the chance that it was thought to have.

Calibrated chances vary less than outcomes do, outcomes keep them honest."""

_THRESHOLDS: Final = 24
_THRESHOLDS_OF_THREE: Final = 16
_SKIPPED: Final = {2: tuple(tenth / 10 for tenth in range(1, 10)), 3: (0.1, 0.25, 0.5)}
"""By how many models a ladder has: the shares of documents that may skip the first."""

_LOTS: Final = tuple(twentieth / 20 for twentieth in range(1, 20))


@dataclass(frozen=True)
class Ladder:
    """Models in the order in which they are asked, by number.

    Attributes:
        models: their numbers.
        judged: whether a judge looks at answers before they stand. It looks at none of the last model's:
            they stand whatever it says.
    """

    models: tuple[int, ...]
    judged: bool = False

    def judged_of(self, bought: Sequence[int]) -> tuple[int, ...]:
        """Those of these models whose answers a judge has looked at."""
        return tuple(one for one in bought if self.judged and one != self.models[-1])


@dataclass(frozen=True)
class Plans:
    """Many plans side by side.

    Attributes:
        models: plans x 3: the models' numbers; -1 where the ladder has ended.
        stands_at: plans x 2: the thresholds after the first and the second model.
        enters_at: plans: the first model is skipped under this chance; 0 where it is never skipped so.
        skips: plans: the share of documents that skip the first model by lot.
        judged: plans: whether a judge looks at answers before they stand.
        sums: plans x PARTS x 4: over the rows of each part.
    """

    models: Numbers
    stands_at: Floats
    enters_at: Floats
    skips: Floats
    judged: Truths
    sums: Floats

    @property
    def complexity(self) -> Numbers:
        """Of each plan: its models less one, one if documents may skip the first, one for a judge."""
        ways_in = self.enters_at + self.skips > 0
        return np.asarray((self.models >= 0).sum(axis=1) - 1 + ways_in + self.judged, dtype=np.int64)


@dataclass(frozen=True)
class _Stop:
    """Rows that stop after certain models: their chance, and per row what is summed."""

    chance: Floats
    worth: Floats


class Planner:
    """Sums up the plans of ladders over the golden rows."""

    def __init__(
        self, table: GoldenTable, text: LearnedText, learner: AnswerLearner, folds: Numbers, parts: Numbers
    ):
        self._table, self._text, self._learner, self._folds = table, text, learner, folds
        self._parts = parts
        self._entries: dict[int, Floats] = {}

    def plans(self, ladder: Ladder) -> Iterator[Plans]:
        """Every setting of this ladder; first those in which no document skips the first model."""
        models = ladder.models
        yield self._settings(ladder, 0.0)
        if len(models) == 2 and not ladder.judged:
            yield self._by_lot(models)
        if len(models) > 1:
            chances = self.entry_chances(models[0])
            for enters_at in sorted({float(np.quantile(chances, share)) for share in _SKIPPED[len(models)]}):
                if 0 < (chances < enters_at).sum() < len(chances):
                    yield self._settings(ladder, enters_at)

    def _by_lot(self, models: tuple[int, ...]) -> Plans:
        """Each document is for one of two models, whatever it says: what no signal can be worse than."""
        everything = np.ones(self._table.rows, dtype=bool)
        ladder = Ladder(models)
        low, high = (self._by_bin(self._stop(ladder, [one]).worth, everything, []) for one in models)
        shares = np.array(_LOTS)
        sums = (1 - shares)[:, None, None] * low + shares[:, None, None] * high
        return replace(self._packed(ladder, [(0.0, 0.0)] * len(shares), 0.0, sums), skips=shares)

    def entry_chances(self, model: int) -> Floats:
        """How likely each row's text makes this model right, by a scorer learned from other rows."""
        if model not in self._entries:
            chances = np.zeros(self._table.rows)
            for fold in range(FOLDS):
                outside = self._folds == fold
                chances[outside] = chances_of(
                    self._of_the_text(model, outside), fit(self._of_the_text(model, ~outside))
                )[:, 0]
            self._entries[model] = chances
        return self._entries[model]

    def entry_scorer(self, model: int) -> EntryScorer:
        """Learned from all rows."""
        everything = np.ones(self._table.rows, dtype=bool)
        return EntryScorer(*(float(one) for one in fit(self._of_the_text(model, everything))))

    def _of_the_text(self, model: int, rows: Truths) -> Candidates:
        features = np.stack(
            [np.ones(int(rows.sum())), self._text.ease[rows], self._text.length[rows]], axis=1
        )
        one = np.ones((len(features), 1), dtype=bool)
        right = self._table.correct[rows, model][:, None]
        return Candidates(features[:, None, :], one, right, one[:, :, None], stiffness(features.shape[1]))

    def _stop(self, ladder: Ladder, bought: Sequence[int]) -> _Stop:
        judged = ladder.judged_of(bought)
        outcome = self._learner.outcome(bought, judged)
        cost = self._table.cost_nusd[:, list(bought)].sum(axis=1)
        cost = cost + self._table.judging_nusd[:, list(judged)].sum(axis=1)
        value = _SEEN * outcome.right + (1 - _SEEN) * outcome.chance
        return _Stop(outcome.chance, np.stack([cost, cost * cost, value, outcome.right], axis=1))

    def _settings(self, ladder: Ladder, enters_at: float) -> Plans:
        """All thresholds of one ladder with one way in."""
        models = ladder.models
        enter = (
            self.entry_chances(models[0]) >= enters_at if enters_at > 0 else np.ones(self._table.rows, bool)
        )
        ways = _THRESHOLDS if len(models) == 2 else _THRESHOLDS_OF_THREE
        stops = [self._stop(ladder, models[: count + 1]) for count in range(len(models))]
        if len(models) == 1:
            return self._packed(ladder, [(0.0, 0.0)], 0.0, self._by_bin(stops[0].worth, enter, [])[None])
        first = _thresholds(stops[0].chance[enter], ways, stand_all=enters_at > 0)
        in_first = _bins(stops[0].chance, first)
        if len(models) == 2:
            stay = _at_least(self._by_bin(stops[0].worth, enter, [(in_first, len(first) + 1)]))
            climb = _under(self._by_bin(stops[1].worth, enter, [(in_first, len(first) + 1)]))
            skip = self._by_bin(self._stop(ladder, models[1:]).worth, ~enter, [])
            return self._packed(ladder, [(one, 0.0) for one in first], enters_at, stay + climb + skip)
        second = _thresholds(stops[1].chance, ways, stand_all=False)
        sums = self._of_three(ladder, stops, enter, in_first, first, second)
        both = [(one, two) for one in first for two in second]
        return self._packed(ladder, both, enters_at, sums.reshape(len(both), PARTS, 4))

    def _of_three(
        self,
        ladder: Ladder,
        stops: Sequence[_Stop],
        enter: Truths,
        in_first: Numbers,
        first: Sequence[float],
        second: Sequence[float],
    ) -> Floats:
        ones, twos = len(first) + 1, len(second) + 1
        in_second = _bins(stops[1].chance, second)
        stay = _at_least(self._by_bin(stops[0].worth, enter, [(in_first, ones)]))[:, None]
        grid = [(in_first, ones), (in_second, twos)]
        middle = _under(self._by_bin(stops[1].worth, enter, grid))
        top = _under(self._by_bin(stops[2].worth, enter, grid))
        sums = (
            stay + _at_least(middle.swapaxes(0, 1)).swapaxes(0, 1) + _under(top.swapaxes(0, 1)).swapaxes(0, 1)
        )
        models = ladder.models
        skipping, beyond = self._stop(ladder, models[1:2]), self._stop(ladder, models[1:])
        in_skipped = [(_bins(skipping.chance, second), twos)]
        skipped = _at_least(self._by_bin(skipping.worth, ~enter, in_skipped))
        return np.asarray(sums + (skipped + _under(self._by_bin(beyond.worth, ~enter, in_skipped)))[None])

    def _by_bin(self, worth: Floats, rows: Truths, bins: Sequence[tuple[Numbers, int]]) -> Floats:
        """Sums over the chosen rows: one axis for each binning, then parts, then what is summed."""
        shape = (*(size for _, size in bins), PARTS)
        where = np.ravel_multi_index((*(numbers[rows] for numbers, _ in bins), self._parts[rows]), shape)
        size = int(np.prod(shape))
        sums = [np.bincount(where, weights=column, minlength=size) for column in worth[rows].T]
        return np.asarray(np.stack(sums, axis=1), dtype=np.float64).reshape(*shape, worth.shape[1])

    def _packed(
        self,
        ladder: Ladder,
        stands_at: Sequence[tuple[float, float]],
        enters_at: float,
        sums: Floats,
    ) -> Plans:
        count = len(stands_at)
        padded = (*ladder.models, -1, -1)[:3]
        return Plans(
            np.tile(padded, (count, 1)),
            np.array(stands_at),
            np.full(count, enters_at),
            np.zeros(count),
            np.full(count, ladder.judged),
            sums,
        )


def _thresholds(chances: Floats, ways: int, *, stand_all: bool) -> list[float]:
    """Quantiles of the chances, and NEVER; 0 too if it makes sense that all answers stand."""
    between = np.quantile(chances, np.linspace(0, 1, ways + 1)[1:-1])
    return sorted({*([0.0] if stand_all else []), *(float(one) for one in between), NEVER})


def _bins(chances: Floats, thresholds: Sequence[float]) -> Numbers:
    """How many of the thresholds each chance reaches."""
    return np.asarray(np.searchsorted(np.array(thresholds), chances, side="right"), dtype=np.int64)


def _at_least(by_bin: Floats) -> Floats:
    """For each threshold, the sum over the bins that reach it."""
    return np.asarray(np.cumsum(by_bin[::-1], axis=0)[::-1][1:])


def _under(by_bin: Floats) -> Floats:
    """For each threshold, the sum over the bins that do not reach it."""
    return np.asarray(np.cumsum(by_bin, axis=0)[:-1])


def joined(parts: Sequence[Plans]) -> Plans:
    """All plans in one."""
    return Plans(
        np.concatenate([one.models for one in parts]),
        np.concatenate([one.stands_at for one in parts]),
        np.concatenate([one.enters_at for one in parts]),
        np.concatenate([one.skips for one in parts]),
        np.concatenate([one.judged for one in parts]),
        np.concatenate([one.sums for one in parts]),
    )
