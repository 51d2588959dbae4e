"""Adding up what models did, and which of them to take: figures worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.quality.evaluation import Measurement, Outcome, measure, percentile
from batcher.quality.verdict import Placed, Standing, compare, judge, switch_words
from batcher.statistics.intervals import Interval
from batcher.statistics.paired import Within


def outcome(number: int, *, right: bool, cost_nusd: int = 1_000_000) -> Outcome:
    return Outcome(b"%20d" % number, right, float(right), {"label": float(right)}, cost_nusd=cost_nusd)


def model(
    name: str, right: int, scored: int, *, cost_nusd: int = 1_000_000, wrong_first: bool = False
) -> Measurement:
    """A model that is right on the first so many documents, or on the last."""
    wrong = scored - right
    hits = [number >= wrong if wrong_first else number < right for number in range(scored)]
    made = [outcome(number, right=hit, cost_nusd=cost_nusd) for number, hit in enumerate(hits)]
    return measure(name, "economy", 1, made, confidence=0.95)


def test_a_model_is_added_up() -> None:
    made = [
        Outcome(b"a", True, 1.0, {"x": 1.0, "y": 1.0}, "", True, 100, (1.0,)),
        Outcome(b"b", False, 0.5, {"x": 1.0, "y": 0.0}, "", False, 300, (2.0, 3.0)),
        Outcome(b"c", False, 0.0, {"x": 0.0, "z": 0.0}, "refused", False, 50, (0.5,)),
        Outcome(b"d", True, 1.0, {"x": 1.0, "y": 1.0}, "", None, 0, ()),
    ]
    found = measure("m", "t", 7, made, confidence=0.95, judging_nusd=50)
    assert (found.scored, found.correct, found.failed, found.mean_score) == (4, 2, 1, 0.625)
    assert found.fields == {"x": 0.75, "y": pytest.approx(2 / 3)}, "no answer has a field z"
    assert (found.cost_nusd, found.judging_nusd) == (450, 50), "measuring is no part of answering"
    assert (found.per_document_nusd, found.per_correct_nusd) == (112.5, 225)
    assert found.accuracy is not None
    assert found.valid_at_once is not None
    # Wilson for 2 of 4, with z = 1.96: 0.5 -+ 1.96 sqrt(.25/4 + 1.96^2/64) / (1 + 1.96^2/4) = 0.1500, 0.8500
    assert found.accuracy.low == pytest.approx(0.1500, abs=1e-4)
    assert found.accuracy.high == pytest.approx(0.8500, abs=1e-4)
    assert found.valid_at_once.share == pytest.approx(1 / 3), "no answer came for the fourth"
    assert found.latency_s(0.5) == 1.5
    assert found.latency_s(0.95) == pytest.approx(2.85)


def test_a_document_that_came_twice_counts_once() -> None:
    found = measure("m", "t", 7, [outcome(1, right=True), outcome(1, right=True)], confidence=0.95)
    assert (found.scored, found.cost_nusd) == (1, 1_000_000)


def test_nothing_scored_is_nothing_measured() -> None:
    found = measure("m", "t", 7, [], confidence=0.95, waiting=3)
    assert (found.accuracy, found.mean_score, found.per_document_nusd, found.latency_s(0.5)) == (None,) * 4
    verdict = judge([found], 0.8, 0.95)
    assert (verdict.placed, verdict.chosen, verdict.best) == ((), None, None)
    assert verdict.sentence == "Nothing was measured: no document has an answer yet."


def test_no_correct_answer_has_no_price() -> None:
    assert model("m", 0, 5).per_correct_nusd is None
    assert "no correct answer" in judge([model("m", 0, 50)], 0.8, 0.95).sentence


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0, 1))
def test_percentiles_lie_among_the_values(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found is not None
    assert min(values) <= found <= max(values)


def test_the_cheapest_that_clears_the_floor_is_chosen() -> None:
    cheap, middle, dear = (
        model("cheap", 150, 200, cost_nusd=100_000),
        model("middle", 184, 200, cost_nusd=1_000_000),
        model("dear", 190, 200, cost_nusd=10_000_000),
    )
    verdict = judge([dear, cheap, middle], 0.85, 0.95, present="dear")
    assert [one.model for one in verdict.placed] == ["cheap", "middle", "dear"]
    assert [one.standing for one in verdict.placed] == [Standing.MISSES, Standing.CLEARS, Standing.CLEARS]
    assert verdict.chosen is not None
    assert verdict.best is not None
    assert (verdict.chosen.model, verdict.best.model) == ("middle", "dear")
    # Wilson for 184 of 200: 87.4 to 95.0 %. $0.001 a document is $0.2 / 184 a correct one.
    assert verdict.sentence == (
        "middle is the cheapest model that clears the floor of 85 % with 95 % confidence: "
        "accuracy 92.0 % (87.4 to 95.0 %, 200 scored), $0.001087 per correct answer."
    )
    [switch] = verdict.switches
    assert (switch.first, switch.second) == ("dear", "middle")
    assert (switch.counts.both, switch.counts.only_first, switch.counts.only_second) == (184, 6, 0)
    assert switch.difference.difference == pytest.approx(-0.03)
    assert switch.p_value == pytest.approx(2 * 0.5**6)
    assert switch_words(switch, "the most accurate").startswith(
        "Switching to middle from dear, the most accurate, costs 3.0 points (-6.4 to "
    )
    assert [found.second for found in verdict.against_best] == ["cheap", "middle"]
    assert verdict.against_best[0].within is Within.NO


def test_an_open_case_says_how_many_more_samples_settle_it() -> None:
    verdict = judge([model("near", 88, 100)], 0.85, 0.95)
    [near] = verdict.placed
    assert near.standing is Standing.OPEN
    # 1.96^2 * .85 * .15 / .03^2 = 544.2; 100 are there.
    assert near.more == 445
    assert verdict.chosen is None
    assert verdict.sentence == (
        "No model clears the floor of 85 % with 95 % confidence yet: near may, accuracy 88.0 % "
        "(80.2 to 93.0 %, 100 scored), $0.001136 per correct answer; about 445 more samples would settle it."
    )


def test_an_accuracy_that_is_the_floor_itself_is_never_settled() -> None:
    [at_floor] = judge([model("m", 85, 100)], 0.85, 0.95).placed
    assert (at_floor.standing, at_floor.more) == (Standing.OPEN, None)
    assert "no number of samples settles it" in judge([model("m", 85, 100)], 0.85, 0.95).sentence


def test_none_that_reaches_the_floor_names_the_closest() -> None:
    verdict = judge([model("a", 50, 100), model("b", 60, 100)], 0.9, 0.95)
    assert verdict.sentence.startswith("No model reaches the floor of 90 %: b comes closest, accuracy 60.0 %")
    assert verdict.close_calls == ()


def test_a_cheaper_open_case_is_a_close_call_and_a_dearer_one_is_none() -> None:
    open_cheap = model("cheap", 88, 100, cost_nusd=1)
    clear = model("clear", 99, 100, cost_nusd=10)
    open_dear = model("dear", 88, 100, cost_nusd=100)
    assert [one.model for one in judge([open_dear, clear, open_cheap], 0.85, 0.95).close_calls] == ["cheap"]


def test_the_frontier_leaves_out_what_another_beats() -> None:
    verdict = judge(
        [
            model("a", 70, 100, cost_nusd=1),
            model("b", 60, 100, cost_nusd=2),
            model("c", 90, 100, cost_nusd=3),
            model("d", 90, 100, cost_nusd=4),
        ],
        0.5,
        0.95,
    )
    assert [one.model for one in verdict.placed if one.is_on_frontier] == ["a", "c"]
    assert verdict.best is not None
    assert verdict.best.model == "c"


def test_models_are_compared_on_the_documents_that_both_answered() -> None:
    first = model("first", 100, 100, cost_nusd=10)
    some = measure("some", "t", 2, [outcome(n, right=n % 2 == 0) for n in range(90, 120)], confidence=0.95)
    none = measure("none", "t", 3, [outcome(n, right=False) for n in range(500, 510)], confidence=0.95)
    verdict = judge([first, some, none], 0.5, 0.95)
    assert [(found.second, found.counts.items) for found in verdict.against_best] == [("some", 10)]


def test_the_same_accuracy_on_other_documents_shows_as_disagreement() -> None:
    verdict = judge([model("a", 90, 100), model("b", 90, 100, wrong_first=True)], 0.5, 0.95)
    [found] = verdict.against_best
    assert (found.counts.only_first, found.counts.only_second, found.difference.difference) == (10, 10, 0)
    assert found.p_value == 1
    assert found.within is Within.OPEN


def partly_judged(name: str, right: int, scored: int, unjudged: int, **more: int) -> Measurement:
    """A model of whose answers some wait for a judge."""
    made = model(name, right, scored, **more).outcomes
    return measure(name, "economy", 1, made, confidence=0.95, unjudged=unjudged)


def test_a_model_that_is_judged_in_part_takes_no_part() -> None:
    """What is judged of it is what it has in common with the first, mostly right answers."""
    fooling = partly_judged("fooling", 25, 25, 75, cost_nusd=1)
    assert fooling.accuracy is None
    verdict = judge([model("whole", 95, 100), fooling], 0.8, 0.95, present="fooling")
    assert [one.model for one in verdict.placed] == ["whole"]
    assert [one.model for one in verdict.unjudged] == ["fooling"]
    assert (verdict.present, verdict.switches, verdict.against_best, verdict.close_calls) == (
        None,
        (),
        (),
        (),
    )
    missed = judge([model("low", 50, 100), fooling], 0.8, 0.95)
    assert missed.sentence.startswith("No model whose answers are all judged reaches the floor of 80 %: low")
    both = [model("whole", 95, 100), model("dearer", 96, 100, cost_nusd=10**7), fooling]
    assert judge(both, 0.8, 0.95).sentence.startswith(
        "whole is the cheapest model whose answers are all judged that clears the floor"
    )


def test_where_no_model_is_judged_to_the_end_there_is_no_verdict() -> None:
    verdict = judge([partly_judged("a", 25, 25, 75), partly_judged("b", 40, 50, 50)], 0.8, 0.95)
    assert (verdict.chosen, verdict.best) == (None, None)
    assert verdict.sentence == (
        "No verdict yet: no model's answers are all judged (a 25 of 100 judged so far, b 50 of 100 judged so "
        "far). Let their judging go on."
    )


def refused(name: str, count: int, *, cost_nusd: int = 0, start: int = 0) -> tuple[Outcome, ...]:
    keys = range(start, start + count)
    return tuple(Outcome(b"%20d" % key, False, 0.0, {}, "bad_request", cost_nusd=cost_nusd) for key in keys)


def test_calls_that_were_refused_for_nothing_make_no_model_cheap_or_close() -> None:
    nothing = measure("nothing", "economy", 1, refused("nothing", 2), confidence=0.95)
    assert nothing.per_document_nusd is None
    verdict = judge([nothing, model("good", 99, 100)], 0.5, 0.95, present="nothing")
    assert (verdict.close_calls, verdict.switches, verdict.against_best) == ((), (), ())
    assert verdict.placed[-1].more is None
    assert [one.model for one in verdict.placed] == ["good", "nothing"]
    assert [one.model for one in verdict.placed if one.is_on_frontier] == ["good"]
    alone = judge([nothing], 0.5, 0.95)
    assert alone.sentence == "Nothing was measured: no call brought an answer."
    half = [outcome(number, right=True) for number in range(50)]
    found = measure("half", "economy", 1, [*half, *refused("half", 50, start=50)], confidence=0.95)
    assert found.per_document_nusd == 1_000_000
    paid = measure("paid", "economy", 1, refused("paid", 2, cost_nusd=500), confidence=0.95)
    assert paid.per_document_nusd == 500


@pytest.mark.parametrize(
    ("only_first", "only_second", "both", "words"),
    [
        (0, 30, 170, "gains 15.0 points"),
        (0, 30, 170, "it is better."),
        (30, 0, 170, "it is more than 5 points worse."),
        (12, 0, 988, "it is worse, but at most 5 points."),
        (10, 0, 190, "it is worse, whether by more than 5 is open."),
        (5, 5, 490, "it is at most 5 points worse, if at all."),
        (5, 5, 50, "whether it is more than 5 points worse is open."),
    ],
)
def test_a_switch_says_what_its_interval_shows(
    only_first: int, only_second: int, both: int, words: str
) -> None:
    """The docs' rule: switching is fine where it is not more than 5 points worse."""
    hits = [(True, True)] * both + [(True, False)] * only_first + [(False, True)] * only_second
    first, second = (
        Placed(
            measure(
                name,
                "economy",
                1,
                [outcome(number, right=pair[place]) for number, pair in enumerate(hits)],
                confidence=0.95,
            ),
            Interval(0.5, 0.0, 1.0),
            Standing.OPEN,
            None,
            False,
        )
        for place, name in enumerate(("a", "b"))
    )
    found = compare(first, second, 0.95)
    assert found is not None
    assert words in switch_words(found, "the most accurate")
