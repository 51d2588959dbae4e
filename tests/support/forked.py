"""Child processes that have imported all of batcher already, by ``multiprocessing``'s fork server.

Each is a process of its own, there half a second sooner than a fresh interpreter.
"""

from __future__ import annotations

import functools
import multiprocessing
from typing import Final

FORKED: Final = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["tests.support.forked_preload"])


@functools.cache
def start_server() -> None:
    """Return when the server is there, so that no test's first child waits for it."""
    process = FORKED.Process(target=int)
    process.start()
    process.join()
