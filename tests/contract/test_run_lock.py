"""The lock of a request in the store: one holder, whichever machine it is on, and none when it is dead."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from batcher.cli.locking import single_run
from batcher.errors import BusyError
from batcher.runtime import Runtime
from batcher.settings import Settings
from batcher.store.database import Store
from batcher.store.run_lock import StoreLockTakenError, store_lock

KEY, OTHER = b"\xff" * 20, b"\x00" * 20

HOLD = """
import sys
from batcher.store.database import Store
from batcher.store.run_lock import store_lock
with store_lock(Store(sys.argv[1]), b"\\xff" * 20, "batcher elsewhere:77"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_holder_is_refused_and_told_who_the_first_is(store: Store, store_url: str) -> None:
    second = Store(store_url)
    taken = contextlib.nullcontext() if store.is_sqlite else pytest.raises(StoreLockTakenError)
    with store_lock(store, KEY, "batcher here:1"), taken as error, store_lock(second, KEY, "batcher there:2"):
        pass
    if not store.is_sqlite:
        assert error is not None
        assert error.value.holder is not None
        assert error.value.holder.name == "batcher here:1"
        assert abs(error.value.holder.since - time.time()) < 60
    second.close()


def test_it_is_free_again_at_the_end_and_other_keys_always_are(store: Store) -> None:
    for _ in range(3):
        with store_lock(store, KEY, "batcher here:1"), store_lock(store, OTHER, "batcher here:1"):
            pass
    with store_lock(store, OTHER, "batcher here:2"), store_lock(store, KEY, "batcher here:2"):
        pass


def test_a_killed_holder_leaves_no_lock(store: Store, store_url: str) -> None:
    if store.is_sqlite:
        return
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, store_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreLockTakenError) as error, store_lock(store, KEY, "batcher here:1"):
            pass
        assert error.value.holder is not None
        assert error.value.holder.name == "batcher elsewhere:77"
        holder.kill()
        holder.wait()
        assert took_it_within(10, store)


def test_of_two_machines_with_one_store_only_one_works_on_a_request(
    store: Store, store_url: str, tmp_path: Path
) -> None:
    one, two = (Runtime(Settings(home=tmp_path / name, database_url=SecretStr(store_url))) for name in "ab")
    busy = contextlib.nullcontext() if store.is_sqlite else pytest.raises(BusyError)
    with single_run(one, KEY), busy as error, single_run(two, KEY):
        pass
    if error is not None:
        assert f"is being run right now by process {os.getpid()} on " in str(error.value)
        assert str(error.value).endswith("batcher status --watch")
    with pytest.raises(BusyError), single_run(one, KEY), single_run(one, KEY):
        pass
    with single_run(one, KEY), single_run(one, OTHER), single_run(two, b"\x01" * 20):
        pass
    for runtime in (one, two):
        runtime.store.close()


def took_it_within(seconds: float, store: Store) -> bool:
    """Whether the lock could be had before the time was over: the server notices a lost client by itself."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(StoreLockTakenError), store_lock(store, KEY, "batcher here:1"):
            return True
        time.sleep(0.05)
    return False
