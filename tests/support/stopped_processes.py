"""SIGSTOP at points where nobody else is held up."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path


def stop(pid: int) -> None:
    """SIGSTOP a process; returns when every thread of it has stopped: each finishes its system call first."""
    os.kill(pid, signal.SIGSTOP)
    ends_at = time.monotonic() + 10
    while time.monotonic() < ends_at:
        threads = Path(f"/proc/{pid}/task").glob("*/stat")
        if {thread.read_text().rpartition(")")[2].split()[0] for thread in threads} == {"T"}:
            return
        time.sleep(0.001)
    raise TimeoutError(f"process {pid} did not stop")


def stop_outside_a_transaction(pid: int, database: Path) -> None:
    """SIGSTOP a process when it does not hold SQLite's write lock: nobody else could write until it wakes."""
    while True:
        stop(pid)
        with closing(sqlite3.connect(database, timeout=0.2, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            except sqlite3.OperationalError:
                os.kill(pid, signal.SIGCONT)
                time.sleep(0.001)
            else:
                return
