"""What is to be expected of a learned ladder: how many answers each step gives, what its judge may cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from batcher.catalog.models import Catalog
from batcher.planning.fit import BYTES_PER_TOKEN, Fit
from batcher.planning.naming import tier_of
from batcher.planning.requests import fit_of
from batcher.planning.sizes import Size
from batcher.quality.judge import judge_spec
from batcher.routing.ladder.policy import LadderPolicy
from batcher.tasks.spec import TaskSpec

_HALVINGS: Final = 40

KNOWN_ENOUGH: Final = 20
"""So many documents that climbed tell better where they end than a reckoning does."""


def step_shares(policy: LadderPolicy, answered: Mapping[str, int]) -> list[float]:
    """The share of answers that each step is likely to give; they add up to 1.

    As it was in earlier jobs, if there were some. Else reckoned from what a document cost on the known
    answers: of those that a step is asked about, as many go on as make the steps cost that together. Without
    the prices of its models all is left to the first step.

    Args:
        policy: the ladder.
        answered: how many documents ended on each of its models so far.
    """
    count = len(policy.steps)
    ended = [answered.get(name, 0) for name in policy.models]
    if sum(ended) >= KNOWN_ENOUGH:
        return [one / sum(ended) for one in ended]
    if policy.skips and count == 2:
        return [1 - policy.skips, policy.skips]
    known = policy.evidence.by_model
    costs = [known[name][0] for name in policy.models if name in known]
    if len(costs) < count:
        return [1.0] + [0.0] * (count - 1)
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        goes_on = (low + high) / 2
        is_less = sum(cost * goes_on**step for step, cost in enumerate(costs)) < policy.evidence.cost_nusd
        low, high = (goes_on, high) if is_less else (low, goes_on)
    stays = [low**step * (1 - low) for step in range(count - 1)]
    return [*stays, low ** (count - 1)]


def judge_bound_nusd(
    policy: LadderPolicy, fits: Sequence[Fit], sizes: Sequence[Size], catalog: Catalog
) -> int:
    """What is reserved for a ladder's judge if it looks at every answer that it may; 0 without one.

    Args:
        policy: the ladder.
        fits: its steps.
        sizes: the documents that climb it.
        catalog: the models in force.
    """
    model = None if policy.judge is None else catalog.models.get(policy.judge)
    if model is None or not fits:
        return 0
    judging: TaskSpec = judge_spec(replace(fits[0].spec, judged=False), tier_of(catalog, model.name))
    judge = fit_of(judging, model, catalog)
    return sum(
        size.items * judge.first_calls_nusd(size.text_bytes + BYTES_PER_TOKEN * step.output_tokens, 0)
        for size in sizes
        for step in fits[:-1]
    )
