"""How much of an account's rate is used, and how many calls are refused, with 1, 2 and 4 processes.

    python benchmarks/rates.py
    python benchmarks/rates.py --seconds 20 --processes 2 --tokens 1000

All processes share one limiter in Redis, against a server on loopback that holds the account to 6,000
requests and 2,000,000 tokens a minute. Then the server halves both in mid-run. The exit code is 1 if a bar is
missed: at least 98 % of the allowed rate used, at most 0.1 % of calls refused; after the halving 98 % of the
new rate within 15 s.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tests.support.redis_server import RedisServer  # noqa: E402 - needs the path above

LEAST_SHARE: Final = 0.98
MOST_REFUSED: Final = 0.001
RECOVERY_S: Final = 15
AFTER_S: Final = 30
"""How long the share is measured after a recovery."""


@dataclass(frozen=True)
class Outcome:
    """What the server saw of one run.

    Attributes:
        share: of the limit that was used most, in the seconds that count.
        refused: share of all calls answered with 429.
        calls: how many there were.
        cpu_ms: of the workers, per call.
    """

    share: float
    refused: float
    calls: int
    cpu_ms: float


class Server:
    """The account's vendor, in a process of its own."""

    def __init__(self, port: int, rpm: int, tpm: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.rpm, self.tpm = rpm, tpm

    def halve(self) -> int:
        """Halve both limits; the second of the run in which that happened."""
        self.rpm, self.tpm = self.rpm // 2, self.tpm // 2
        return int(self._ask("/limits", {"rpm": self.rpm, "tpm": self.tpm})["second"])

    def share(self, first: int, last: int) -> float:
        """Of the limit that was used most, in the seconds from ``first`` up to ``last``."""
        counts, minutes = self.counts(), (last - first) / 60
        requests = _sum(counts["served"], first, last) / (self.rpm * minutes)
        return max(requests, _sum(counts["served_tokens"], first, last) / (self.tpm * minutes))

    def counts(self) -> dict[str, dict[str, int]]:
        """What it served and refused, by the second."""
        return self._ask("/counts")

    def _ask(self, path: str, body: dict[str, int] | None = None) -> Any:
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"})
        with urllib.request.urlopen(request) as response:
            return json.load(response)


def main(arguments: argparse.Namespace) -> int:
    """Run everything, print it, and say whether the bars are met."""
    missed = 0
    print(f"{arguments.rpm:,} requests/min, {arguments.tpm:,} tokens/min, {arguments.tokens} tokens a call\n")
    print(f"{'processes':>22} {'share used':>11} {'429':>8} {'calls':>7} {'CPU ms/call':>12}")
    for count in arguments.processes:
        outcome = steady_run(arguments, count)
        missed += show(f"{count}", outcome, outcome.refused <= MOST_REFUSED)
    if not arguments.no_halving:
        outcome = halving_run(arguments, max(arguments.processes))
        missed += show(f"{max(arguments.processes)}, halved", outcome, bars_on_refusals=True)
        print(f"\nThe last line is the share of the halved rate, from {RECOVERY_S} s after the halving on.")
    return 1 if missed else 0


def show(name: str, outcome: Outcome, bars_on_refusals: bool) -> int:
    """Print a line; 1 if its bar is missed."""
    met = outcome.share >= LEAST_SHARE and bars_on_refusals
    figures = f"{outcome.share:>10.2%} {outcome.refused:>8.3%} {outcome.calls:>7,} {outcome.cpu_ms:>12.2f}"
    print(f"{name:>22} {figures}" + ("" if met else "   BAR MISSED"), flush=True)
    return 0 if met else 1


def steady_run(arguments: argparse.Namespace, processes: int) -> Outcome:
    """A run at constant limits."""
    with a_run(arguments, processes, arguments.seconds) as (server, clients):
        cpu_s = finish(clients)
        return outcome_of(server, 0, int(arguments.seconds), cpu_s)


def halving_run(arguments: argparse.Namespace, processes: int) -> Outcome:
    """A run in which the limits are halved after a third."""
    before_s = max(5, int(arguments.seconds) // 3)
    with a_run(arguments, processes, before_s + RECOVERY_S + AFTER_S + 2) as (server, clients):
        deadline = time.monotonic() + before_s
        while not server.counts()["served"]:
            time.sleep(0.05)
        time.sleep(max(0.0, deadline - time.monotonic()))
        start = server.halve() + 1 + RECOVERY_S
        cpu_s = finish(clients)
        return outcome_of(server, start, start + AFTER_S - 1, cpu_s)


def outcome_of(server: Server, first: int, last: int, cpu_s: float) -> Outcome:
    """Read the server's counts."""
    counts = server.counts()
    refused, served = sum(counts["refused"].values()), sum(counts["served"].values())
    calls = refused + served
    return Outcome(server.share(first, last), refused / calls, calls, 1000 * cpu_s / calls)


@contextmanager
def a_run(
    arguments: argparse.Namespace, processes: int, seconds: float
) -> Iterator[tuple[Server, list[subprocess.Popen[str]]]]:
    """A fresh server, a fresh Redis, and the workers, which start at once."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        redis = stack.enter_context(RedisServer(Path(folder)))
        limits = ["--rpm", str(arguments.rpm), "--tpm", str(arguments.tpm)]
        strict = ["--strict"] if arguments.strict else []
        vendor = stack.enter_context(
            child("rate_server.py", *limits, "--capacity-s", str(arguments.capacity_s), *strict)
        )
        assert vendor.stdout is not None
        server = Server(json.loads(vendor.stdout.readline())["port"], arguments.rpm, arguments.tpm)
        options = ["--base-url", server.url, "--redis-url", redis.url, "--seconds", str(seconds)]
        options += ["--tokens", str(arguments.tokens), "--in-flight", str(arguments.in_flight)]
        options += ["--default-rpm", str(arguments.default_rpm or arguments.rpm)]
        options += ["--default-tpm", str(arguments.default_tpm or arguments.tpm)]
        yield server, [stack.enter_context(child("rates_client.py", *options)) for _ in range(processes)]


@contextmanager
def child(script: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended at the end."""
    with subprocess.Popen(
        [sys.executable, str(HERE / script), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(clients: Sequence[subprocess.Popen[str]]) -> float:
    """Wait for the workers; their CPU seconds."""
    cpu_s = 0.0
    for client in clients:
        output, _ = client.communicate()
        if client.returncode:
            raise RuntimeError(f"a worker ended with {client.returncode}")
        cpu_s += json.loads(output.splitlines()[-1])["cpu_s"]
    return cpu_s


def _sum(by_second: dict[str, int], first: int, last: int) -> int:
    return sum(count for second, count in by_second.items() if first <= int(second) < last)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--processes", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2, 4]
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rpm", type=int, default=6_000)
    parser.add_argument("--tpm", type=int, default=2_000_000)
    parser.add_argument(
        "--tokens", type=int, default=300, help="tokens of a call; above 333 they are the limit"
    )
    parser.add_argument("--in-flight", type=int, default=100, help="calls in flight at most, per process")
    parser.add_argument(
        "--default-rpm", type=int, help="what workers believe until headers tell; default: --rpm"
    )
    parser.add_argument("--default-tpm", type=int)
    parser.add_argument("--capacity-s", type=float, default=60.0, help="what the server's buckets hold")
    parser.add_argument("--strict", action="store_true", help="the server also counts any 60 seconds exactly")
    parser.add_argument("--no-halving", action="store_true")
    sys.exit(main(parser.parse_args()))
