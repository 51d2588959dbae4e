"""``batcher`` as a user runs it: a child process with an empty home, and a vendor on loopback."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.commands import Outcome, run_command
from tests.support.fast_models import ONE_TIER
from tests.support.forked import start_server
from tests.support.vendor_server import VendorServer

KEY = "sk-loopback-7d3f0a9b2c4e6f81"

TASK = """
from pydantic import BaseModel
from batcher.tasks import Task, scorers

class Author(BaseModel):
    name: str
    age: int

class Answer(BaseModel):
    title: str
    pages: int
    author: Author
    tags: list[str]

task = Task(
    name="cards", version=1, prompt="Make a catalogue card.", output=Answer,
    scorer={"title": scorers.exact, "pages": scorers.exact}, correct_at=0.5,
    tier="economy", ladder=("economy",), max_output_tokens=200,
)
"""

CONFIG = ONE_TIER


@dataclass
class Cli:
    """Runs ``batcher`` in ``folder`` with ``env`` and nothing else of this process's environment."""

    folder: Path
    home: Path
    env: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __call__(self, *words: str | Path | int, code: int | None = 0, stdin: str = "") -> Outcome:
        """Run a command to its end; fails the test if the exit code is another one (None: any)."""
        outcome = run_command(words, env=self.env, folder=self.folder, stdin=stdin)
        assert code is None or outcome.code == code, outcome
        assert "Traceback" not in outcome.err, outcome.err
        return outcome

    def start(self, *words: str | Path | int, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """Start a command and leave it running."""
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "batcher", *map(str, words)],
            stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=self.folder, env=self.env,
        )  # fmt: skip
        self.started.append(process)
        return process

    def on_terminal(self, words: list[str], typed: bytes) -> tuple[str, int]:
        """Run a command on a pseudo-terminal, with words typed ahead; returns the screen and the code."""
        ours, theirs = pty.openpty()
        env = self.env | {"TERM": "xterm-256color", "COLUMNS": "120"}
        process = subprocess.Popen(
            [sys.executable, "-m", "batcher", *words],
            stdin=theirs, stdout=theirs, stderr=theirs, cwd=self.folder, env=env, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        os.write(ours, typed)
        screen = b""
        try:
            while part := os.read(ours, 65536):
                screen += part
        except OSError:  # the other end was closed
            pass
        finally:
            os.close(ours)
        return screen.decode().replace("\r\n", "\n"), process.wait(timeout=30)

    def documents(self, count: int, *, folder: str = "docs", word: str = "document") -> Path:
        """Write so many small different documents; returns their folder."""
        target = self.folder / folder
        target.mkdir(exist_ok=True)
        for number in range(1, count + 1):
            text = f"This is {word} number {number} about rivers and bridges."
            (target / f"{number:03}.txt").write_text(text)
        return target


@pytest.fixture
def cli(tmp_path: Path, vendor_server: VendorServer) -> Iterator[Cli]:
    """A user with one key, whose vendor is ``vendor_server``, and a task called ``cards`` in the folder."""
    start_server()
    home, folder = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    folder.mkdir()
    (home / "batcher.toml").write_text(CONFIG)
    (folder / "cards").mkdir()
    (folder / "cards" / "task.py").write_text(TASK)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "BATCHER_HOME": str(home),
        "OPENAI_BASE_URL": vendor_server.openai_url,
        "OPENAI_API_KEY": KEY,
    }
    user = Cli(folder, home, env)
    yield user
    for process in user.started:
        if process.poll() is None:
            process.kill()
        process.communicate()
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in everything
