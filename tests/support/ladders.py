"""Learned ladders, made by hand: what decides is what a verifier or a judge says."""

from __future__ import annotations

from itertools import combinations

from batcher.routing.ladder.answer_scorer import AnswerScorer, ModelHabits
from batcher.routing.ladder.goals import Goal
from batcher.routing.ladder.policy import Evidence, LadderPolicy, Step
from tests.support.runs import JUDGE, MODEL


def checked_policy(
    *, verifies: bool = False, judge: str | None = None, steps: tuple[str, ...] = (MODEL, JUDGE)
) -> LadderPolicy:
    """A ladder whose answers stand if what looks at them says more than 0.5; it promises 90 %."""

    def scorer(*models: str) -> AnswerScorer:
        return AnswerScorer(
            models=models,
            bias=0.0,
            votes=tuple(float(place) for place, _ in enumerate(models)),
            confidence=(0.0,) * len(models),
            reliability=0.0,
            lift=0.0,
            ease=0.0,
            text_length=0.0,
            answer_length=0.0,
            answer_lengths=(0.0, 0.0),
            verified=3.0 * verifies,
            verified_at=(0.5, 0.5),
            judged=0.0 if judge is None else 3.0,
            judged_at=(0.5, 0.5),
        )

    places = range(len(steps))
    bought = [chosen for count in range(1, len(steps) + 1) for chosen in combinations(places, count)]
    return LadderPolicy(
        steps=(*(Step(name, 0.5) for name in steps[:-1]), Step(steps[-1], 0.0)),
        goal=Goal.of_accuracy(0.9),
        reached=True,
        text=None,
        habits={name: ModelHabits(0.8, (0.0, 0.0), {}) for name in steps},
        scorers={chosen: scorer(*(steps[place] for place in chosen)) for chosen in bought},
        entries=(),
        skips=0.0,
        evidence=Evidence(300, 0.92, 0.88, 0.95, 100_000.0, 1_000.0, steps[-1], 0.95, 400_000.0),
        verifies=verifies,
        judge=judge,
        options=() if judge is None else ("--judge", judge),
    )
