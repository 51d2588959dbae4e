"""Golden rows whose best ladder is known, because they were made so."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from batcher.routing.ladder.records import GoldenRow, RecordedAnswer

CLASSES = ("alpha", "beta", "gamma", "delta")


@dataclass(frozen=True)
class Made:
    """How a made model behaves: its accuracy, what a call costs, and whether its log-probability tells.

    A telling one is unsure whenever it errs, a hinting one mostly.
    """

    accuracy: float
    cost_nusd: int
    telling: bool = False
    hinting: bool = False


def made_rows(
    count: int,
    models: Mapping[str, Made],
    seed: int = 0,
    text: Callable[[random.Random, str], str] = lambda chance, gold: f"document {chance.random():.6f}",
) -> list[GoldenRow]:
    """Rows of four classes; models err independently of each other."""
    chance = random.Random(seed)
    rows = []
    for number in range(count):
        gold = chance.choice(CLASSES)
        answers = {}
        for name, made in models.items():
            right = chance.random() < made.accuracy
            said = gold if right else chance.choice([one for one in CLASSES if one != gold])
            sure = chance.uniform(-0.05, -0.001) if right or not made.telling else chance.uniform(-2.0, -0.5)
            if made.hinting:
                sure = -chance.expovariate(8.0 if right else 2.0)
            answers[name] = RecordedAnswer(said, right, made.cost_nusd, sure)
        rows.append(GoldenRow(str(number), text(chance, gold), gold, answers))
    return rows


def checked_rows(
    rows: list[GoldenRow], models: Sequence[str], *, by: str, hits: float = 1.0, cost_nusd: int = 0
) -> list[GoldenRow]:
    """The rows with a word on the answers of these models that is true in a share ``hits`` of cases.

    Args:
        rows: the rows.
        models: whose answers are looked at.
        by: ``verified`` or ``judged``.
        hits: how often the word fits.
        cost_nusd: what a judge's word costs.
    """
    chance = random.Random(7)

    def checked(one: RecordedAnswer) -> RecordedAnswer:
        said = float(one.correct == (chance.random() < hits))
        if by == "verified":
            return replace(one, verified=said)
        return replace(one, judged=said, judging_nusd=cost_nusd)

    return [
        replace(
            row,
            answers={name: checked(one) if name in models else one for name, one in row.answers.items()},
        )
        for row in rows
    ]
