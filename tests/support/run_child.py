"""Runs jobs in a process of its own, to be killed: ``python -m tests.support.run_child HOME JOB...``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from batcher.dispatch.inline import run_inline
from batcher.runtime import Runtime
from batcher.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]


def start(home: Path, job_id: int) -> subprocess.Popen[str]:
    """Start a job in a process of its own; it prints how it ended."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.run_child", str(home), str(job_id)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def ended(home: Path, job_id: int) -> str:
    """Run a job in a process of its own to its end; returns how it ended."""
    output, _ = start(home, job_id).communicate(timeout=120)
    return output.strip()


def main(home: Path, job_ids: list[int]) -> None:
    """Run the jobs as ``batcher resume`` would."""
    runtime = Runtime(load_settings(home / "batcher.toml", home=home, env_file=home / "keys.env"))
    ending = run_inline(runtime.engine, runtime.aclose, job_ids)
    sys.stdout.write(f"{ending}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(argument) for argument in sys.argv[2:]])
