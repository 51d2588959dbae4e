"""The benchmarks run from end to end on a few documents; their figures mean nothing at that size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=BENCHMARKS, capture_output=True, text=True, timeout=240, check=False
    )


def test_throughput_measures_every_client_and_judges() -> None:
    sizes = ["--docs", "48", "--rounds", "1", "--latency-s", "0.01", "--in-flight", "16,24"]
    ended = run("throughput.py", *sizes)
    lines = ended.stdout.splitlines()
    for name in ("raw-aiohttp", "batcher-openai", "batcher-anthropic", "batcher-together"):
        rows = [line for line in lines if line.startswith(f"{name} ")]
        assert len(rows) == 2, ended.stderr
    verdicts = [line for line in lines if line.startswith(("met ", "MISSED "))]
    assert len(verdicts) == 3
    assert ended.returncode == int(any(line.startswith("MISSED") for line in verdicts))


def test_scale_ingests_and_judges(tmp_path: Path) -> None:
    ended = run("scale.py", "--docs", "1500", "--folder", str(tmp_path))
    lines = ended.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["1,000", "1,500"], ended.stderr
    assert ended.returncode == int(any(line.startswith("MISSED") for line in lines))
    assert not list(tmp_path.iterdir())


def test_distributed_runs_worker_processes_and_judges(tmp_path: Path) -> None:
    sizes = ["--items", "1500", "--docs", "100", "--rounds", "1", "--workers", "1,2"]
    ended = run("distributed.py", *sizes, "--folder", str(tmp_path))
    lines = ended.stdout.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("        ")] == ["1", "2"], ended.stderr
    verdicts = [line for line in lines if line.startswith(("met ", "MISSED "))]
    assert len(verdicts) >= 7, ended.stderr
    assert ended.returncode == int(any(line.startswith("MISSED") for line in verdicts))
