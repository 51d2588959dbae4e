"""batcher before an independent judge: the PyPI package llmock serves vendors' APIs and grades their clients.

Its verdict names every call whose Retry-After was ignored, that was retried although no retry could help,
more than ten times, without backing off, or not at all.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sysconfig
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select

from batcher.store.tables import attempts, items

try:  # as a script's neighbour, or from the project's root
    from fault_run import open_runtime, run_once, submit, write_home
except ModuleNotFoundError:
    from benchmarks.fault_run import open_runtime, run_once, submit, write_home

ROUTES: Final = {
    "openai": ("gpt-4o-mini", "/v1"),
    "anthropic": ("claude-haiku-4-5", "/anthropic"),
    "together": ("llama-3.3-70b@together", "/together/v1"),
    "groq": ("gpt-oss-20b@groq", "/groq/openai/v1"),
    "mistral": ("mistral-small-4", "/mistral/v1"),
}
"""The model that does the work on each route, and where llmock answers it."""

_READY_WITHIN_S: Final = 20.0
_ANSWER: Final = {"type": "reply", "text": '{"label": "said by a script", "score": 1.0}', "times": None}
"""llmock 0.2 does not know Anthropic's ``output_config``, and would answer in prose."""


@dataclass(frozen=True)
class Judgement:
    """What a run came to.

    Attributes:
        verdict: llmock's own words.
        statuses: requests that llmock received, by status and the fault that it gave them.
        items: items by status and class of failure.
        sent: attempts in batcher's books that left.
        seconds: wall clock.
    """

    verdict: dict[str, Any]
    statuses: Counter[tuple[int, str]]
    items: Counter[tuple[str, str | None]]
    sent: int
    seconds: float

    @property
    def refused(self) -> int:
        """Calls answered 429 because the limit was really met."""
        return sum(count for (_, fault), count in self.statuses.items() if fault.startswith("ratelimit"))

    @property
    def line(self) -> str:
        """In one line."""
        findings = Counter(finding["code"] for finding in self.verdict["findings"])
        faults = sum(count for (status, _), count in self.statuses.items() if status != 200)
        return (
            f"{self.seconds:6.1f} s  {self.verdict['attempts']:5} requests  {faults:4} faulty"
            f"  {self.refused:3} over the limit"
            f"  items {dict(self.items)}  findings {dict(findings) or 'none'}"
        )


@contextmanager
def llmock(options: Sequence[str]) -> Iterator[str]:
    """``llmock serve`` as a child process; gives its root URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = shutil.which("llmock", path=sysconfig.get_path("scripts")) or "llmock"
    command = [program, "serve", "--port", str(port), "--log-level", "critical", *options]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(server, url)
        yield url
    finally:
        server.terminate()
        server.wait()


def _wait_until_ready(server: subprocess.Popen[bytes], url: str) -> None:
    ends_at = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < ends_at and server.poll() is None:
        try:
            _ask(f"{url}/health")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("llmock did not start: pip install llmock")


def _ask(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=60) as answer:
        return json.loads(answer.read())


def judge(
    home: Path, route: str, corpus: dict[str, str], options: Sequence[str], *, toml: str = ""
) -> Judgement:
    """Put documents through one of llmock's routes and have the client graded.

    Args:
        home: an empty folder.
        route: a key of ``ROUTES``.
        corpus: texts by source.
        options: of ``llmock serve``.
        toml: settings of a user; without them the catalogue's limits hold until headers tell better.
    """
    model, place = ROUTES[route]
    with llmock(options) as url:
        if route == "anthropic":
            _ask(f"{url}/_llmock/scenario", {"behaviors": [_ANSWER]})
        write_home(home, route, url + place, toml)
        job = submit(open_runtime(home), model, corpus)
        started = time.monotonic()
        run_once(open_runtime(home), job.id)
        seconds = time.monotonic() - started
        requests = _ask(f"{url}/_llmock/requests")["requests"]
        verdict = _ask(f"{url}/_llmock/verdict")
    with open_runtime(home).store.read() as connection:
        return Judgement(
            verdict=verdict,
            statuses=Counter((request["status"], request["fault"] or "") for request in requests),
            items=Counter((row.status, row.error_class) for row in connection.execute(select(items))),
            sent=sum(row.outcome != "not_sent" for row in connection.execute(select(attempts))),
            seconds=seconds,
        )
