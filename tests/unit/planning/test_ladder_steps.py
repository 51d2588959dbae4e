"""How many answers are expected of each step of a learned ladder."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batcher.planning.ladder_steps import step_shares
from batcher.routing.ladder.policy import LadderPolicy
from tests.support.ladders import checked_policy

COSTS = {"a": 100.0, "b": 400.0, "c": 2_000.0}


def ladder(*steps: str, cost_nusd: float) -> LadderPolicy:
    policy = checked_policy(steps=steps)
    by_model = {name: (cost, 0.9) for name, cost in COSTS.items()}
    return replace(policy, evidence=replace(policy.evidence, cost_nusd=cost_nusd, by_model=by_model))


@pytest.mark.parametrize(
    ("policy", "shares"),
    [
        (ladder("a", cost_nusd=100.0), [1.0]),
        (ladder("a", "b", cost_nusd=100.0 + 0.3 * 400.0), [0.7, 0.3]),
        (ladder("a", "b", cost_nusd=90.0), [1.0, 0.0]),
        (ladder("a", "b", cost_nusd=900.0), [0.0, 1.0]),
        (ladder("a", "b", "c", cost_nusd=100.0 + 0.5 * 400.0 + 0.25 * 2_000.0), [0.5, 0.25, 0.25]),
        (replace(ladder("a", "b", cost_nusd=250.0), skips=0.4), [0.6, 0.4]),
        (checked_policy(steps=("a", "b")), [1.0, 0.0]),
    ],
)
def test_so_many_go_on_as_make_the_steps_cost_what_they_did(
    policy: LadderPolicy, shares: list[float]
) -> None:
    assert step_shares(policy, {}) == pytest.approx(shares, abs=1e-6)
    assert sum(step_shares(policy, {})) == pytest.approx(1)


def test_earlier_jobs_tell_better_where_documents_end() -> None:
    policy = ladder("a", "b", "c", cost_nusd=500.0)
    assert step_shares(policy, {"a": 70, "b": 26, "c": 4, "d": 9}) == [0.7, 0.26, 0.04]
    assert step_shares(policy, {"a": 7, "c": 4}) == step_shares(policy, {})
