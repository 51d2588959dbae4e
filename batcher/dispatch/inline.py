"""Runs an engine in this process, with Ctrl-C and SIGTERM as people expect them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from batcher.alerts.alerts import Alerts
from batcher.alerts.lookout import Lookout
from batcher.engine.control import Ending
from batcher.engine.engine import Engine

Watch = Callable[[Engine], Coroutine[Any, Any, None]]
"""Follows an engine until it is cancelled."""


async def run_engine(
    engine: Engine,
    job_ids: Sequence[int] | None,
    watch: Watch | None,
    on_signal: Callable[[int], None],
) -> Ending:
    """Run jobs to their end on the running loop; see ``run_inline``."""
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(engine.run(job_ids))
    received = 0

    def handle() -> None:
        nonlocal received
        received += 1
        on_signal(received)
        if received == 1:
            engine.stop()
        else:
            running.cancel()

    signals = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP"):
        signals.append(signal.SIGHUP)
    for number in signals:
        with suppress(NotImplementedError, ValueError):
            loop.add_signal_handler(number, handle)
    watcher = asyncio.create_task(watch(engine)) if watch is not None else None
    try:
        return await running
    except asyncio.CancelledError:
        return Ending.STOPPED
    finally:
        if watcher is not None:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
        for number in signals:
            with suppress(NotImplementedError, ValueError):
                loop.remove_signal_handler(number)


async def _run(
    make_engine: Callable[[], Engine],
    close: Callable[[], Coroutine[Any, Any, None]],
    job_ids: Sequence[int] | None,
    watch: Watch | None,
    on_signal: Callable[[int], None],
    on_engine: Callable[[Engine], None],
) -> Ending:
    try:
        engine = make_engine()
        on_engine(engine)
        return await run_engine(engine, job_ids, watch, on_signal)
    finally:
        await close()


def run_inline(
    make_engine: Callable[[], Engine],
    close: Callable[[], Coroutine[Any, Any, None]],
    job_ids: Sequence[int] | None,
    *,
    watch: Watch | None = None,
    on_signal: Callable[[int], None] = lambda _: None,
    new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
    alerts: Alerts | None = None,
) -> Ending:
    """Run jobs to their end in this process.

    Args:
        make_engine: called on the event loop.
        close: closes what the engine used (provider clients) on the same loop.
        job_ids: which jobs; None for all that are running.
        watch: a coroutine that follows the engine (a display); cancelled at the end.
        on_signal: told of the first, second... SIGINT or SIGTERM. The first lets the calls in flight finish,
            the second gives them up; either way the job resumes.
        new_loop: makes the event loop; None: asyncio's own.
        alerts: looked after in a thread of its own until the run is over, and for 5 s more at most, so that
            what its end has to tell goes out. None: nobody is told of anything.
    """
    with ExitStack() as lookouts:

        def look_out(engine: Engine) -> None:
            if alerts is not None:
                lookouts.enter_context(Lookout(alerts, job_ids, engine.progress.rates))

        # The stack is unwound when the loop is closed: no wait for a channel holds it up.
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(_run(make_engine, close, job_ids, watch, on_signal, look_out))
