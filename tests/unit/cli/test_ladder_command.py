from __future__ import annotations

import sys

import pytest
from click.testing import CliRunner

from batcher.cli.ladder import judged_to_the_end, ladder
from batcher.errors import ConfigurationError, UsageError
from tests.unit.quality.test_verdict import model, partly_judged


def test_what_learning_needs_is_looked_for_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring models costs, and would be for nothing."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    words = ["learn", "--task", "classification", "--golden", "nowhere.jsonl", "--accuracy", "0.9"]
    with pytest.raises(ConfigurationError, match=r"pip install 'batcher\[ladder\]'"):
        CliRunner().invoke(ladder, words, catch_exceptions=False)


def test_a_ladder_is_not_learned_from_models_that_are_judged_in_part(
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, partly = model("whole", 95, 100), partly_judged("partly", 25, 25, 75)
    assert judged_to_the_end([whole, partly]) == [whole]
    assert "partly is left out: 25 of 100 judged so far" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no ladder was learned"):
        judged_to_the_end([partly])
