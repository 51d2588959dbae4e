"""The door to calibration: imports what that needs, or says that it is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

from batcher.errors import ConfigurationError
from batcher.routing.ladder.goals import Goal
from batcher.routing.ladder.policy import LadderPolicy
from batcher.routing.ladder.records import GoldenRow

if TYPE_CHECKING:
    from batcher.routing.ladder.calibration import Calibration


def calibration(
    rows: Sequence[GoldenRow],
    models: Sequence[str] | None = None,
    seed: int = 0,
    judge: str | None = None,
) -> Calibration:
    """Learn from golden rows all that ladders for several goals are chosen by.

    Takes seconds: 2,000 rows of 12 models about ten, of one core.

    Args:
        rows: golden rows with the answers of several models.
        models: which of them may be on a ladder; None for all that answered nearly all rows.
        seed: of the folds; the same rows and seed give the same ladder.
        judge: the model whose word on answers the rows hold; None: no judge was asked.

    Raises:
        ConfigurationError: if scikit-learn is not installed.
        UsageError: if there are too few rows.
    """
    check_installed()
    from batcher.routing.ladder.calibration import Calibration

    return Calibration(rows, models, seed, judge)


def check_installed() -> None:
    """Refuse to learn without what learning needs.

    Raises:
        ConfigurationError: if scikit-learn is not installed.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise ConfigurationError("Learning a ladder needs scikit-learn. Run: pip install 'batcher[ladder]'")


def calibrate(
    rows: Sequence[GoldenRow],
    goal: Goal,
    models: Sequence[str] | None = None,
    seed: int = 0,
    judge: str | None = None,
) -> LadderPolicy:
    """The ladder for one goal; see :func:`calibration`."""
    return calibration(rows, models, seed, judge).ladder(goal)
