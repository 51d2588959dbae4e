"""``batcher`` commands, each a forked process with its own environment, working folder and standard streams.

What only a fresh interpreter shows (its start, terminals, signals, workers) is tested with those.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.forked import FORKED


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def run_command(
    words: Sequence[str | Path | int],
    *,
    env: Mapping[str, str],
    folder: Path,
    stdin: str = "",
    timeout_s: float = 90,
) -> Outcome:
    """Run ``batcher`` with these words to its end; all warnings are errors in it.

    Args:
        words: its arguments.
        env: its whole environment.
        folder: where it runs.
        stdin: what it reads.
        timeout_s: after so long it is killed, and the test fails.
    """
    with tempfile.TemporaryDirectory() as place:
        streams = tuple(Path(place) / name for name in ("stdin", "stdout", "stderr"))
        for stream in streams:
            stream.write_text(stdin if stream.name == "stdin" else "")
        process = FORKED.Process(target=_run, args=([*map(str, words)], dict(env), folder, streams))
        process.start()
        process.join(timeout_s)
        if late := process.exitcode is None:
            process.kill()
            process.join()
        _, out, err = (stream.read_text() for stream in streams)
        assert not late, f"batcher {words} has not ended after {timeout_s} s\n{out}\n{err}"
        assert process.exitcode is not None
        return Outcome(process.exitcode, out, err)


def _run(words: list[str], env: dict[str, str], folder: Path, streams: Sequence[Path]) -> None:
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    os.chdir(folder)
    for number, stream in enumerate(streams):
        opened = os.open(stream, os.O_RDWR)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, errors="backslashreplace", buffering=1)
    sys.argv = ["batcher", *words]
    warnings.simplefilter("error")
    # Those of connections that a fresh interpreter's end closes are for the tests that start one.
    warnings.simplefilter("ignore", ResourceWarning)
    from batcher.cli import main

    sys.exit(main(words))
