"""What starting batcher takes, beside starting Python: ``batcher --help`` is to take under 0.3 s.

    python benchmarks/startup.py

Runs each command in turn, so that a slow moment of the machine hits all alike; prints the least and median
of the rounds, and how many times Python's own start that is.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Final

COMMANDS: Final = {
    "python -c pass": ["-c", "pass"],
    "batcher --help": ["-m", "batcher", "--help"],
    "batcher --version": ["-m", "batcher", "--version"],
    "batcher submit --help": ["-m", "batcher", "submit", "--help"],
    "batcher jobs": ["-m", "batcher", "jobs"],
}

BAR_S: Final = 0.3
"""Of ``batcher --help``, on an idle machine."""


def main() -> int:
    """Measure; the exit code is 1 if the help takes longer than it may."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "BATCHER_HOME": home}
        for _ in range(rounds):
            for name, arguments in COMMANDS.items():
                started = time.perf_counter()
                subprocess.run([sys.executable, *arguments], env=env, capture_output=True, check=True)
                taken[name].append(time.perf_counter() - started)
    bare_s = min(taken["python -c pass"])
    for name, times in taken.items():
        least_s, median_s = min(times), statistics.median(times)
        print(f"{name:24} least {least_s:.3f} s  median {median_s:.3f} s  {least_s / bare_s:5.1f} x Python")
    return 0 if min(taken["batcher --help"]) < BAR_S else 1


if __name__ == "__main__":
    raise SystemExit(main())
