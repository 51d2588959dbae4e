"""Learns a text scorer from golden rows. Imports numpy, scipy and scikit-learn: for calibration only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression, Ridge

from batcher.routing.ladder.golden_table import Floats, GoldenTable, Numbers
from batcher.routing.ladder.ngrams import BUCKETS, text_pieces
from batcher.routing.ladder.text_scorer import LEAST_LOG_PROBABILITY, TextScorer

FOLDS: Final = 5

_LEAST_ROWS_WITH_A_PIECE: Final = 2
_MOST_PIECES: Final = 6_000
_LOOSENESS: Final = 100.0
_RIDGE: Final = 3.0
_DIGITS: Final = 4


@dataclass(frozen=True)
class LearnedText:
    """Each golden row's text as seen by a scorer that was learned from the other rows.

    Attributes:
        lift: rows x models: what the text says for the model's answer.
        ease: rows, standardised.
        length: rows, standardised.
        scorer: learned from all rows.
    """

    lift: Floats
    ease: Floats
    length: Floats
    scorer: TextScorer


@dataclass(frozen=True)
class _Fit:
    """Weights over pieces, pieces x outputs, and intercepts; the classes' scores first, the ease last."""

    pieces: Numbers
    weights: Floats
    intercepts: Floats

    def outputs(self, texts: csr_matrix) -> Floats:
        return np.asarray(texts[:, self.pieces] @ self.weights) + self.intercepts


def learn_text(table: GoldenTable, folds: Numbers) -> LearnedText:
    """Learn from all rows, and for each fold from the others."""
    texts = _pieces(table.texts)
    outputs = np.zeros((table.rows, len(table.classes) + 1))
    for fold in range(FOLDS):
        inside = folds != fold
        outputs[~inside] = _fit(table, texts, np.flatnonzero(inside)).outputs(texts[~inside])
    whole = _fit(table, texts, np.arange(table.rows))
    length = np.log1p([len(text) for text in table.texts])
    ease_scale, length_scale = _scale(outputs[:, -1]), _scale(length)
    priors = _priors(table, np.arange(table.rows))
    scorer = TextScorer(
        classes=table.classes,
        priors=tuple(_rounded(priors)),
        intercepts=tuple(_rounded(whole.intercepts)),
        weights=_strongest(whole),
        ease=ease_scale,
        length=length_scale,
    )
    return LearnedText(
        lift=_lift(table, outputs[:, :-1], priors),
        ease=standardised(outputs[:, -1], ease_scale),
        length=standardised(length, length_scale),
        scorer=scorer,
    )


def standardised(values: Floats, scale: tuple[float, float]) -> Floats:
    """``text_scorer.standardised`` for an array."""
    centre, spread = scale
    return np.clip((values - centre) / spread, -4.0, 4.0) if spread > 0 else np.zeros_like(values)


def _scale(values: Floats) -> tuple[float, float]:
    spread = float(values.std())
    return float(values.mean()), spread if spread > 1e-9 else 0.0


def _pieces(texts: Sequence[str]) -> csr_matrix:
    """Rows x buckets, each row's pieces at 1 over the root of their number."""
    found = [sorted(text_pieces(text)) for text in texts]
    ends = np.cumsum([0, *(len(one) for one in found)])
    values = np.concatenate([np.full(len(one), len(one) ** -0.5) for one in found if one] or [np.zeros(0)])
    columns = np.concatenate([np.array(one, dtype=np.int32) for one in found])
    return csr_matrix((values, columns, ends), shape=(len(texts), BUCKETS))


def _fit(table: GoldenTable, texts: csr_matrix, rows: Numbers) -> _Fit:
    mine = texts[rows]
    seen = np.bincount(mine.indices, minlength=BUCKETS)
    pieces = np.flatnonzero(seen >= _LEAST_ROWS_WITH_A_PIECE)
    mine = mine[:, pieces]
    weights = np.zeros((len(pieces), len(table.classes) + 1))
    intercepts = np.zeros(len(table.classes) + 1)
    if not len(pieces):
        intercepts[:-1] = np.log(_priors(table, rows))
        intercepts[-1] = table.correct[rows].mean()
        return _Fit(pieces, weights, intercepts)
    ease = Ridge(alpha=_RIDGE).fit(mine, table.correct[rows].mean(axis=1))
    weights[:, -1], intercepts[-1] = ease.coef_, ease.intercept_
    known = table.gold_class[rows] >= 0
    classes = table.gold_class[rows][known]
    if table.classes:
        model = LogisticRegression(C=_LOOSENESS, max_iter=200, tol=1e-3).fit(mine[known], classes)
        _spread_classes(model, weights, intercepts)
    return _Fit(pieces, weights, intercepts)


def _spread_classes(model: Any, weights: Floats, intercepts: Floats) -> None:
    """Write each class's weights; of two classes scikit-learn keeps the second's only."""
    if len(model.classes_) == 2:
        weights[:, model.classes_[1]], intercepts[model.classes_[1]] = model.coef_[0], model.intercept_[0]
    else:
        weights[:, model.classes_], intercepts[model.classes_] = model.coef_.T, model.intercept_
    for absent in set(range(len(intercepts) - 1)) - set(model.classes_):
        intercepts[absent] = LEAST_LOG_PROBABILITY


def _priors(table: GoldenTable, rows: Numbers) -> Floats:
    counts = np.bincount(table.gold_class[rows][table.gold_class[rows] >= 0], minlength=len(table.classes))
    return (counts + 1.0) / (counts.sum() + len(table.classes)) if table.classes else np.zeros(0)


def _lift(table: GoldenTable, scores: Floats, priors: Floats) -> Floats:
    if not table.classes:
        return np.zeros_like(table.correct)
    top = scores.max(axis=1, keepdims=True)
    logs = scores - top - np.log(np.exp(scores - top).sum(axis=1, keepdims=True))
    lift = np.maximum(logs, LEAST_LOG_PROBABILITY) - np.log(priors)
    with_the_least = np.hstack([lift, lift.min(axis=1, keepdims=True)])
    return np.asarray(np.take_along_axis(with_the_least, table.class_of_form[table.answer], axis=1))


def _strongest(fit: _Fit) -> dict[int, tuple[float, ...]]:
    strength = np.abs(fit.weights).max(axis=1)
    kept = np.sort(np.argsort(-strength, kind="stable")[:_MOST_PIECES])
    return {int(fit.pieces[one]): tuple(_rounded(fit.weights[one])) for one in kept}


def _rounded(values: Floats) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in values]
