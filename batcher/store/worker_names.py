"""What workers are called in the store, and whether one of this host still lives."""

from __future__ import annotations

import os
import socket


def worker_name() -> str:
    """``host:pid:start``: tells on this host whether a lease's owner still lives."""
    import psutil

    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def is_dead(worker: str) -> bool:
    """Whether a worker of this host has ended; one of another host is never known to be dead."""
    host, pid, started = worker.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    import psutil

    try:
        process = psutil.Process(int(pid))
        return process.status() == psutil.STATUS_ZOMBIE or f"{process.create_time():.2f}" != started
    except psutil.NoSuchProcess:
        return True


def process_of(worker: str) -> str:
    """Process and host of a worker, for people."""
    host, pid, _ = worker.rsplit(":", 2)
    return f"process {pid} on {host}"
