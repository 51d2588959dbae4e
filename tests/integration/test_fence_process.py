"""A worker that is stopped while its connection is being made, and wakes when its lease is another's."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from batcher.engine.reclaiming import reclaim_lost
from batcher.runtime import Runtime
from tests.support.runs import balances, item_statuses, make_job, make_runtime, rows
from tests.support.stopped_processes import stop_outside_a_transaction
from tests.support.vendor_server import VendorServer

LEASE_S = 2.0
ROOT = Path(__file__).resolve().parents[2]


class Door:
    """A port in front of a vendor that is full at first: the system leaves connections waiting for theirs.

    Attributes:
        first: what came over the first connection.
    """

    def __init__(self, vendor_port: int) -> None:
        self._vendor_port = vendor_port
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port = self._listener.getsockname()[1]
        self._filler = socket.create_connection(("127.0.0.1", self.port))
        self.first: bytes | None = None

    def open(self) -> None:
        """Let everybody in; keep what the first one says, pass the others on to the vendor."""
        self._listener.accept()[0].close()
        self._filler.close()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._filler.close()
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            first = self._listener.accept()[0]
            self._listener.listen(50)
            threading.Thread(target=self._hear, args=(first,), daemon=True).start()
            while True:
                client = self._listener.accept()[0]
                vendor = socket.create_connection(("127.0.0.1", self._vendor_port))
                for ends in ((client, vendor), (vendor, client)):
                    threading.Thread(target=_pass_on, args=ends, daemon=True).start()

    def _hear(self, client: socket.socket) -> None:
        said = b""
        with client, suppress(OSError):
            while part := client.recv(65_536):
                said += part
        self.first = said


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65_536):
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)


def wait_until(is_true: Callable[[], bool], timeout_s: float = 30.0) -> None:
    ends_at = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > ends_at:
            raise TimeoutError
        time.sleep(0.01)


@contextmanager
def worker(home: Path, job_id: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.support.run_child", str(home), str(job_id)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


@pytest.fixture
def door(vendor_server: VendorServer) -> Iterator[Door]:
    made = Door(vendor_server.port)
    yield made
    made.close()


@pytest.fixture
def runtime(tmp_path: Path, vendor_server: VendorServer, door: Door) -> Runtime:
    made = make_runtime(tmp_path / "home", vendor_server)
    (tmp_path / "home" / "keys.env").write_text(
        f"OPENAI_API_KEY=sk-test\nOPENAI_BASE_URL=http://127.0.0.1:{door.port}/v1\n"
    )
    config = tmp_path / "home" / "batcher.toml"
    config.write_text(f"lease_s = {LEASE_S}\n{config.read_text()}")
    return made


def test_a_worker_stopped_while_it_connects_sends_nothing_for_the_lease_it_lost(
    runtime: Runtime, vendor_server: VendorServer, door: Door, tmp_path: Path
) -> None:
    job = make_job(runtime, {"only": "text"})
    with worker(tmp_path / "home", job.id) as child:
        wait_until(lambda: [row.state for row in rows(runtime, "attempts")] == ["sending"])
        stop_outside_a_transaction(child.pid, tmp_path / "home" / "batcher.db")
        door.open()
        wait_until(lambda: reclaim_lost(runtime.store, runtime.ledger) == 1)
        [attempt] = rows(runtime, "attempts")
        assert (attempt.state, attempt.cost_nusd) == ("unknown", attempt.reserved_nusd)
        child.send_signal(signal.SIGCONT)
        output, _ = child.communicate(timeout=60)
    assert output.strip() == "idle"
    assert door.first == b"", "the connection was made, and nothing was sent over it"
    assert [(row.state, row.outcome) for row in rows(runtime, "attempts")] == [
        ("settled", "not_sent"),
        ("settled", "ok"),
    ]
    assert item_statuses(runtime, job.id) == {"done": 1}
    assert len(vendor_server.bill) == 1
    day = next(found for found in balances(runtime) if found.account.scope == "day")
    assert (day.spent_nusd, day.reserved_nusd) == (rows(runtime, "attempts")[1].cost_nusd, 0)
