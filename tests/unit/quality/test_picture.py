"""The picture: what stands where, that it is well-formed whatever a model is called, light and dark."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batcher.quality.evaluation import measure
from batcher.quality.picture import draw
from batcher.quality.verdict import judge
from tests.unit.quality.test_verdict import model, partly_judged, refused

SVG = "{http://www.w3.org/2000/svg}"


def draw_models(*given: tuple[str, int, int], floor: float = 0.8) -> ET.Element:
    """Models by name, right answers of 100, and cost of a document in nano-dollars."""
    measured = [model(name, right, 100, cost_nusd=cost) for name, right, cost in given]
    return ET.fromstring(draw(judge(measured, floor, 0.95), "cards: 100 known answers"))


def dots(root: ET.Element) -> dict[str, tuple[float, float]]:
    found = {}
    for group in root.iter(f"{SVG}g"):
        circle, label = group.find(f"{SVG}circle"), group.find(f"{SVG}text")
        assert circle is not None
        assert label is not None
        found[label.text or ""] = (float(circle.attrib["cx"]), float(circle.attrib["cy"]))
    return found


def test_costs_stand_by_their_logarithm_and_accuracies_by_their_share() -> None:
    at = dots(draw_models(("a", 80, 1_000), ("b", 90, 10_000), ("c", 100, 100_000)))
    assert at["b"][0] - at["a"][0] == pytest.approx(at["c"][0] - at["b"][0], abs=0.2)
    assert at["a"][1] - at["b"][1] == pytest.approx(at["b"][1] - at["c"][1], abs=0.2)
    assert at["a"][0] < at["b"][0] < at["c"][0]
    assert at["a"][1] > at["b"][1] > at["c"][1]


def test_the_frontier_goes_through_the_models_that_none_beats() -> None:
    root = draw_models(("a", 80, 1_000), ("beaten", 70, 10_000), ("c", 95, 100_000))
    path = next(one for one in root.iter(f"{SVG}path") if one.attrib["class"] == "frontier")
    at = dots(root)
    assert path.attrib["d"] == (
        f"M{at['a'][0]:.1f} {at['a'][1]:.1f} H{at['c'][0]:.1f} V{at['c'][1]:.1f} H720"
    )


def test_the_chosen_one_is_marked_and_the_floor_drawn() -> None:
    root = draw_models(("a", 95, 1_000), ("b", 99, 10_000))
    marked = [one.text for one in root.iter(f"{SVG}text") if "chosen" in one.attrib.get("class", "")]
    assert marked == ["a"]
    texts = [one.text for one in root.iter(f"{SVG}text")]
    assert "floor 80 %" in texts
    assert "a is the cheapest that clears the floor of 80 %; bars are 95 % intervals, the line is the" in (
        " ".join(text or "" for text in texts)
    )


def test_what_costs_nothing_stands_left_of_what_costs_little() -> None:
    at = dots(draw_models(("free", 70, 0), ("a", 80, 10), ("b", 90, 10_000)))
    assert at["free"][0] < at["a"][0]
    assert set(dots(draw_models(("free", 70, 0)))) == {"free"}


def test_it_is_legible_in_the_dark_and_needs_nothing_else() -> None:
    text = draw(judge([model("a", 90, 100)], 0.8, 0.95), "title")
    assert "@media (prefers-color-scheme: dark)" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "<script" not in text


def test_labels_of_equal_models_do_not_lie_on_each_other() -> None:
    root = draw_models(*((f"m{n}", 90, 1_000) for n in range(5)))
    heights = sorted(
        float(one.attrib["y"])
        for one in root.iter(f"{SVG}text")
        if one.attrib.get("class", "").startswith("model")
    )
    assert all(after - before > 14.8 for before, after in pairwise(heights))


def test_nothing_measured_is_still_a_picture() -> None:
    assert dots(ET.fromstring(draw(judge([], 0.8, 0.95), "title"))) == {}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(max_size=30), st.integers(0, 100), st.integers(0, 10**12)
        ),
        min_size=1,
        max_size=6,
        unique_by=lambda one: one[0],
    ),
    st.integers(0, 100),
    st.text(max_size=200),
)  # fmt: skip
def test_any_names_and_figures_make_well_formed_pictures_within_their_frame(
    given: list[tuple[str, int, int]], floor: int, title: str
) -> None:
    measured = [model(name, right, 100, cost_nusd=cost) for name, right, cost in given]
    root = ET.fromstring(draw(judge(measured, floor / 100, 0.95), title))
    circles = list(root.iter(f"{SVG}circle"))
    assert len(circles) == len(given)
    for circle in circles:
        assert 0 <= float(circle.attrib["cx"]) <= 760
        assert 0 <= float(circle.attrib["cy"]) <= 460


def test_models_without_a_fair_place_are_named_and_not_drawn() -> None:
    nothing = measure("nothing", "economy", 1, refused("nothing", 2), confidence=0.95)
    measured = [model("whole", 95, 100), partly_judged("fooling", 25, 25, 75), nothing]
    root = ET.fromstring(draw(judge(measured, 0.8, 0.95), "cards"))
    assert list(dots(root)) == ["whole"]
    texts = [one.text for one in root.iter(f"{SVG}text")]
    assert "Not drawn: fooling (25 of 100 judged so far), nothing (no answer)" in texts
