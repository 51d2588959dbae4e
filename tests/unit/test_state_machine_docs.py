"""Holds the drawings of docs/state-machine.md against the transition tables of batcher/domain.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from batcher.domain import (
    ATTEMPT_TRANSITIONS,
    ITEM_TRANSITIONS,
    JOB_TRANSITIONS,
    LEASE_TRANSITIONS,
    AttemptState,
    ItemStatus,
    JobState,
    LeaseState,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "state-machine.md"
DRAWING = re.compile(r"^## (\w+)\n.*?```mermaid\nstateDiagram-v2\n(.*?)```", re.DOTALL | re.MULTILINE)
ARROW = re.compile(r"^\s+(\w+|\[\*\]) --> (\w+|\[\*\])(?:: (\S.*))?$")
EDGE = "[*]"

TABLES: dict[str, tuple[type[StrEnum], Mapping[Any, frozenset[Any]]]] = {
    "Job": (JobState, JOB_TRANSITIONS),
    "Item": (ItemStatus, ITEM_TRANSITIONS),
    "Attempt": (AttemptState, ATTEMPT_TRANSITIONS),
    "Lease": (LeaseState, LEASE_TRANSITIONS),
}


def arrows(page: str) -> dict[str, list[tuple[str, str, str]]]:
    """Source, target and label of every arrow, by the heading of its drawing."""
    drawn = {}
    for heading, body in DRAWING.findall(page):
        lines = [line for line in body.splitlines() if line.strip()]
        matches = [ARROW.match(line) for line in lines]
        assert all(matches), f"{heading}: a line is no arrow: {lines}"
        drawn[heading] = [(m[1], m[2], m[3] or "") for m in matches if m]
    return drawn


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[tuple[str, str, str]]]:
    return arrows(PAGE.read_text(encoding="utf-8"))


def test_the_page_draws_each_of_them_once(drawn: dict[str, list[tuple[str, str, str]]]) -> None:
    assert list(drawn) == list(TABLES)


@pytest.mark.parametrize("heading", TABLES)
def test_the_drawing_is_the_table(heading: str, drawn: dict[str, list[tuple[str, str, str]]]) -> None:
    _, table = TABLES[heading]
    legal = [(source.value, target.value) for source, targets in table.items() for target in targets]
    shown = [(source, target) for source, target, _ in drawn[heading] if EDGE not in (source, target)]
    assert sorted(shown) == sorted(legal)


@pytest.mark.parametrize("heading", TABLES)
def test_ends_are_drawn_as_ends(heading: str, drawn: dict[str, list[tuple[str, str, str]]]) -> None:
    _, table = TABLES[heading]
    ends = {state.value for state, targets in table.items() if not targets}
    assert {source for source, target, _ in drawn[heading] if target == EDGE} == ends


@pytest.mark.parametrize("heading", TABLES)
def test_every_state_has_a_row_and_can_be_reached(
    heading: str, drawn: dict[str, list[tuple[str, str, str]]]
) -> None:
    states, table = TABLES[heading]
    assert set(table) == set(states)
    assert {target for _, target, _ in drawn[heading]} - {EDGE} == {state.value for state in states}


@pytest.mark.parametrize("heading", TABLES)
def test_every_arrow_says_why(heading: str, drawn: dict[str, list[tuple[str, str, str]]]) -> None:
    silent = [(source, target) for source, target, label in drawn[heading] if target != EDGE and not label]
    assert not silent


def test_a_wrong_drawing_would_be_noticed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    wrong = arrows(page.replace("active --> closed:", "closed --> active:"))
    legal = {(s.value, t.value) for s, targets in LEASE_TRANSITIONS.items() for t in targets}
    assert {(s, t) for s, t, _ in wrong["Lease"] if EDGE not in (s, t)} != legal
