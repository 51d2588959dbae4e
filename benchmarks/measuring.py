"""What every client process is measured by, and the documents that it sends. Standard library only."""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

WARM_UP_CALLS: Final = 8
"""Calls before the clock starts: imports, connections, caches."""

_TEXT: Final = """
the loan borrower lender shall pay interest on principal at a rate of per cent each quarter until maturity
date unless default occurs in which case all amounts become due and payable without further notice under this
agreement between parties governed by law whose courts have jurisdiction over any dispute arising from
collateral security guarantee covenant representation warranty fee schedule amendment waiver notice
"""


def documents(count: int, size: int, seed: int) -> Iterator[str]:
    """Distinct texts of ``size`` characters each, made up of words as contracts use them."""
    choose = random.Random(seed)
    vocabulary, words = _TEXT.split(), size // 4
    for number in range(count):
        text = f"Document {seed}-{number}. " + " ".join(choose.choices(vocabulary, k=words))
        yield text[:size]


class Stopwatch:
    """Wall-clock and CPU time (user and system, of this process and its ended children) since it was made."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._cpu = _cpu_s()

    def read(self) -> dict[str, float]:
        """Seconds so far."""
        return {"wall_s": time.perf_counter() - self._wall, "cpu_s": _cpu_s() - self._cpu}


def _cpu_s() -> float:
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


def peak_rss_mb() -> float:
    """The most memory that this process had so far, MB."""
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6


def allow_open_files(count: int) -> None:
    """Raise the limit of open files as far as this machine lets us, for one socket per call in flight."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def report(**measured: Any) -> None:
    """Hand the figures to the parent: one line of JSON, the last one on standard output."""
    print(json.dumps(measured), flush=True)
