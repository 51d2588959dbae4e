"""Child processes of ours: which Python runs them, and that they end when their parent does."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from typing import Final

PYTHON: Final = (sys.executable, "-P")
"""This Python, which does not look for modules in the working folder: what lies there is the user's."""

_PR_SET_PDEATHSIG: Final = 1
_LOOK_EVERY_S: Final = 1.0


def end_with(parent_pid: int, number: int) -> None:
    """Have this process sent a signal when its parent ends, however that ends; at once if it has already.

    Linux does it by itself. It goes by the thread that started this process: that must not be one which ends
    before its process. Elsewhere a thread looks once a second.

    Args:
        parent_pid: the parent, as the parent itself knows it.
        number: the signal.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    else:
        watch = (parent_pid, number)
        threading.Thread(target=_watch, args=watch, name="batcher-parent", daemon=True).start()
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), number)


def _watch(parent_pid: int, number: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(_LOOK_EVERY_S)
    os.kill(os.getpid(), number)
