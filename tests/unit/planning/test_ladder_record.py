"""What is said of a learned ladder in production, and when it falls short of its promise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batcher.planning.ladder_record import Production, _falls_short, learn_command
from batcher.quality.estimates import Estimate
from batcher.routing.ladder.goals import Goal
from batcher.routing.ladder.policy import LadderPolicy
from batcher.statistics.intervals import wilson
from tests.support.ladders import checked_policy
from tests.support.runs import TASK

POLICY = checked_policy()


def estimate(correct: int, scored: int, *, effective: float | None = None) -> Estimate:
    return Estimate(
        wilson(correct, scored), scored, correct, {"judge": scored}, 1_000, effective or float(scored)
    )


@pytest.mark.parametrize(
    ("correct", "scored", "effective", "short"),
    [
        (3, 9, None, False),  # too few to tell
        (5, 12, None, True),
        (26, 30, None, False),  # under the promise, but it may be chance
        (240, 300, None, True),
        (240, 300, 20.0, False),  # so unevenly drawn that they say no more than 20
        (285, 300, None, False),
    ],
)
def test_it_falls_short_when_chance_cannot_be_the_reason(
    correct: int, scored: int, effective: float | None, short: bool
) -> None:
    assert _falls_short(estimate(correct, scored, effective=effective), POLICY.promised) is short


@pytest.mark.parametrize("promised", [0.0, 1.0])
def test_promises_at_the_ends_are_no_trouble(promised: float) -> None:
    assert _falls_short(estimate(0, 50), promised) is (promised > 0)


def test_what_mends_it_is_said_with_the_goal_it_had() -> None:
    spec = replace(TASK.spec({}), params={"labels": ["a b", "c"], "deep": {"x": 1}, "none": None})
    assert learn_command(spec, POLICY) == (
        "batcher ladder learn --task verdict -p 'labels=a b,c' -p 'deep={\"x\":1}' --golden FILE "
        "--accuracy 0.9"
    )
    options = ("--model", "gpt-4o-mini", "--tier", "my tier", "--judge", "gpt-4o")
    spending = replace(POLICY, goal=Goal.of_spend(2_500_000), options=options)
    assert learn_command(TASK.spec({}), LadderPolicy.from_json(spending.to_json())) == (
        "batcher ladder learn --task verdict --golden FILE --spend 0.0025 --model gpt-4o-mini "
        "--tier 'my tier' --judge gpt-4o"
    )


def test_it_is_said_in_a_sentence() -> None:
    found = Production(3, 0.9, 2, estimate(240, 300), True, "batcher ladder learn ...")
    assert found.words == (
        "80 % (75.1 % to 84.1 %, 300 scored) over 2 jobs in production, where ladder 3 promises 90 %: it "
        "falls short. Learn it again from documents like these: batcher ladder learn ..."
    )
    keeps = replace(found, falls_short=False, jobs=1, estimate=estimate(28, 30))
    assert keeps.words.endswith("30 scored) in production, where ladder 3 promises 90 %")
    assert "nothing was checked" in replace(found, estimate=None, falls_short=False).words
