"""What a worker process says of the tiers that it cannot serve."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from batcher.planning.naming import tiers_with_queue
from batcher.runtime import Runtime
from batcher.settings import Settings
from workers.process import WorkerProcess

KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "TOGETHER_API_KEY", "GEMINI_API_KEY")


@pytest.mark.parametrize(("key", "state"), [(None, "trouble"), ("sk-never-used-0000", "serving")])
def test_a_local_tier_that_is_not_installed_counts_as_not_served(
    key: str | None, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    runtime = Runtime(Settings(home=tmp_path))
    process = WorkerProcess(runtime, tiers_with_queue(runtime.catalog))
    process.start()
    try:
        said = process.describe()
    finally:
        process.stop()
        assert process.join(20)
    assert said["state"] == state
    assert "pip install 'batcher[local]'" in said["unserved"]["local"]
    assert ("economy" in said["unserved"]) is (key is None)
