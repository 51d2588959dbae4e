"""One start of a request at a time: from before its corpus is read until its report is out.

A file lock holds on this machine; where the store is PostgreSQL, a lock in the store holds on all machines.
Both end with their process, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from batcher.cli.output import local_time
from batcher.errors import BusyError, ConfigurationError

if TYPE_CHECKING:
    from batcher.runtime import Runtime

FOLDER: Final = "locks"
_MOST_BYTES: Final = 200


@contextlib.contextmanager
def single_run(runtime: Runtime, key: bytes) -> Iterator[None]:
    """Hold the lock of a request.

    Args:
        runtime: whose home and store.
        key: the request's; see ``planning.order.corpus_key``.

    Raises:
        BusyError: if another process has it.
        ConfigurationError: if the lock file cannot be made.
        DependencyError: if the store cannot be reached.
    """
    from batcher.store.run_lock import StoreLockTakenError, store_lock

    with contextlib.ExitStack() as held:
        try:
            held.enter_context(_file_lock(_path(runtime, key)))
            held.enter_context(store_lock(runtime.store, key, f"batcher {_me()}"))
        except _FileLockTakenError as taken:
            _refuse(runtime, key, taken.name, taken.since)
        except StoreLockTakenError as taken:
            if taken.holder is None:
                _refuse(runtime, key, None, None)
            _refuse(runtime, key, taken.holder.name.removeprefix("batcher "), taken.holder.since)
        yield


def unfinished_job(runtime: Runtime, key: bytes) -> int | None:
    """The number of a request's unfinished job, if there is one yet."""
    from batcher.store.jobs import find_unfinished

    with runtime.store.read() as connection:
        job = find_unfinished(connection, key)
    return None if job is None else job.id


class RunLocks(contextlib.ExitStack):
    """The locks of several jobs' requests, each held once however many jobs came from it.

    Args:
        runtime: whose home and store.
    """

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self._runtime = runtime
        self._keys: set[bytes] = set()

    def take(self, job_id: int) -> None:
        """Hold the lock of a job's request too; raises what :func:`single_run` raises."""
        from batcher.store.run_lock import request_key

        with self._runtime.store.read() as connection:
            key = request_key(connection, job_id)
        if key not in self._keys:
            self.enter_context(single_run(self._runtime, key))
            self._keys.add(key)


class _FileLockTakenError(Exception):
    """Another process on this machine has the lock; what it wrote and when, if it did already."""

    def __init__(self, name: str | None, since: float | None) -> None:
        super().__init__("the lock is taken")
        self.name = name
        self.since = since


@contextlib.contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    from batcher.store.database import PRIVATE_FILE, PRIVATE_FOLDER

    try:
        for folder in (path.parent.parent, path.parent):
            folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        held = FileLock(path, blocking=False, mode=PRIVATE_FILE, fallback_to_soft=False).acquire()
    except Timeout:
        raise _FileLockTakenError(*_read_holder(path)) from None
    except OSError as error:
        raise ConfigurationError(
            f"Cannot make the lock {path}: {error.strerror or error}. "
            "Set BATCHER_HOME to a local folder that you can write"
        ) from error
    with held:
        # Whoever comes second reads who is at work; the lock itself is the kernel's, not these words.
        with contextlib.suppress(OSError):
            path.write_text(_me(), encoding="utf-8")
        yield


def _path(runtime: Runtime, key: bytes) -> Path:
    """One file per request and store: two stores may be in use with one home."""
    store = blake2b(runtime.settings.store_url().encode(), digest_size=4).hexdigest()
    return runtime.settings.home / FOLDER / f"{key.hex()}-{store}.lock"


def _me() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _read_holder(path: Path) -> tuple[str | None, float | None]:
    """What the holder wrote and when; nothing if it has only just begun, or ended meanwhile."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MOST_BYTES) or None, path.stat().st_mtime
    except OSError:
        return None, None


def _refuse(runtime: Runtime, key: bytes, name: str | None, since: float | None) -> NoReturn:
    host, _, process = (name or "").rpartition(":")
    who = f"process {process} on {host}" if host else "another process"
    when = f", since {local_time(since)}" if since is not None else ""
    job = unfinished_job(runtime, key)
    number = "" if job is None else f" {job}"
    raise BusyError(
        f"This request is being run right now by {who}{when}. This start does nothing. "
        f"Watch the other: batcher status{number} --watch"
    ) from None
