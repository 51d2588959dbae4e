"""Who does the work: by proofs that hold however often one looks, and by the stated model without any."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.routing.choice import Scored, chance_above, decide, percent
from batcher.routing.state import Candidate, cheapest_first

CHEAP, MIDDLE, STATED, DEAR = "cheap", "middle", "stated", "dear"
CANDIDATES = (
    Candidate(CHEAP, "economy", 1e6),
    Candidate(MIDDLE, "economy", 2e6),
    Candidate(STATED, "standard", 10e6),
    Candidate(DEAR, "premium", 30e6),
)
GOOD, FAIR, BAD = Scored(950, 1000), Scored(810, 1000), Scored(600, 1000)


def chosen(scores: dict[str, Scored], floor: float = 0.8, **known: tuple[str, ...]) -> str:
    return decide(CANDIDATES, STATED, scores, floor, 0.05, **known).chosen.model


def test_nothing_known_leaves_it_to_the_stated_model_and_learns_about_the_cheapest() -> None:
    found = decide(CANDIDATES, STATED, {}, 0.8, 0.05)
    assert found.chosen.model == STATED
    assert found.learn is not None
    assert found.learn.model == CHEAP
    assert found.reason == (
        "stated, which the task states, does the work until a cheaper model is known to reach 80 %; "
        "nothing is known of them yet"
    )


@pytest.mark.parametrize(
    ("scores", "model"),
    [
        ({CHEAP: GOOD}, CHEAP),
        ({CHEAP: FAIR}, STATED),
        ({CHEAP: FAIR, MIDDLE: GOOD}, MIDDLE),
        ({CHEAP: GOOD, MIDDLE: GOOD}, CHEAP),
        ({DEAR: GOOD}, STATED),
        ({STATED: BAD}, DEAR),
        ({STATED: BAD, DEAR: BAD}, STATED),
        ({STATED: BAD, DEAR: Scored(700, 1000)}, DEAR),
        ({STATED: BAD, MIDDLE: GOOD}, MIDDLE),
        ({STATED: Scored(266, 352), DEAR: GOOD}, DEAR),
        ({STATED: Scored(284, 352), DEAR: GOOD}, STATED),
        ({STATED: Scored(14, 19), DEAR: GOOD}, STATED),
        ({STATED: Scored(14, 20), DEAR: GOOD}, DEAR),
        ({STATED: Scored(266, 352), DEAR: FAIR}, STATED),
    ],
)
def test_the_cheapest_proven_or_stated_model_is_chosen(scores: dict[str, Scored], model: str) -> None:
    assert chosen(scores) == model


def test_the_sentence_says_what_is_known_and_how_surely() -> None:
    found = decide(CANDIDATES, STATED, {CHEAP: Scored(950, 1000, by_judge=400)}, 0.8, 0.05)
    assert found.reason.startswith(
        "cheap does the work at about $0.001 a document: the cheapest of 4 candidates that is known to "
        "reach 80 % (95 % of 1,000 scored, 400 of them by a judge, at least 9"
    )
    assert found.reason.endswith("with 98.3 % confidence)")
    assert (
        "misses 80 % (60 % of 1,000 scored, at most 6"
        in decide(CANDIDATES, STATED, {CHEAP: BAD}, 0.8, 0.05).reason
    )
    up = decide(CANDIDATES, STATED, {STATED: BAD}, 0.8, 0.05)
    assert up.reason.startswith(
        "dear does the work: it is the next dearer one, because stated misses 80 % (60 %"
    )
    nobody = decide(CANDIDATES, STATED, dict.fromkeys((CHEAP, MIDDLE, STATED, DEAR), BAD), 0.8, 0.05)
    assert nobody.reason.startswith("cheap does the work: no candidate is known to reach 80 %")


def test_a_stated_model_that_rather_misses_the_floor_gives_way_to_a_dearer_proven_one() -> None:
    """75.6 % of 352 is no proof against it, but no thin evidence any more either."""
    found = decide(CANDIDATES, STATED, {STATED: Scored(266, 352), DEAR: GOOD}, 0.8, 0.05)
    assert found.refuted == ()
    assert found.reason.startswith("dear does the work at about $0.03 a document: the cheapest of 4")
    assert found.reason.endswith("; stated, which the task states, was right on 75.6 % of 352 scored")
    assert found.learn is not None
    assert "; stated" not in decide(CANDIDATES, STATED, {CHEAP: GOOD, STATED: BAD}, 0.8, 0.05).reason
    assert "; stated" not in decide(CANDIDATES, STATED, {DEAR: GOOD, STATED: BAD}, 0.8, 0.05).reason


def test_a_proof_stands_until_the_contrary_is_shown() -> None:
    proven = (CHEAP,)
    assert chosen({CHEAP: FAIR}, proven=proven) == CHEAP
    assert (
        "it was shown earlier" in decide(CANDIDATES, STATED, {CHEAP: FAIR}, 0.8, 0.05, proven=proven).reason
    )
    assert chosen({CHEAP: BAD}, proven=proven) == STATED
    assert chosen({STATED: FAIR}, refuted=(STATED,)) == DEAR
    assert chosen({STATED: GOOD}, refuted=(STATED,)) == STATED


def test_names_that_are_no_candidates_any_more_are_forgotten() -> None:
    found = decide(CANDIDATES, STATED, {"gone": GOOD}, 0.8, 0.05, proven=("gone",), refuted=("old",))
    assert (found.proven, found.refuted) == ((), ())


def test_what_surely_misses_the_floor_is_not_learned_about() -> None:
    found = decide(CANDIDATES, STATED, {CHEAP: BAD}, 0.8, 0.05)
    assert found.refuted == (CHEAP,)
    assert found.learn is not None
    assert found.learn.model == MIDDLE
    nothing = decide(CANDIDATES, STATED, {CHEAP: BAD, MIDDLE: BAD}, 0.8, 0.05)
    assert nothing.learn is None


def test_a_likely_candidate_is_learned_about_before_a_somewhat_cheaper_one() -> None:
    scores = {CHEAP: Scored(78, 100), MIDDLE: Scored(84, 100)}
    found = decide(CANDIDATES, STATED, scores, 0.8, 0.05)
    assert found.learn is not None
    assert found.learn.model == MIDDLE


def test_a_stated_model_that_is_no_candidate_does_nothing() -> None:
    found = decide(CANDIDATES[:2], "excluded", {}, 0.8, 0.05)
    assert found.chosen.model == CHEAP


@pytest.mark.parametrize(("floor", "model"), [(0.0, CHEAP), (1.0, STATED)])
def test_floors_at_the_ends(floor: float, model: str) -> None:
    assert chosen({CHEAP: GOOD}, floor) == model


def test_the_chance_of_a_wrong_proof_is_shared_among_the_candidates() -> None:
    """What just proves one of one candidate does not prove it among four."""
    alone = CANDIDATES[0], CANDIDATES[2]
    right = next(
        right
        for right in range(160, 200)
        if decide(alone, STATED, {CHEAP: Scored(right, 200)}, 0.8, 0.05).chosen.model == CHEAP
    )
    assert chosen({CHEAP: Scored(right, 200)}) == STATED


@given(
    shares=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=4, max_size=4),
    floor=st.floats(0.05, 0.95),
)
def test_no_choice_is_against_the_evidence(shares: list[tuple[int, int]], floor: float) -> None:
    scores = {one.model: Scored(min(pair), max(pair)) for one, pair in zip(CANDIDATES, shares, strict=True)}
    found = decide(CANDIDATES, STATED, scores, floor, 0.05)
    assert not set(found.proven) & set(found.refuted)
    if found.chosen.model not in found.proven and found.chosen.model != STATED:
        assert STATED in found.refuted
    if found.learn is not None:
        assert found.learn.cost_nusd < found.chosen.cost_nusd
        assert found.learn.model not in found.refuted


@given(st.integers(0, 500), st.integers(0, 500), st.floats(0.05, 0.95))
def test_hope_is_a_chance_and_grows_with_right_answers(right: int, wrong: int, floor: float) -> None:
    chance = chance_above(Scored(right, right + wrong), floor)
    assert 0 <= chance <= 1
    assert chance_above(Scored(right + 1, right + 1 + wrong), floor) >= chance - 0.02


@pytest.mark.parametrize("floor", [0.6, 0.8, 0.9])
def test_looked_at_every_ten_answers_it_is_fooled_in_at_most_the_stated_share(floor: float) -> None:
    """The true accuracy is exactly the floor: whatever is taken is taken wrongly."""
    draw, taken, runs = random.Random(1), 0, 400
    candidates = (CANDIDATES[0], CANDIDATES[2])
    for _ in range(runs):
        right = 0
        for scored in range(10, 1001, 10):
            right += sum(draw.random() < floor for _ in range(10))
            if decide(candidates, STATED, {CHEAP: Scored(right, scored)}, floor, 0.05).proven:
                taken += 1
                break
    assert taken / runs <= 0.05


def test_a_lane_at_the_floor_is_left_in_at_most_the_stated_share() -> None:
    draw, left, runs = random.Random(3), 0, 300
    for _ in range(runs):
        right = 0
        for scored in range(10, 1001, 10):
            right += sum(draw.random() < 0.8 for _ in range(10))
            if decide(CANDIDATES, STATED, {STATED: Scored(right, scored)}, 0.8, 0.05).refuted:
                left += 1
                break
    assert left / runs <= 0.05


def test_candidates_of_one_cost_keep_their_order() -> None:
    same = [Candidate(name, "local", 0.0) for name in "cab"]
    assert [one.model for one in cheapest_first([CANDIDATES[0], *same])] == ["c", "a", "b", CHEAP]


@pytest.mark.parametrize(("share", "text"), [(0.8, "80 %"), (0.834, "83.4 %"), (1.0, "100 %"), (0.0, "0 %")])
def test_shares_for_people(share: float, text: str) -> None:
    assert percent(share) == text
