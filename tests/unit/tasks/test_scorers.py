from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.errors import TaskError
from batcher.tasks.scorers import (
    Score,
    Scorer,
    as_scorer,
    by_type,
    exact,
    fields,
    list_f1,
    normalised,
    numeric,
    set_f1,
    unknown_fields,
    word_f1,
)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
SYMMETRIC = [exact, normalised, numeric(0.5), numeric(relative=0.1), set_f1, list_f1, word_f1]
ALL = [*SYMMETRIC, by_type, fields({"a": exact, "b": {"c": set_f1}})]


@pytest.mark.parametrize("scorer", ALL)
@given(expected=JSON, output=JSON)
def test_every_score_lies_between_0_and_1(scorer: Scorer, expected: Any, output: Any) -> None:
    score = scorer(expected, output)
    assert 0 <= score.value <= 1
    assert all(0 <= value <= 1 for value in score.fields.values())


@pytest.mark.parametrize("scorer", SYMMETRIC)
@given(left=JSON, right=JSON)
def test_symmetric_scorers_do_not_care_which_is_the_answer(scorer: Scorer, left: Any, right: Any) -> None:
    assert scorer(left, right) == scorer(right, left)


@pytest.mark.parametrize("scorer", ALL)
@given(value=JSON)
def test_the_right_answer_itself_scores_1(scorer: Scorer, value: Any) -> None:
    assert scorer(value, value).value == 1.0


def test_exact_tells_true_from_1_but_not_1_from_1_point_0() -> None:
    assert exact(True, 1).value == 0
    assert exact(1, 1.0).value == 1
    assert exact({"a": [1, 2]}, {"a": [1.0, 2]}).value == 1
    assert exact([1, 2], [2, 1]).value == 0


@pytest.mark.parametrize(
    ("expected", "output"),
    [
        ("9876 Fusce Rd.", " 9876  fusce rd"),
        ("O'Neil", "o\u2019neil"),
        ("ﬁle", "FILE"),
        ("Straße", "STRASSE"),
        ("$623,463.00", "$623463.00"),
        (["Parker McLean"], "Parker McLean"),
        (None, ""),
        (5, "5"),
        (5.0, "5"),
        ("Smith-Jones", "Smith Jones"),
    ],
)
def test_normalised_overlooks_form(expected: Any, output: Any) -> None:
    assert normalised(expected, output).value == 1


@pytest.mark.parametrize(
    ("expected", "output"),
    [("3.5", "35"), ("-2", "2"), ("1/2", "12"), ("6/29/2018", "6/2/92018"), ("a", "b"), ("???", "!!!")],
)
def test_normalised_keeps_what_matters(expected: str, output: str) -> None:
    assert normalised(expected, output).value == 0


@pytest.mark.parametrize(
    ("scorer", "expected", "output", "value"),
    [
        (numeric(), "$1,200.50", 1200.5, 1),
        (numeric(), "5%", 5, 1),
        (numeric(0.01), 10, 10.01, 1),
        (numeric(0.001), 10, 10.01, 0),
        (numeric(relative=0.01), 1000, 1009, 1),
        (numeric(), "n/a", 0, 0),
        (numeric(), "n/a", "N/A", 1),
        (numeric(1), True, 1, 0),
        (numeric(), ["7"], 7, 1),
        (numeric(), float("inf"), float("inf"), 1),
        (numeric(), "1_0", 10, 0),
    ],
)
def test_numeric(scorer: Scorer, expected: Any, output: Any, value: float) -> None:
    assert scorer(expected, output).value == value


def test_f1_of_sets_and_lists_by_hand() -> None:
    assert set_f1(["a", "b"], ["B", "c"]).value == pytest.approx(0.5)
    assert set_f1(["a", "a"], ["a"]).value == 1
    assert list_f1(["a", "a"], ["a"]).value == pytest.approx(2 / 3)
    assert list_f1(["a", "b"], ["b", "a"]).value == 1
    assert set_f1([], []).value == 1
    assert set_f1(["a"], []).value == 0
    assert word_f1("the red house", ["house", "blue"]).value == pytest.approx(2 * 1 / 5)


def test_fields_are_averaged_over_what_the_golden_row_holds() -> None:
    scorer = fields({"name": normalised, "parts": {"x": exact, "y": exact}, "unasked": exact})
    score = scorer({"name": "A", "parts": {"x": 1, "y": 2}}, {"name": "a", "parts": {"x": 1, "y": 3}})
    assert score.value == pytest.approx(0.75)
    assert score.fields == {"name": 1.0, "parts": 0.5, "parts.x": 1.0, "parts.y": 0.0}
    assert scorer({"name": "A"}, None).value == 0
    assert scorer({"name": None}, {}).value == 0, "a field left out is not the same as null"


def test_by_type_scores_corpora_that_wrap_values_in_lists() -> None:
    score = by_type({"City": ["Frederick"], "Rate": ["5%"]}, {"City": "frederick", "Rate": "6%"})
    assert score.value == 0.5
    assert by_type({"total": 12.0, "tags": ["a", "b"]}, {"total": "12.00", "tags": ["b", "a"]}).value == 1


def test_a_users_function_may_return_a_number_a_bool_or_a_score() -> None:
    assert as_scorer(lambda expected, output: 0.25)(1, 1) == Score(0.25)
    assert as_scorer(lambda expected, output: expected == output)(1, 1) == Score(1.0)
    assert as_scorer(lambda expected, output: Score(0.5, {"a": 0.5}))(1, 1).fields == {"a": 0.5}


@pytest.mark.parametrize("result", [1.5, -0.1, float("nan"), None, "1"])
def test_a_users_function_that_returns_nonsense_is_named(result: Any) -> None:
    def homemade(expected: Any, output: Any) -> Any:
        return result

    with pytest.raises(TaskError, match="homemade returned"):
        as_scorer(homemade)(1, 1)


def test_a_scorer_that_is_none_is_refused() -> None:
    with pytest.raises(TaskError, match="not 3"):
        as_scorer(3)  # type: ignore[arg-type]


CLOSED = {"additionalProperties": False}
CARD = {"properties": {"label": {}, "author": {"properties": {"name": {}}, **CLOSED}, "tags": {}}, **CLOSED}


@pytest.mark.parametrize(
    ("scorer", "unknown"),
    [
        ({"label": exact, "author": {"name": exact}, "tags": set_f1}, []),
        ({"lable": exact}, ["lable (did you mean label?)"]),
        ({"author": {"nmae": exact}, "zzz": exact}, ["author.nmae (did you mean author.name?)", "zzz"]),
        ({"tags": {"anything": exact}}, []),
        (exact, []),
    ],
)
def test_fields_that_no_answer_has_are_named(scorer: Any, unknown: list[str]) -> None:
    assert unknown_fields(as_scorer(scorer), CARD) == unknown
    assert unknown_fields(as_scorer(scorer), {**CARD, "additionalProperties": True}) == []
