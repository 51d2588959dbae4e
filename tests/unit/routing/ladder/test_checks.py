"""What a verifier and a judge say of an answer: learned from, paid for in the plan, needed to stand."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest

from batcher.routing.ladder.answer_learning import candidates, chances_of, fit
from batcher.routing.ladder.calibration import Calibration
from batcher.routing.ladder.goals import Goal
from batcher.routing.ladder.learning import calibrate
from batcher.routing.ladder.policy import LadderPolicy
from batcher.routing.ladder.records import GoldenRow
from batcher.routing.ladder.text_scorer import TextSignals
from benchmarks.routing_replay import walk
from tests.unit.routing.ladder.made_rows import Made, checked_rows, made_rows

MODELS = {"small": Made(0.7, 100), "large": Made(0.95, 1_000)}
BOTH = ("small", "large")
ROWS = made_rows(400, MODELS)
FRESH = made_rows(2_000, MODELS, seed=1)
GOAL = Goal.of_accuracy(0.94)


def outcome(policy: LadderPolicy, rows: list[GoldenRow]) -> tuple[float, float]:
    """Accuracy and mean cost."""
    walks = [walk(policy, policy.read(row.text), row) for row in rows]
    return fmean(one.kept.correct for one in walks), fmean(one.cost_nusd for one in walks)


def test_an_answer_that_the_verifier_doubts_climbs() -> None:
    without = calibrate(ROWS, GOAL)
    policy = calibrate(checked_rows(ROWS, BOTH, by="verified", hits=0.95), GOAL)
    assert [step.model for step in policy.steps] == ["small", "large"]
    assert (policy.verifies, policy.judge, without.verifies) == (True, None, False)
    accuracy, cost = outcome(policy, checked_rows(FRESH, BOTH, by="verified", hits=0.95))
    assert accuracy > 0.93
    assert cost < 0.6 * 1_000  # 100, and 1,000 for three tenths and some false alarms
    assert without.evidence.cost_nusd > 1.4 * policy.evidence.cost_nusd


def test_a_judge_is_taken_where_its_word_is_worth_its_price() -> None:
    rows = checked_rows(ROWS, ["small"], by="judged", hits=0.95, cost_nusd=100)
    policy = calibrate(rows, GOAL, judge="sage")
    assert [step.model for step in policy.steps] == ["small", "large"]
    assert policy.judge == "sage"
    assert (policy.is_judged(0), policy.is_judged(1)) == (True, False)
    accuracy, cost = outcome(policy, checked_rows(FRESH, ["small"], by="judged", hits=0.95, cost_nusd=100))
    assert accuracy > 0.93
    assert cost < 0.7 * 1_000
    assert policy.evidence.cost_nusd == pytest.approx(cost, rel=0.1), "its price is in what is expected"


@pytest.mark.parametrize(("hits", "cost_nusd"), [(0.5, 100), (0.95, 900)])
def test_a_judge_that_knows_nothing_or_costs_too_much_is_not_asked(hits: float, cost_nusd: int) -> None:
    rows = checked_rows(ROWS, ["small"], by="judged", hits=hits, cost_nusd=cost_nusd)
    assert calibrate(rows, GOAL, judge="sage").judge is None


def test_three_steps_are_judged_but_for_the_last() -> None:
    models = {"a": Made(0.6, 100), "b": Made(0.8, 300), "c": Made(0.97, 2_000)}
    rows = checked_rows(made_rows(500, models), ["a", "b"], by="judged", cost_nusd=10)
    ladders = [Calibration(rows, judge="sage").ladder(Goal.of_spend(spend)) for spend in (400, 600, 800)]
    policy = max(ladders, key=lambda one: len(one.steps))
    assert [step.model for step in policy.steps] == ["a", "b", "c"]
    assert [policy.is_judged(step) for step in range(3)] == [True, True, False]
    accuracy, cost = outcome(policy, rows)
    assert accuracy > 0.9
    assert cost == pytest.approx(policy.evidence.cost_nusd, rel=0.1)


def test_it_comes_back_from_json_with_its_checks() -> None:
    rows = checked_rows(ROWS, BOTH, by="verified", hits=0.8)
    policy = calibrate(checked_rows(rows, ["small"], by="judged", hits=0.95), GOAL, judge="sage")
    assert (policy.verifies, policy.judge) == (True, "sage")
    assert LadderPolicy.from_json(json.loads(json.dumps(policy.to_json()))) == policy


def test_what_was_not_checked_does_not_stand_but_on_the_last_step() -> None:
    rows = checked_rows(ROWS, BOTH, by="verified", hits=0.8)
    policy = calibrate(checked_rows(rows, ["small"], by="judged", hits=0.99), GOAL, judge="sage")
    policy = replace(policy, steps=(replace(policy.steps[0], stands_at=0.01), policy.steps[1]))
    signals = policy.read("a document")

    def stands(step: int, **checks: float) -> bool:
        models = [one.model for one in policy.steps[: step + 1]]
        return policy.decide(
            step, signals, [policy.bought(name, "alpha", **checks) for name in models]
        ).stands

    assert stands(0, verified=1.0, judged=1.0)
    assert not stands(0, verified=1.0)
    assert not stands(0, judged=1.0)
    assert stands(1)


def test_workers_weigh_checks_by_the_numbers_of_calibration() -> None:
    rows = checked_rows(ROWS, BOTH, by="verified", hits=0.8)
    rows = checked_rows(rows, ["small"], by="judged", hits=0.9)
    chance = random.Random(3)
    rows = [
        replace(
            row,
            answers={
                name: replace(one, verified=one.verified if chance.random() < 0.9 else None)
                for name, one in row.answers.items()
            },
        )
        for row in rows
    ]
    learned = Calibration(rows, judge="sage")
    policy = learned.ladder(GOAL)
    table, text, habits = learned.table, learned._text, learned._learner.habits
    numbers = [table.models.index(step.model) for step in policy.steps]
    found = candidates(table, text, habits, numbers, np.arange(table.rows), numbers[:1])
    chances = chances_of(found, fit(found))
    scorer = learned._learner.scorer(numbers, numbers[:1])
    for number, row in enumerate(rows):
        answers = []
        for step, of in enumerate(policy.steps):
            one = row.answers[of.model]
            judged = one.judged if policy.is_judged(step) else None
            answers.append(policy.bought(of.model, one.answer, one.logprob, one.verified, judged))
        lift = {
            one.answer: float(text.lift[number, model]) for one, model in zip(answers, numbers, strict=True)
        }
        signals = TextSignals(lift, float(text.ease[number]), float(text.length[number]))
        told = scorer.probabilities(signals, answers, policy.habits)
        assert max(told) == pytest.approx(chances[number].max(), abs=1e-9)


@pytest.mark.parametrize(
    ("goal", "reached", "promised"),
    [
        (Goal.of_accuracy(0.9), True, 0.9),
        (Goal.of_accuracy(0.99), False, None),
        (Goal.of_spend(500), True, None),
    ],
)
def test_it_promises_what_it_was_learned_for_if_it_reaches_that(
    goal: Goal, reached: bool, promised: float | None
) -> None:
    policy = replace(calibrate(ROWS, GOAL), goal=goal, reached=reached)
    assert policy.promised == (policy.evidence.low if promised is None else promised)
