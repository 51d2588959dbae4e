from __future__ import annotations

import sys

import pytest
from click.testing import CliRunner

from batcher.cli.ladder import ladder
from batcher.errors import ConfigurationError


def test_what_learning_needs_is_looked_for_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring models costs, and would be for nothing."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    words = ["learn", "--task", "classification", "--golden", "nowhere.jsonl", "--accuracy", "0.9"]
    with pytest.raises(ConfigurationError, match=r"pip install 'batcher\[ladder\]'"):
        CliRunner().invoke(ladder, words, catch_exceptions=False)
