"""The manual's page on the simulator: its example runs, and it names every kind of fault and every limit."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

from batcher.simulator.faults import KINDS, FaultScript
from batcher.simulator.rate_limits import Limits

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "simulator.md").read_text("utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, flags=re.S)
    assert found is not None
    return found[1]


def test_the_example_in_python_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block("python")], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("200 {")
    assert "'cost_nusd'" in done.stdout


def test_the_example_of_a_script_is_one() -> None:
    script = FaultScript()
    script.add(tomllib.loads(block("toml"))["faults"])
    assert [fault.times for fault in script.faults] == [None, None, 3]


def test_every_kind_and_every_limit_is_named() -> None:
    words = set(re.findall(r"`([a-z_0-9]+)`", PAGE))
    assert KINDS - words == set()
    assert {one.name for one in fields(Limits)} - words == set()
