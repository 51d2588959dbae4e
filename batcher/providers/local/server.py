"""The child process of the local tier: llama.cpp's server for one model, on loopback, while its parent lives.

Started by ``process.py`` as ``python -m batcher.providers.local.server``. It reads one JSON line from
standard input (``ServerOrder``'s fields; the key comes this way because a command line can be read by
everybody), writes one JSON line ``{"port": N}`` to standard output when it listens, and ends when standard
input does: the parent holds the other end, so that even ``kill -9`` of the parent ends it. Linux is asked to
end it too.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from batcher.processes import end_with


@dataclass(frozen=True, slots=True)
class ServerOrder:
    """What the parent asks for.

    Attributes:
        name: the model's name in the API.
        path: its GGUF file.
        api_key: what requests must bear.
        slots: requests worked on at once.
        context: tokens of input and output that one request may have.
        threads: for writing, one token at a time.
        batch_threads: for reading prompts.
        parent_pid: whose child this is.
    """

    name: str
    path: str
    api_key: str
    slots: int
    context: int
    threads: int
    batch_threads: int
    parent_pid: int


def main() -> None:
    """Serve until standard input ends."""
    order = ServerOrder(**json.loads(sys.stdin.readline()))
    end_with(order.parent_pid, signal.SIGKILL)
    # llama.cpp's threads wait for each other by spinning, which on a machine with anything else to do makes 2
    # threads 20 times slower than one; OpenMP reads this when it is loaded, with xllamacpp.
    os.putenv("OMP_WAIT_POLICY", "passive")
    answers = _own_standard_output()
    server = start(order)
    address = urlsplit(server.listening_address)
    print(json.dumps({"port": address.port}), file=answers, flush=True)
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def start(order: ServerOrder) -> Any:
    """Load the model and listen on a free port of 127.0.0.1.

    ``n_ctx`` is split over the slots. The cache of past prompts is off: documents differ, and it only costs
    memory. ``fit_params`` is off because it would shrink the context to the free memory without a word.
    """
    import xllamacpp

    library: Any = xllamacpp
    params = library.CommonParams()
    params.model.path = order.path
    params.model_alias = {order.name}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [order.api_key]
    params.n_parallel = order.slots
    params.n_ctx = order.slots * order.context
    params.n_gpu_layers = 0
    params.fit_params = False
    params.cache_ram_mib = 0
    params.ui = False
    params.verbosity = 1
    params.cpuparams.n_threads = order.threads
    params.cpuparams_batch.n_threads = order.batch_threads
    return library.Server(params)


def _own_standard_output() -> Any:
    """Keep standard output for the one line; whatever llama.cpp prints goes to standard error."""
    kept = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return kept


if __name__ == "__main__":
    main()
