"""Calibration on rows whose best ladder is known."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest

from batcher.errors import UsageError
from batcher.routing.ladder.calibration import Calibration
from batcher.routing.ladder.goals import Goal
from batcher.routing.ladder.learning import calibrate, calibration
from batcher.routing.ladder.policy import LadderPolicy
from batcher.routing.ladder.records import GoldenRow
from benchmarks.routing_replay import FixedModels, walk
from tests.unit.routing.ladder.made_rows import CLASSES, Made, checked_rows, made_rows

TELLING = {"small": Made(0.7, 100, telling=True), "large": Made(0.95, 1_000)}


def outcome(policy: LadderPolicy, rows: list[GoldenRow]) -> tuple[float, float]:
    """Accuracy and mean cost."""
    walks = [walk(policy, policy.read(row.text), row) for row in rows]
    return fmean(one.kept.correct for one in walks), fmean(one.cost_nusd for one in walks)


def test_where_doubt_shows_the_doubtful_alone_climb() -> None:
    policy = calibrate(made_rows(400, TELLING), Goal.of_accuracy(0.95))
    assert [step.model for step in policy.steps] == ["small", "large"]
    accuracy, cost = outcome(policy, made_rows(2_000, TELLING, seed=1))
    assert accuracy > 0.95
    assert cost < 0.6 * 1_000  # 100 + 0.3 x 1,000, and a margin


def test_a_spend_is_kept_and_used() -> None:
    policy = calibrate(made_rows(400, TELLING), Goal.of_spend(300))
    accuracy, cost = outcome(policy, made_rows(2_000, TELLING, seed=1))
    assert cost < 1.1 * 300
    assert accuracy > FixedModels(made_rows(2_000, TELLING, seed=1)).at(cost).mean() + 0.05


def no_wiser_than_the_cheap(row: GoldenRow) -> GoldenRow:
    """Where the cheap model errs, the others make its mistake."""
    cheap = row.answers["cheap"]
    if cheap.correct:
        return row
    answers = {name: replace(one, answer=cheap.answer, correct=False) for name, one in row.answers.items()}
    return replace(row, answers=answers)


@pytest.mark.parametrize("goal", [Goal.of_spend(5_000), Goal.of_accuracy(0.9), Goal.of_accuracy(0.8)])
def test_a_cheaper_model_that_is_better_is_used_alone(goal: Goal) -> None:
    models = {"cheap": Made(0.92, 100), "dear": Made(0.8, 1_000), "dearest": Made(0.75, 3_000)}
    policy = calibrate([no_wiser_than_the_cheap(row) for row in made_rows(500, models)], goal)
    assert [step.model for step in policy.steps] == ["cheap"]
    assert policy.reached


def test_nothing_is_bought_that_nothing_is_known_by() -> None:
    models = {"cheap": Made(0.80, 100), "twin": Made(0.80, 110)}
    rows = made_rows(400, models)
    same = [
        GoldenRow(r.id, r.text, r.gold, {"cheap": r.answers["cheap"], "twin": r.answers["cheap"]})
        for r in rows
    ]
    assert [step.model for step in calibrate(same, Goal.of_spend(1_000)).steps] == ["cheap"]


def test_three_who_err_apart_are_better_together_than_the_best_alone() -> None:
    models = {name: Made(0.8, 100 + number) for number, name in enumerate("abc")}
    policy = calibrate(made_rows(600, models), Goal.of_spend(400))
    accuracy, _ = outcome(policy, made_rows(2_000, models, seed=1))
    assert len(policy.steps) == 3
    assert accuracy > 0.86


def test_the_text_alone_sends_hard_documents_higher() -> None:
    def text(chance: random.Random, gold: str) -> str:
        return "a contract clause of the hard kind" if gold in CLASSES[:2] else "a plain and short note"

    models = {"small": Made(0.97, 500), "large": Made(0.97, 1_000)}
    rows = made_rows(600, models, text=text)
    spoilt = [
        GoldenRow(
            row.id,
            row.text,
            None,
            {
                **row.answers,
                "small": row.answers["small"]
                if row.gold in CLASSES[2:]
                else row.answers["small"].__class__("alas", False, 500, row.answers["small"].logprob),
            },
        )
        for row in rows
    ]
    policy = calibrate(spoilt, Goal.of_accuracy(0.95))
    easy, hard = policy.read("a plain and short note"), policy.read("a contract clause of the hard kind")
    assert (policy.entry(easy), policy.entry(hard)) == (0, 1)
    assert outcome(policy, spoilt)[1] == pytest.approx(750, rel=0.05)


def test_golden_texts_overrule_a_model_that_misreads_them() -> None:
    def text(chance: random.Random, gold: str) -> str:
        return f"the word is {gold} today {chance.random():.3f}"

    policy = calibrate(
        made_rows(
            400, {"small": Made(0.7, 100), "other": Made(0.7, 110), "large": Made(0.95, 2_000)}, text=text
        ),
        Goal.of_spend(400),
    )
    rows = made_rows(
        1_000, {"small": Made(0.7, 100), "other": Made(0.7, 110), "large": Made(0.95, 2_000)}, 1, text=text
    )
    accuracy, cost = outcome(policy, rows)
    assert accuracy > FixedModels(rows).at(cost).mean() + 0.1


def test_the_same_rows_and_seed_give_the_same_ladder() -> None:
    rows = made_rows(200, TELLING)
    first, second = (json.dumps(calibrate(rows, Goal.of_spend(400), seed=3).to_json()) for _ in range(2))
    assert first == second


def test_chances_are_calibrated_on_new_rows() -> None:
    models = {
        "small": Made(0.7, 100, hinting=True),
        "middle": Made(0.8, 300, hinting=True),
        "large": Made(0.9, 1_000),
    }
    policy = calibrate(made_rows(600, models), Goal.of_spend(900))
    assert len(policy.steps) > 1
    said, right = [], []
    for row in made_rows(3_000, models, seed=1):
        signals = policy.read(row.text)
        answers = [
            policy.bought(s.model, row.answers[s.model].answer, row.answers[s.model].logprob)
            for s in policy.steps
        ]
        verdict = policy.decide(len(policy.steps) - 1, signals, answers)
        said.append(verdict.probability)
        right.append(row.answers[answers[verdict.kept or 0].model].correct)
    order = np.argsort(said)
    for part in np.array_split(order, 5):
        assert abs(fmean(said[one] for one in part) - fmean(right[one] for one in part)) < 0.05


def test_thresholds_are_never_chosen_on_rows_their_scorers_were_learned_from() -> None:
    """Right or wrong by coin: a scorer that saw its rows would seem to know, one that did not cannot."""
    chance = random.Random(5)
    rows = made_rows(
        300,
        {"small": Made(0.5, 100), "large": Made(0.5, 1_000)},
        text=lambda *_: " ".join(f"w{chance.randrange(400)}" for _ in range(30)),
    )
    learned = calibration(rows)
    for model in range(2):
        seen = learned._learner.outcome([model])
        assert abs(np.corrcoef(seen.chance, seen.right)[0, 1]) < 0.2
    for goal in (Goal.of_accuracy(0.7), Goal.of_spend(500), Goal.of_spend(1_100)):
        evidence = learned.ladder(goal).evidence
        assert evidence.low < 0.55
        assert evidence.accuracy < 0.6


def test_evidence_is_what_new_rows_show() -> None:
    models = {**TELLING, "middle": Made(0.85, 400, telling=True)}
    ahead = []
    for seed in range(5):
        policy = calibrate(made_rows(200, models, seed=seed), Goal.of_spend(450), seed=seed)
        ahead.append(policy.evidence.accuracy - outcome(policy, made_rows(1_000, models, seed=100 + seed))[0])
    assert abs(fmean(ahead)) < 0.02


def test_a_goal_out_of_reach_says_so() -> None:
    policy = calibrate(made_rows(300, {"a": Made(0.6, 100), "b": Made(0.7, 200)}), Goal.of_accuracy(0.99))
    assert not policy.reached
    assert policy.target == "accuracy 99.0%"


def test_every_plan_adds_up_to_what_a_walk_does() -> None:
    """The sums over bins, which thousands of plans are chosen by, against one document after the other."""
    rows = made_rows(120, {"a": Made(0.6, 100, True), "b": Made(0.7, 130, True), "c": Made(0.9, 1_000)})
    learned = Calibration(checked_rows(rows, "ab", by="judged", hits=0.8, cost_nusd=50), judge="sage")
    plans, learner, table = learned._plans, learned._learner, learned.table
    three = np.flatnonzero((plans.models[:, 2] >= 0) & (plans.enters_at > 0))
    for plan in [*three[:: max(1, len(three) // 40)], *range(0, len(plans.models), len(plans.models) // 40)]:
        if plans.skips[plan]:
            continue
        models = [int(one) for one in plans.models[plan] if one >= 0]
        bars = [*plans.stands_at[plan][: len(models) - 1], 0.0]
        last = models[-1] if plans.judged[plan] else None
        cost = right = 0.0
        for row in range(table.rows):
            enters = learned._planner.entry_chances(models[0])[row] >= plans.enters_at[plan]
            first = 0 if enters else 1
            for step in range(first, len(models)):
                bought = models[first : step + 1]
                judged = [one for one in bought if last not in {None, one}]
                stop = learner.outcome(bought, judged)
                if stop.chance[row] >= bars[step]:
                    break
            cost += table.cost_nusd[row, bought].sum() + table.judging_nusd[row, judged].sum()
            right += stop.right[row]
        sums = plans.sums[plan].sum(axis=0)
        assert (sums[0], sums[3]) == (pytest.approx(cost), right)
    assert plans.judged.any()
    assert not plans.judged.all()


def test_where_nothing_tells_a_spend_between_two_models_is_met_by_lot() -> None:
    models = {"small": Made(0.5, 1_000), "large": Made(0.95, 1_500)}
    policy = calibrate(made_rows(800, models), Goal.of_spend(1_250))
    assert policy.skips > 0
    rows = made_rows(2_000, models, seed=1)
    accuracy, cost = outcome(policy, rows)
    assert cost == pytest.approx(1_000 + 500 * policy.skips, rel=0.02)
    assert accuracy == pytest.approx(FixedModels(rows).at(cost).mean(), abs=0.03)


def test_rows_without_one_of_the_answers_are_left_out() -> None:
    rows = made_rows(100, TELLING)
    lame = [GoldenRow(r.id, r.text, r.gold, {"small": r.answers["small"]}) for r in rows[:4]]
    assert calibration([*lame, *rows[4:]]).table.dropped == 4


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 40"):
        calibrate(made_rows(39, TELLING), Goal.of_spend(100))


@pytest.mark.parametrize(
    "bad", [lambda: Goal.of_accuracy(1.5), lambda: Goal.of_accuracy(0), lambda: Goal.of_spend(-1)]
)
def test_impossible_goals_are_refused(bad: object) -> None:
    with pytest.raises(UsageError):
        bad()  # type: ignore[operator]


def test_free_texts_without_log_probabilities_or_golden_answers_will_do() -> None:
    chance = random.Random(2)
    rows = [
        GoldenRow(
            row.id,
            row.text,
            None,
            {
                name: one.__class__(
                    f"{one.answer} {chance.random() if not one.correct else row.id}",
                    one.correct,
                    one.cost_nusd,
                )
                for name, one in row.answers.items()
            },
        )
        for row in made_rows(300, {"a": Made(0.7, 100), "b": Made(0.75, 150), "c": Made(0.8, 1_000)})
    ]
    policy = calibrate(rows, Goal.of_spend(600))
    accuracy, _ = outcome(policy, rows)
    assert accuracy > 0.8  # two that agree are right, here; that much can be seen


def test_no_accuracy_is_bought_dearer_than_a_ladder_that_is_known_to_have_it() -> None:
    """What a plan is credited with stays below what it shows: some targets only the dearest seem to reach."""
    models = {
        "mini": Made(0.75, 45, telling=True),
        "mid": Made(0.86, 120, telling=True),
        "big": Made(0.935, 750, telling=True),
        "best": Made(0.95, 1_500, telling=True),
    }
    learned = calibration(made_rows(200, models))
    within = learned.ladder(Goal.of_spend(200)).evidence
    assert within.accuracy > 0.99
    for target in (0.9, 0.93, 0.95, 0.97, 0.98, 0.985, 0.99, 1.0):
        policy = learned.ladder(Goal.of_accuracy(target))
        assert policy.reached
        assert policy.evidence.accuracy >= target
        assert policy.evidence.cost_nusd <= within.cost_nusd


def test_a_target_out_of_reach_gets_what_is_most_accurate() -> None:
    models = {
        name: Made(share, cost, hinting=True) for name, share, cost in (("a", 0.75, 45), ("b", 0.9, 700))
    }
    learned = calibration(made_rows(300, models))
    high = learned.ladder(Goal.of_accuracy(0.999))
    assert not high.reached
    for target in (0.8, 0.85, 0.9, 0.95):
        assert learned.ladder(Goal.of_accuracy(target)).evidence.accuracy <= high.evidence.accuracy
