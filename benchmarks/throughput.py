"""Throughput and CPU per document: batcher beside raw aiohttp, the OpenAI SDK and curator, in one run.

    python benchmarks/throughput.py --curator

Every client runs in a process of its own against one loopback server that answers after 200 ms. Absolute
figures drift from machine to machine: read the ratios. The exit code is 1 if batcher misses its bar.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

HERE: Final = Path(__file__).parent
CURATOR_VERSION: Final = "0.1.31"
MOST_OF_CURATORS_CPU: Final = 0.5
LEAST_OF_RAW_RATE: Final = 0.9
BAR_IN_FLIGHT: Final = 200

RAW: Final = "raw-aiohttp"
CURATOR: Final = "curator"
BATCHERS: Final = ("batcher-openai", "batcher-anthropic", "batcher-together")
CLIENTS: Final = (RAW, "openai-aiohttp", "openai", *BATCHERS)


@dataclass(frozen=True)
class Figures:
    """Medians over the rounds of one client. ``ingestion_ms`` is CPU per document, where it is measured."""

    docs_per_s: float
    cpu_ms: float
    rss_mb: float
    ingestion_ms: float | None


class Benchmark:
    """Starts clients against one server."""

    def __init__(self, arguments: argparse.Namespace, base_url: str, curator: Path | None) -> None:
        self._arguments = arguments
        self._base_url = base_url
        self._curator = curator

    def run(self, names: Sequence[str], in_flight: int) -> dict[str, Figures]:
        """Run clients one after the other, each round in the other direction; medians by name."""
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for number in range(self._arguments.rounds):
            for name in names if number % 2 == 0 else reversed(names):
                measured = self._client(name, in_flight)
                runs[name].append(measured)
                print(f"  {name}: {_rate(measured):,.0f} docs/s", file=sys.stderr, flush=True)
        return {name: _medians(measured) for name, measured in runs.items()}

    def _client(self, name: str, in_flight: int) -> dict[str, Any]:
        python = sys.executable
        script = [str(HERE / "clients.py"), name]
        if name == CURATOR:
            python, script = str(self._curator), [str(HERE / "curator_client.py")]
        sizes = ["--docs", str(self._arguments.docs), "--in-flight", str(in_flight)]
        command = [python, *script, "--base-url", self._base_url, *sizes]
        ended = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
        if ended.returncode != 0:
            raise SystemExit(f"{name} failed:\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}")
        measured: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
        return measured


def _environment() -> dict[str, str]:
    """This environment without proxies and without a user's own settings of batcher."""
    left_out = ("BATCHER_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(left_out)}


def _rate(measured: dict[str, Any]) -> float:
    return float(measured["docs"] / measured["wall_s"])


def _medians(runs: list[dict[str, Any]]) -> Figures:
    ingestion = [run["ingestion_cpu_s"] / run["docs"] * 1000 for run in runs if "ingestion_cpu_s" in run]
    return Figures(
        docs_per_s=median(_rate(run) for run in runs),
        cpu_ms=median(run["cpu_s"] / run["docs"] * 1000 for run in runs),
        rss_mb=median(run["peak_rss_mb"] for run in runs),
        ingestion_ms=median(ingestion) if ingestion else None,
    )


@contextmanager
def loopback_server(latency_s: float) -> Iterator[str]:
    """The server as a child process; gives its base URL."""
    command = [sys.executable, str(HERE / "loopback_server.py"), "--latency-s", str(latency_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        if not port:
            raise SystemExit("The loopback server did not start.")
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.communicate()


def curator_python(cache: Path) -> Path | None:
    """The interpreter of an environment that has curator, made on first use; None if it cannot be had."""
    folder = cache / f"curator-{CURATOR_VERSION}"
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if ready.exists():
        return python
    print(f"Installing curator {CURATOR_VERSION} into {folder} ...", file=sys.stderr, flush=True)
    venv.create(folder, with_pip=True, clear=True)
    package = f"bespokelabs-curator=={CURATOR_VERSION}"
    command = [str(python), "-m", "pip", "install", "--quiet", package]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        print(f"curator cannot be installed, going on without it:\n{ended.stderr[-500:]}", file=sys.stderr)
        return None
    ready.touch()
    return python


def print_table(figures: dict[str, Figures], in_flight: int) -> None:
    """Absolute values and ratios, one line per client."""
    raw, curator = figures[RAW], figures.get(CURATOR)
    print(f"\n{in_flight} in flight")
    print(
        f"{'client':<20}{'docs/s':>8}{'CPU ms/doc':>12}{'RSS MB':>8}  {'rate/raw':>9}{'CPU/raw':>9}", end=""
    )
    print(f"{'CPU/curator':>13}")
    for name, own in figures.items():
        beside = f"{own.cpu_ms / curator.cpu_ms:13.2f}" if curator else f"{'-':>13}"
        print(
            f"{name:<20}{own.docs_per_s:8,.0f}{own.cpu_ms:12.3f}{own.rss_mb:8.0f}"
            f"  {own.docs_per_s / raw.docs_per_s:9.2f}{own.cpu_ms / raw.cpu_ms:9.1f}{beside}"
        )
    for name, own in figures.items():
        if own.ingestion_ms is not None:
            print(f"{name}: ingestion before that, {own.ingestion_ms:.3f} CPU ms/doc")


def judge(figures: dict[str, Figures]) -> bool:
    """Say for every way through batcher whether it clears its bar; True if all do."""
    raw, curator = figures[RAW], figures.get(CURATOR)
    cleared = True
    print()
    for name in BATCHERS:
        own = figures[name]
        rate = own.docs_per_s / raw.docs_per_s
        lines = [
            (f"rate {rate:.2f} of raw aiohttp's, at least {LEAST_OF_RAW_RATE}", rate >= LEAST_OF_RAW_RATE)
        ]
        if curator:
            share = own.cpu_ms / curator.cpu_ms
            text = f"CPU {share:.2f} of curator's, at most {MOST_OF_CURATORS_CPU}"
            lines.append((text, share <= MOST_OF_CURATORS_CPU))
        for text, met in lines:
            print(f"{'met   ' if met else 'MISSED'}  {name}: {text}")
            cleared = cleared and met
    if not curator:
        print("not measured: the bar beside curator (run with --curator)")
    return cleared


def print_growth(by_in_flight: dict[int, dict[str, Figures]]) -> None:
    """CPU per document of batcher at each number of calls in flight, beside the first."""
    first = next(iter(by_in_flight.values()))
    print("\nCPU per document as calls in flight grow")
    for in_flight, figures in by_in_flight.items():
        parts = [
            f"{name} {figures[name].cpu_ms:.3f} ms ({figures[name].cpu_ms / first[name].cpu_ms:.2f} x)"
            for name in figures
            if name in {RAW, *BATCHERS}
        ]
        print(f"{in_flight:>6}: {', '.join(parts)}")


def main() -> int:
    """Run the benchmark; 0 if every bar is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--docs", type=int, default=4_000, help="documents per client and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--in-flight", default=str(BAR_IN_FLIGHT), help="200, or a list like 50,200,1000,2000"
    )
    parser.add_argument("--latency-s", type=float, default=0.2, help="how long the server takes to answer")
    parser.add_argument("--curator", action="store_true", help="measure curator too; installs it once")
    cache = Path.home() / ".cache" / "batcher-benchmarks"
    parser.add_argument("--cache", type=Path, default=cache, help="where curator's environment is kept")
    arguments = parser.parse_args()
    curator = curator_python(arguments.cache) if arguments.curator else None
    widths = [int(width) for width in arguments.in_flight.split(",")]
    measured: dict[int, dict[str, Figures]] = {}
    with loopback_server(arguments.latency_s) as base_url:
        benchmark = Benchmark(arguments, base_url, curator)
        for width in widths:
            at_bar = width == BAR_IN_FLIGHT or len(widths) == 1
            names = [*CLIENTS, *([CURATOR] if curator else [])] if at_bar else [RAW, *BATCHERS]
            measured[width] = benchmark.run(names, width)
            print_table(measured[width], width)
    if len(widths) > 1:
        print_growth(measured)
    judged = measured.get(BAR_IN_FLIGHT) or measured[widths[0]]
    return 0 if judge(judged) else 1


if __name__ == "__main__":
    sys.exit(main())
