"""Golden rows as arrays, one column for each model. Imports numpy: for calibration only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from batcher.errors import UsageError
from batcher.routing.ladder.answer_scorer import confidence
from batcher.routing.ladder.normal_form import normal_form
from batcher.routing.ladder.records import LEAST_ROWS, GoldenRow

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]
Truths = NDArray[np.bool_]

_MOST_CLASSES: Final = 40
_LEAST_PER_CLASS: Final = 5
_MOSTLY: Final = 0.97
_MOSTLY_JUDGED: Final = 0.9


@dataclass(frozen=True)
class GoldenTable:
    """``rows`` golden rows by ``models`` models, the models in order of mean cost.

    Attributes:
        models: their names.
        texts: of the rows.
        correct: rows x models, 1.0 where the answer is right.
        cost_nusd: rows x models.
        answer: rows x models: the number of the answer's normal form.
        forms: the normal form of each such number.
        answer_length: rows x models: log(1 + characters) of the normal form.
        confidence: rows x models; NaN without log-probabilities.
        verified: rows x models: what the task's verifier says, 0 to 1; NaN where it says nothing.
        judged: rows x models: what a judge says; NaN where none was asked.
        judging_nusd: rows x models: what the judge's word cost.
        classes: normal forms of the possible answers where they are few; else empty.
        gold_class: number of each row's class; -1 where its answer is none of them.
        dropped: rows left out because an answer was missing.
    """

    models: tuple[str, ...]
    texts: tuple[str, ...]
    correct: Floats
    cost_nusd: Floats
    answer: Numbers
    forms: tuple[str, ...]
    answer_length: Floats
    confidence: Floats
    verified: Floats
    judged: Floats
    judging_nusd: Floats
    classes: tuple[str, ...]
    gold_class: Numbers
    dropped: int

    @property
    def rows(self) -> int:
        """How many golden rows there are."""
        return len(self.texts)

    @property
    def is_verified(self) -> bool:
        """Whether the task has a verifier."""
        return not bool(np.isnan(self.verified).all())

    @property
    def judged_models(self) -> frozenset[int]:
        """The models, by number, whose answers a judge has looked at."""
        known = (~np.isnan(self.judged)).mean(axis=0)
        return frozenset(int(one) for one in np.flatnonzero(known >= _MOSTLY_JUDGED))

    @property
    def class_of_form(self) -> Numbers:
        """For each normal form, the number of its class; -1 where it is none."""
        at = {name: number for number, name in enumerate(self.classes)}
        return np.array([at.get(form, -1) for form in self.forms], dtype=np.int64)


def golden_table(rows: Sequence[GoldenRow], models: Sequence[str] | None = None) -> GoldenTable:
    """Put rows into arrays.

    Args:
        rows: golden rows; those that lack an answer of one of the models are left out.
        models: which ones may be on the ladder; None for all that answered at least 90 % of the rows.

    Raises:
        UsageError: if fewer than ``LEAST_ROWS`` rows are left, or no model.
    """
    counts = Counter(name for row in rows for name in row.answers)
    names = list(models) if models is not None else [m for m, n in counts.items() if n >= 0.9 * len(rows)]
    whole = [row for row in rows if row.answers.keys() >= set(names)]
    if not names or len(whole) < LEAST_ROWS:
        raise UsageError(
            f"{len(whole)} golden rows were answered by all of {len(names)} models; "
            f"a ladder needs at least {LEAST_ROWS}, better 300"
        )
    mean_cost = {name: sum(row.answers[name].cost_nusd for row in whole) / len(whole) for name in names}
    names.sort(key=lambda name: (mean_cost[name], name))
    classes = _classes(whole, names)
    numbers: dict[str, int] = {}

    def number(text: str) -> int:
        return numbers.setdefault(normal_form(text, classes), len(numbers))

    def column(of: Any) -> Floats:
        return np.array([[of(row.answers[name]) for name in names] for row in whole], dtype=np.float64)

    answer = np.array([[number(row.answers[name].answer) for name in names] for row in whole], dtype=np.int64)
    forms = tuple(numbers)
    lengths = np.array([np.log1p(len(form)) for form in forms])
    at = {name: position for position, name in enumerate(classes)}
    return GoldenTable(
        models=tuple(names),
        texts=tuple(row.text for row in whole),
        correct=column(lambda one: one.correct),
        cost_nusd=column(lambda one: one.cost_nusd),
        answer=answer,
        forms=forms,
        answer_length=lengths[answer],
        confidence=column(lambda one: np.nan if one.logprob is None else confidence(one.logprob)),
        verified=column(lambda one: np.nan if one.verified is None else one.verified),
        judged=column(lambda one: np.nan if one.judged is None else one.judged),
        judging_nusd=column(lambda one: one.judging_nusd),
        classes=classes,
        gold_class=np.array([at.get(normal_form(row.gold or "", classes), -1) for row in whole]),
        dropped=len(rows) - len(whole),
    )


def _classes(rows: Sequence[GoldenRow], models: Sequence[str]) -> tuple[str, ...]:
    """The possible answers, if they are few and "right" means "equal to the golden one"."""
    golds = Counter(normal_form(row.gold) for row in rows if row.gold is not None)
    classes = sorted(name for name, count in golds.items() if name and count >= _LEAST_PER_CLASS)
    if not 2 <= len(classes) <= _MOST_CLASSES or sum(golds[name] for name in classes) < _MOSTLY * len(rows):
        return ()
    same = sum(
        (normal_form(row.answers[name].answer, classes) == normal_form(row.gold or "", classes))
        == row.answers[name].correct
        for row in rows
        for name in models
    )
    return tuple(classes) if same >= _MOSTLY * len(rows) * len(models) else ()
