"""The race for the cap, one short run per database; ``benchmarks/cap_race.py`` runs all of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

RACE = Path(__file__).resolve().parents[2] / "benchmarks" / "cap_race.py"
SEED = 1


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_no_kill_no_fault_and_no_sleep_gets_workers_over_the_cap(database: str) -> None:
    options = ["--seeds", "1", "--first-seed", str(SEED), "--databases", database]
    ended = subprocess.run(
        [sys.executable, str(RACE), *options, "--cap", "0.10", "--workers", "4", "--kill-every-s", "2"],
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    races = re.findall(
        rf"^seed {SEED} {database} (.*): ok .* (\d+) killed, .* (\d+) looks", ended.stdout, re.M
    )
    assert [name for name, _, _ in races] == ["kills and faults", "calm"]
    assert int(races[0][1]) >= 1, "a worker was killed"
    assert all(int(looks) > 10 for _, _, looks in races)
    assert "WRONG" not in ended.stdout
