"""Learns answer scorers: how likely each distinct answer of a set of models is right. Imports numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from batcher.routing.ladder.answer_scorer import AnswerScorer, ModelHabits
from batcher.routing.ladder.golden_table import Floats, GoldenTable, Numbers, Truths
from batcher.routing.ladder.text_learning import FOLDS, LearnedText, standardised

_STIFFNESS: Final = 1.0
"""Of the ridge on every coefficient: a normal prior of spread 1, in log-odds per standard deviation."""

_ALIKE: Final = 10.0
"""Of the ridge on how models differ in their votes, and in their confidence: models are held to be much alike
until many rows say otherwise. A few hundred rows make one model of many look better than it is."""

_NEWTON_STEPS: Final = 30
_CREDIT: Final = 5.0
_LEAST_TIMES: Final = 20
"""How often a model must have given an answer before its reliability on that answer counts by itself."""


@dataclass(frozen=True)
class Habits:
    """The habits of all models over some rows, as arrays.

    Attributes:
        accuracy: models.
        centre: models: mean confidence.
        spread: models: its standard deviation, 0 without log-probabilities.
        reliability: models x normal forms.
        lengths: mean and standard deviation of the answers' lengths.
        verified: the same of what the verifier says.
        judged: the same of what a judge says.
    """

    accuracy: Floats
    centre: Floats
    spread: Floats
    reliability: Floats
    lengths: tuple[float, float]
    verified: tuple[float, float]
    judged: tuple[float, float]


def habits_over(table: GoldenTable, rows: Numbers) -> Habits:
    """Measure every model's habits over these rows."""
    models = len(table.models)
    accuracy = (table.correct[rows].sum(axis=0) + 1) / (len(rows) + 2)
    reliability = np.zeros((models, len(table.forms)))
    centre, spread = np.zeros(models), np.zeros(models)
    for model in range(models):
        given = table.answer[rows, model]
        times = np.bincount(given, minlength=len(table.forms))
        right = np.bincount(given, weights=table.correct[rows, model], minlength=len(table.forms))
        share = (right + _CREDIT * accuracy[model]) / (times + _CREDIT)
        often = times >= _LEAST_TIMES
        reliability[model, often] = _log_odds(share[often]) - _log_odds(accuracy[model])
        known = table.confidence[rows, model]
        known = known[~np.isnan(known)]
        if len(known) and known.std() > 1e-9:
            centre[model], spread[model] = known.mean(), known.std()
    return Habits(
        accuracy,
        centre,
        spread,
        reliability,
        _scale(table.answer_length[rows]),
        _scale(table.verified[rows]),
        _scale(table.judged[rows]),
    )


def _scale(values: Floats) -> tuple[float, float]:
    """Mean and standard deviation of what is known of these."""
    known = values[~np.isnan(values)]
    if not len(known):
        return 0.0, 0.0
    spread = float(known.std())
    return float(known.mean()), spread if spread > 1e-9 else 0.0


def models_habits(table: GoldenTable, habits: Habits, model: int) -> ModelHabits:
    """One model's habits in the form that is stored."""
    often = np.flatnonzero(habits.reliability[model])
    return ModelHabits(
        accuracy=float(habits.accuracy[model]),
        confidence=(float(habits.centre[model]), float(habits.spread[model])),
        reliability={table.forms[form]: float(habits.reliability[model, form]) for form in often},
    )


def _log_odds(share: Floats) -> Floats:
    return np.asarray(np.log(share) - np.log1p(-share))


@dataclass(frozen=True)
class Candidates:
    """The distinct answers of some models to some rows.

    Attributes:
        features: rows x models x features: of each model's answer.
        first: rows x models: whether no earlier model gave the same answer; the others are left out.
        right: rows x models.
        same: rows x models x models: who gave the same answer as whom.
        stiffness: features x features: the ridge that holds their coefficients.
    """

    features: Floats
    first: Truths
    right: Floats
    same: Truths
    stiffness: Floats


def candidates(
    table: GoldenTable,
    text: LearnedText,
    habits: Habits,
    models: Sequence[int],
    rows: Numbers,
    judged: Sequence[int] = (),
) -> Candidates:
    """Describe the answers of ``models`` to ``rows`` as ``answer_scorer.AnswerScorer`` sees them.

    A judge has looked at those of ``judged``.
    """
    picked = np.ix_(rows, np.array(models))
    answers = table.answer[picked]
    same = answers[:, :, None] == answers[:, None, :]
    first = ~np.tril(same, -1).any(axis=2)
    sure = np.stack(
        [
            standardised(
                np.nan_to_num(table.confidence[rows, one], nan=habits.centre[one]),
                (float(habits.centre[one]), float(habits.spread[one])),
            )
            for one in models
        ],
        axis=1,
    )
    reliability = np.stack([habits.reliability[one, table.answer[rows, one]] for one in models], axis=1)
    votes = same.astype(np.float64)
    shape = (len(rows), len(models), 1)
    columns = [
        np.ones(shape),
        votes * (len(models) > 1),
        votes * sure[:, None, :],
        (votes * reliability[:, None, :]).sum(axis=2, keepdims=True),
        text.lift[picked][:, :, None],
        np.broadcast_to(text.ease[rows][:, None, None], shape),
        np.broadcast_to(text.length[rows][:, None, None], shape),
        standardised(table.answer_length[picked], habits.lengths)[:, :, None],
    ]
    if table.is_verified:
        columns.append(_checked(table.verified[picked], habits.verified, votes))
    if judged:
        words = np.where(np.isin(models, judged), table.judged[picked], np.nan)
        columns.append(_checked(words, habits.judged, votes))
    features = np.concatenate(columns, axis=2)
    ridge = stiffness(features.shape[2], len(models))
    return Candidates(features, first, table.correct[picked], same, ridge)


def _checked(words: Floats, scale: tuple[float, float], votes: Floats) -> Floats:
    """What was said of each answer, on the average of those who gave it; 0 where nobody said anything."""
    known = votes * ~np.isnan(words)[:, None, :]
    said = known * standardised(np.nan_to_num(words), scale)[:, None, :]
    return np.asarray(said.sum(axis=2, keepdims=True) / np.maximum(1.0, known.sum(axis=2, keepdims=True)))


def stiffness(features: int, models: int = 0) -> Floats:
    """The ridge on the coefficients: on their squares, and on how the models' differ among themselves."""
    ridge = _STIFFNESS * np.eye(features)
    shared = np.full((models, models), 1 / max(1, models))
    for start in (1, 1 + models):
        block = slice(start, start + models)
        ridge[block, block] = _STIFFNESS * shared + _ALIKE * (np.eye(models) - shared)
    return ridge


def fit(found: Candidates, start: Floats | None = None) -> Floats:
    """Coefficients of the conditional logit with "none is right" at score 0, by Newton's method."""
    weights = np.zeros(found.features.shape[2]) if start is None else start.copy()
    right = found.right * found.first
    target = right / np.maximum(right.sum(axis=1, keepdims=True), 1.0)
    worth, chances = _likelihood(found, target, weights)
    for _ in range(_NEWTON_STEPS):
        flat = found.features.reshape(-1, len(weights))
        mean = (chances[:, :, None] * found.features).sum(axis=1)
        slope = (target - chances).ravel() @ flat - found.stiffness @ weights
        bend = (chances.ravel()[:, None] * flat).T @ flat - mean.T @ mean
        step = np.linalg.solve(bend + found.stiffness, slope)
        size = 1.0
        while size > 1e-3:
            better, moved = _likelihood(found, target, weights + size * step)
            if better >= worth - 1e-9:
                break
            size /= 2
        else:
            break
        gain, weights, worth, chances = better - worth, weights + size * step, better, moved
        if gain < 1e-5:
            break
    return weights


def _likelihood(found: Candidates, target: Floats, weights: Floats) -> tuple[float, Floats]:
    scores = np.where(found.first, found.features @ weights, -np.inf)
    top = np.maximum(scores.max(axis=1), 0.0)
    powers = np.exp(scores - top[:, None])
    total = powers.sum(axis=1) + np.exp(-top)
    said = np.where(target > 0, target * np.where(found.first, scores, 0.0), 0.0).sum()
    worth = said - (top + np.log(total)).sum() - 0.5 * weights @ found.stiffness @ weights
    return float(worth), powers / total[:, None]


def chances_of(found: Candidates, weights: Floats) -> Floats:
    """Rows x models: how likely each model's answer is right; 0 where an earlier one gave the same."""
    return _likelihood(found, np.zeros_like(found.right), weights)[1]


@dataclass(frozen=True)
class Outcome:
    """What the best of some models' answers was worth, by scorers learned from other rows.

    Attributes:
        chance: rows: how likely it was thought to be right.
        right: rows: whether it was.
    """

    chance: Floats
    right: Floats


class AnswerLearner:
    """Fits scorers for sets of models, and remembers what they say of rows they were not learned from."""

    def __init__(self, table: GoldenTable, text: LearnedText, folds: Numbers) -> None:
        self._table, self._text, self._folds = table, text, folds
        self._everything = np.arange(table.rows)
        self.habits = habits_over(table, self._everything)
        self._by_fold = [habits_over(table, np.flatnonzero(folds != fold)) for fold in range(FOLDS)]
        self._outcomes: dict[tuple[tuple[int, ...], tuple[int, ...]], Outcome] = {}

    def outcome(self, models: Sequence[int], judged: Sequence[int] = ()) -> Outcome:
        """Of this set of models, each row judged by a scorer that was learned without it.

        A judge has looked at the answers of ``judged``.
        """
        key = (tuple(sorted(models)), tuple(sorted(judged)))
        if key not in self._outcomes:
            self._outcomes[key] = self._cross_fitted(*key)
        return self._outcomes[key]

    def _cross_fitted(self, models: tuple[int, ...], judged: tuple[int, ...]) -> Outcome:
        chance, right = np.zeros(self._table.rows), np.zeros(self._table.rows)
        start: Floats | None = None
        for fold, habits in enumerate(self._by_fold):
            inside = np.flatnonzero(self._folds != fold)
            outside = np.flatnonzero(self._folds == fold)
            start = fit(candidates(self._table, self._text, habits, models, inside, judged), start)
            found = candidates(self._table, self._text, habits, models, outside, judged)
            chances = chances_of(found, start)
            best = chances.argmax(axis=1)
            chance[outside] = chances[np.arange(len(outside)), best]
            right[outside] = found.right[np.arange(len(outside)), best]
        return Outcome(chance, right)

    def scorer(self, models: Sequence[int], judged: Sequence[int] = ()) -> AnswerScorer:
        """For this set of models, learned from all rows; a judge looks at the answers of ``judged``."""
        found = candidates(self._table, self._text, self.habits, models, self._everything, judged)
        bias, *others = (float(one) for one in fit(found))
        count = len(models)
        reliability, lift, ease, text_length, answer_length, *checks = others[2 * count :]
        verified = checks.pop(0) if self._table.is_verified else 0.0
        return AnswerScorer(
            models=tuple(self._table.models[one] for one in models),
            bias=bias,
            votes=tuple(others[:count]),
            confidence=tuple(others[count : 2 * count]),
            reliability=reliability,
            lift=lift,
            ease=ease,
            text_length=text_length,
            answer_length=answer_length,
            answer_lengths=self.habits.lengths,
            verified=verified,
            verified_at=self.habits.verified,
            judged=checks.pop() if judged else 0.0,
            judged_at=self.habits.judged,
        )
