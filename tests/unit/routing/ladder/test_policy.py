"""A learned ladder at run time: plain Python, plain JSON, and the same numbers that it was calibrated by."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.errors import ConfigurationError
from batcher.routing.ladder.answer_learning import candidates, chances_of, fit
from batcher.routing.ladder.answer_scorer import confidence
from batcher.routing.ladder.calibration import Calibration
from batcher.routing.ladder.goals import Goal
from batcher.routing.ladder.ngrams import BUCKETS, text_pieces
from batcher.routing.ladder.normal_form import normal_form
from batcher.routing.ladder.policy import LadderPolicy
from batcher.routing.ladder.text_learning import FOLDS, _fit, _pieces
from tests.unit.routing.ladder.made_rows import Made, made_rows

MODELS = {"a": Made(0.6, 100, True), "b": Made(0.75, 300, True), "c": Made(0.9, 1_000)}


def worded(chance: random.Random, gold: str) -> str:
    return f"{gold if chance.random() < 0.7 else 'nothing'} was said of {chance.randrange(50)} things"


ROWS = made_rows(250, MODELS, text=worded)
LEARNED = Calibration(ROWS)


def policy_of_three() -> LadderPolicy:
    ladders = [LEARNED.ladder(Goal.of_spend(spend)) for spend in range(100, 1_500, 50)]
    return max(ladders, key=lambda one: len(one.steps))


POLICY = policy_of_three()


def test_it_comes_back_from_json_as_it_was() -> None:
    again = LadderPolicy.from_json(json.loads(json.dumps(POLICY.to_json())))
    assert again == POLICY
    row = ROWS[0]
    answers = [POLICY.bought(s.model, row.answers[s.model].answer, -0.1) for s in POLICY.steps]
    signals = again.read(row.text)
    assert signals == POLICY.read(row.text)
    assert again.probabilities(signals, answers) == POLICY.probabilities(signals, answers)


def test_another_format_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="calibrate it again"):
        LadderPolicy.from_json({**POLICY.to_json(), "format": 0})


def test_workers_decide_by_the_numbers_of_calibration() -> None:
    table, text, habits = LEARNED.table, LEARNED._text, LEARNED._learner.habits
    numbers = [table.models.index(step.model) for step in POLICY.steps]
    signals = [POLICY.read(one) for one in table.texts]
    seen = text.__class__(
        lift=np.array(
            [
                [s.lift_of(table.forms[form]) for form in forms]
                for s, forms in zip(signals, table.answer, strict=True)
            ]
        ),
        ease=np.array([s.ease for s in signals]),
        length=np.array([s.length for s in signals]),
        scorer=text.scorer,
    )
    everything = np.arange(table.rows)
    weights = fit(candidates(table, text, habits, numbers, everything))
    chances = chances_of(candidates(table, seen, habits, numbers, everything), weights)
    for number, row in enumerate(ROWS):
        answers = [
            POLICY.bought(s.model, row.answers[s.model].answer, row.answers[s.model].logprob)
            for s in POLICY.steps
        ]
        assert max(POLICY.probabilities(signals[number], answers)) == pytest.approx(
            chances[number].max(), abs=1e-9
        )


def test_a_text_is_read_as_it_was_learned() -> None:
    scorer, texts = LEARNED._text.scorer, _pieces(LEARNED.table.texts)
    outputs = _fit(LEARNED.table, texts, np.arange(LEARNED.table.rows)).outputs(texts)
    for number, text in enumerate(LEARNED.table.texts[:20]):
        assert list(scorer._outputs(text)) == pytest.approx(list(outputs[number]), abs=0.02)


def test_scorers_of_each_fold_saw_nothing_of_it() -> None:
    assert LEARNED._learner._folds.min() == 0
    assert sorted(set(LEARNED._learner._folds)) == list(range(FOLDS))


def test_a_step_that_gave_nothing_is_climbed_over() -> None:
    signals = POLICY.read(ROWS[0].text)
    assert not POLICY.decide(0, signals, []).stands
    first = POLICY.bought(POLICY.steps[0].model, "alpha", -3.0)
    assert not POLICY.decide(1, signals, [first]).stands
    last = POLICY.decide(len(POLICY.steps) - 1, signals, [first])
    assert (last.stands, last.kept) == (True, 0)
    nothing = POLICY.decide(len(POLICY.steps) - 1, signals, [])
    assert (nothing.stands, nothing.kept) == (True, None)


def test_agreement_and_confidence_raise_the_chance() -> None:
    signals = POLICY.read("nothing was said")
    models = [step.model for step in POLICY.steps][:2]

    def chance(*answers: tuple[str, float]) -> float:
        bought = [POLICY.bought(m, a, p) for m, (a, p) in zip(models, answers, strict=True)]
        return POLICY.probabilities(signals, bought)[0]

    assert chance(("alpha", -0.01), ("alpha", -0.01)) > chance(("alpha", -0.01), ("beta", -0.01))
    assert chance(("alpha", -0.01), ("alpha", -0.01)) > chance(("alpha", -1.5), ("alpha", -1.5))


def test_a_stranger_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="z is on no step"):
        POLICY.probabilities(POLICY.read("x"), [POLICY.bought("z", "alpha")])


def test_a_single_model_needs_no_scorer_of_texts() -> None:
    alone = LEARNED.ladder(Goal.of_spend(100))
    assert [step.model for step in alone.steps] == ["a"]
    assert alone.text is None
    assert len(json.dumps(alone.to_json())) < 2_000


def test_deciding_needs_neither_numpy_nor_scikit_learn() -> None:
    seen = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, batcher.routing.ladder.policy, batcher.routing.ladder.learning;"
            "print(sorted({'numpy', 'scipy', 'sklearn'} & sys.modules.keys()))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen.stdout.strip() == "[]"


@given(st.floats(max_value=0.0, allow_nan=False), st.floats(max_value=0.0, allow_nan=False))
def test_confidence_rises_with_the_log_probability(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert -5 <= confidence(low) <= confidence(high) <= 9


@given(st.text())
def test_any_text_has_pieces_and_is_read(text: str) -> None:
    assert all(0 <= piece < BUCKETS for piece in text_pieces(text))
    signals = POLICY.read(text)
    assert -4 <= signals.ease <= 4
    assert POLICY.entry(signals) in range(len(POLICY.steps))


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        ("No", "no"),
        (" NO.\n", "no"),
        ("No (it is disapproving)", "no"),
        ("Nothing", "nothing"),
        ("not overruling, so", "not overruling"),
        ("-5", "-5"),
        ("...", ""),
    ],
)
def test_answers_are_the_same_whatever_surrounds_them(answer: str, form: str) -> None:
    assert normal_form(answer, ("yes", "no", "not overruling")) == form
