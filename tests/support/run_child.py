"""Runs jobs in a process of its own, to be killed: ``python -m tests.support.run_child HOME JOB...``."""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final

from batcher.dispatch.inline import run_inline
from batcher.engine.control import Ending
from batcher.runtime import Runtime
from batcher.settings import load_settings
from tests.support.forked import FORKED

_ENDS_WITHIN_S: Final = 120


def start(home: Path, job_id: int) -> ForkServerProcess:
    """Start a job in a process of its own."""
    process = FORKED.Process(target=run_jobs, args=(home, [job_id]))
    process.start()
    return process


def ended(home: Path, job_id: int) -> Ending:
    """Run a job in a process of its own to its end; returns how it ended."""
    here, there = FORKED.Pipe(duplex=False)
    process = FORKED.Process(target=_run_and_tell, args=(home, job_id, there))
    process.start()
    there.close()
    try:
        assert here.poll(_ENDS_WITHIN_S), f"job {job_id} is still at work"
        ending: Ending = here.recv()
    except BaseException:
        process.kill()
        raise
    finally:
        here.close()
        process.join()
    return ending


def _run_and_tell(home: Path, job_id: int, teller: Connection) -> None:
    teller.send(run_jobs(home, [job_id]))


def run_jobs(home: Path, job_ids: list[int]) -> Ending:
    """Run the jobs as ``batcher resume`` would."""
    runtime = Runtime(load_settings(home / "batcher.toml", home=home, env_file=home / "keys.env"))
    return run_inline(runtime.engine, runtime.aclose, job_ids)


if __name__ == "__main__":
    ending = run_jobs(Path(sys.argv[1]), [int(argument) for argument in sys.argv[2:]])
    sys.stdout.write(f"{ending}\n")
