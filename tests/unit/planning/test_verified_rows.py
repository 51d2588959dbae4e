"""A verifier's word on the answers that a ladder is learned from."""

from __future__ import annotations

import pytest

from batcher.errors import TaskError
from batcher.planning.ladder_checks import verified_rows
from batcher.routing.ladder.records import GoldenRow, RecordedAnswer

ROW = GoldenRow(
    "a.txt", "text", None, {"m": RecordedAnswer('{"x":1}', True, 5), "n": RecordedAnswer("", False, 5)}
)


def test_an_answer_that_is_missing_is_not_verified() -> None:
    [row] = verified_rows([ROW], lambda text, answer: float(text == "text" and answer == {"x": 1}))
    assert {name: given.verified for name, given in row.answers.items()} == {"m": 1.0, "n": None}


def test_a_verifier_that_fails_is_told_with_the_answer_and_that_what_was_paid_is_kept() -> None:
    def verify(text: str, answer: object) -> float:
        raise TaskError(f"It failed on {answer!r} to {text}")

    with pytest.raises(
        TaskError, match=r"a\.txt, the answer of m: It failed on .*\nWhat was measured is kept"
    ):
        verified_rows([ROW], verify)
