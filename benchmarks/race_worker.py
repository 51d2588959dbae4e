"""Makes the workers of a race: forks, when told so, a process that runs a job until it ends or is killed.

``HOME JOB`` are its arguments; each line on standard input is a JSON object of environment variables and the
file that takes what the worker says at its end, and is answered with the worker's process id. So a worker
costs a fork, and not the second of CPU time that its imports take, of which a race has hundreds.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Final

from fault_run import open_runtime, run_once

_IMPORTED_ON_FIRST_USE: Final = (
    *("alembic.command", "batcher.catalog.loading", "batcher.dispatch.collector", "batcher.limits.memory"),
    *("batcher.providers.factory", "batcher.providers.openai_chat", "batcher.store.schema"),
    *("jsonschema_rs", "psycopg", "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite"),
)


def main(home: Path, job_id: int) -> None:
    """Fork workers until standard input ends."""
    for name in _IMPORTED_ON_FIRST_USE:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever ends is gone at once, and waits for nobody
    for line in sys.stdin:
        told = json.loads(line)
        child = os.fork()
        if child == 0:
            _work(home, job_id, told["environment"], Path(told["says"]))
        print(child, flush=True)


def _work(home: Path, job_id: int, environment: dict[str, str], says: Path) -> None:
    """One worker; never returns."""
    said = ""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.update(environment)
        random.seed()
        said = str(run_once(open_runtime(home), job_id))
    except BaseException as error:  # noqa: BLE001 - the race reports whatever it was
        said = f"{type(error).__name__}: {error}"
    finally:
        says.with_suffix(".part").write_text(said)
        says.with_suffix(".part").rename(says)
        os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
