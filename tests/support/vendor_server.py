"""The product's simulator as the tests' vendor on loopback: real HTTP, its own bill, faults on demand.

In process, in a thread with its own event loop::

    with VendorServer(latency_s=0.2) as vendor:
        vendor.openai_url, vendor.anthropic_url, vendor.together_url
        vendor.add_fault(status=429, headers={"retry-after": "1"}, times=3)
        vendor.wait_for_calls(10)
        vendor.bill, vendor.totals()

As a process of its own, with the same methods: ``with VendorProcess() as vendor``, or by hand
``python -m tests.support.vendor_server --port 0`` (prints its port). What it does over HTTP stands in
``batcher/simulator/server.py``.

An answer fits the schema in the request, is made from the request alone, and is cut at the request's output
limit. There are no limits and no waiting unless a test asks for them.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import orjson

from batcher.simulator.bill import BillLine
from batcher.simulator.core import Simulator, SimulatorConfig
from batcher.simulator.faults import Fault
from batcher.simulator.requests import Call
from batcher.simulator.server import SimulatorServer

MODELS = ("loopback-small", "loopback-large")


class _Client:
    """What tests do with a vendor, wherever it runs."""

    port: int

    @property
    def root_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        return f"{self.root_url}/v1"

    @property
    def anthropic_url(self) -> str:
        return self.root_url

    @property
    def together_url(self) -> str:
        return f"{self.root_url}/together/v1"

    @property
    def groq_url(self) -> str:
        return f"{self.root_url}/groq/openai/v1"

    @property
    def mistral_url(self) -> str:
        return f"{self.root_url}/mistral/v1"

    @property
    def bill(self) -> list[BillLine]:
        """Every request received, in order of arrival."""
        rows: list[BillLine] = []
        after: int | None = 0
        while after is not None:
            page = self._ask("GET", f"/_bill?after={after}")
            rows += [BillLine(**row) for row in page["calls"]]
            after = page["next"]
        return rows

    def totals(self) -> dict[str, Any]:
        """calls, finished, ok, billed, sent, peak_in_flight; tokens and cost_nusd of billed calls."""
        totals: dict[str, Any] = self._ask("GET", "/_totals")
        return totals

    def clear_bill(self) -> None:
        self._ask("DELETE", "/_bill")

    def add_fault(self, **fields: Any) -> None:
        """Add a ``Fault``; the first that hits a call spoils it."""
        self._ask("POST", "/_faults", fields)

    def clear_faults(self) -> None:
        self._ask("DELETE", "/_faults")

    def configure(self, *, rate: float | None = None, burst: float = 1, **fields: Any) -> None:
        """Change ``SimulatorConfig`` fields; ``rate`` allows so many calls per second, ``burst`` at once."""
        if fields:
            self._ask("POST", "/_config", fields)
        if rate is not None:
            self.limit(rpm=60 * rate, burst_s=burst / rate)

    def limit(self, **limits: Any) -> None:
        """Change ``Limits`` fields, of a ``model`` or ``vendor`` if these are given."""
        self._ask("POST", "/_limits", limits)

    def wait_for_calls(self, count: int, timeout_s: float = 30.0, *, finished: bool = False) -> None:
        """Block until ``count`` requests arrived (or were answered); HTTPError 504 if they do not."""
        self._ask("GET", f"/_wait?calls={count}&timeout_s={timeout_s}" + ("&finished=1" if finished else ""))

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else orjson.dumps(body)
        request = urllib.request.Request(self.root_url + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return orjson.loads(answer.read())


class VendorServer(_Client):
    """The vendor in a thread of this process."""

    def __init__(self, **config: Any) -> None:
        self.config = _config(**config)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(10):
            raise TimeoutError("the loopback vendor did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def on_call(self, decide: Callable[[Call], Fault | None] | None) -> None:
        """Ask ``decide`` about every call first; it runs on the server's thread."""
        self._simulator.on_call = decide

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._simulator = Simulator(self.config)
        server = SimulatorServer(self._simulator)
        self.port = await server.start(0)
        self._ready.set()
        await self._stop.wait()
        await server.stop()


class VendorProcess(_Client):
    """The vendor as a child process, which ends with its parent."""

    def __init__(self, **config: Any) -> None:
        self._config = config

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.support.vendor_server", "--port", "0", "--end-with-stdin"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).resolve().parents[2]
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        if self._config:
            self.configure(**self._config)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate(timeout=10)


def _config(**fields: Any) -> SimulatorConfig:
    return SimulatorConfig(**({"models": list(MODELS)} | fields))


async def _main(port: int, config: SimulatorConfig, end_with_stdin: bool) -> None:
    simulator = Simulator(config)
    server = SimulatorServer(simulator)
    print(await server.start(port), flush=True)  # noqa: T201 - the caller reads it
    try:
        if end_with_stdin:
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
        else:
            await asyncio.Event().wait()
    finally:
        await server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-s", type=float, default=0.0)
    parser.add_argument("--end-with-stdin", action="store_true")
    arguments = parser.parse_args()
    try:
        asyncio.run(_main(arguments.port, _config(latency_s=arguments.latency_s), arguments.end_with_stdin))
    except KeyboardInterrupt:
        sys.exit(0)
