"""Many workers under attack, one short run; ``benchmarks/chaos.py`` runs all of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CHAOS = Path(__file__).resolve().parents[2] / "benchmarks" / "chaos.py"
SEED = 3


def test_no_attack_loses_an_item_or_pays_for_one_twice() -> None:
    ended = subprocess.run(
        [sys.executable, str(CHAOS), "--seeds", "1", "--first-seed", str(SEED), "--docs", "600"],
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    [deeds] = re.findall(rf"^seed {SEED}: ok in \d+ s, \d+ looks; (.*)$", ended.stdout, re.M)
    assert len(deeds.split(", ")) >= 4, "it was attacked in several ways"
    assert "WRONG" not in ended.stdout
