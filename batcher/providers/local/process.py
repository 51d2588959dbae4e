"""The parent's side of a model server: start it, read its port, keep its last words, end it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Final

from batcher.errors import ConfigurationError, DependencyError
from batcher.processes import PYTHON
from batcher.providers.local.options import LocalOptions, slots_for, usable_cores
from batcher.providers.local.server import ServerOrder

_START_TIMEOUT_S: Final = 180.0
"""A model of some gigabytes from a slow disk; the two known ones take 0.5 and 2 s."""

_LOG_BYTES: Final = 262_144
_STOP_TIMEOUT_S: Final = 5.0
_NOTICE_S: Final = 0.5
_DEFAULT_CONTEXT: Final = 4096


class ModelServer:
    """One running child process that serves one model on loopback."""

    def __init__(
        self, process: asyncio.subprocess.Process, port: int, api_key: str, slots: int, log: Path
    ) -> None:
        self._process = process
        self._drain = asyncio.create_task(_keep_log(process.stderr, log))
        self.log = log
        self.base_url = f"http://127.0.0.1:{port}/v1"
        self.api_key = api_key
        self.slots = slots

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the child is alive."""
        return self._process.returncode is None

    async def notice_end(self) -> None:
        """After a broken connection, wait a moment for the news of the child's end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_NOTICE_S):
                await self._process.wait()

    async def stop(self) -> None:
        """End the child and wait for its end."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._drain


async def start_server(name: str, path: Path, options: LocalOptions) -> ModelServer:
    """Start a model server; it listens when this returns.

    Args:
        name: the model's id.
        path: its GGUF file.
        options: context, slots, threads, folder of logs.

    Raises:
        DependencyError: if it does not come up; the message holds its last words.
        ConfigurationError: if its log cannot be written.
    """
    context = options.contexts.get(name, _DEFAULT_CONTEXT)
    threads = options.threads or usable_cores()
    order = ServerOrder(
        name=name,
        path=str(path),
        api_key=secrets.token_urlsafe(24),
        slots=slots_for(context, options.slots),
        context=context,
        threads=threads,
        batch_threads=threads,
        parent_pid=os.getpid(),
    )
    log = _log_file(options.logs_dir, name)
    # Forked by this thread, the event loop's, and not by one of a pool: Linux ends the child with the thread
    # that forked it.
    process = await asyncio.create_subprocess_exec(
        *(*PYTHON, "-m", "batcher.providers.local.server"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        port = await _port_of(process, order)
    except (TimeoutError, OSError, ValueError):
        if process.returncode is None:
            process.kill()
        _, said = await process.communicate()
        await asyncio.to_thread(log.write_bytes, said[-_LOG_BYTES:])
        raise DependencyError(
            f"The model server of {name} did not start: {_last_words(said)}. Its log is {log}"
        ) from None
    return ModelServer(process, port, order.api_key, order.slots, log)


def _log_file(folder: Path, name: str) -> Path:
    """The log in a folder that only this user may enter: servers may log words of documents."""
    log = folder / f"local-{name}.log"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with log.open("ab"):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"The log {log} cannot be written: {error.strerror}. "
            "Set BATCHER_HOME to a folder that you can write"
        ) from error
    return log


async def _port_of(process: asyncio.subprocess.Process, order: ServerOrder) -> int:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
    async with asyncio.timeout(_START_TIMEOUT_S):
        await process.stdin.drain()
        return int(json.loads(await process.stdout.readline())["port"])


async def _keep_log(stream: asyncio.StreamReader | None, log: Path) -> None:
    """Copy the child's standard error to ``log``, whose older part is kept beside it; neither grows on."""
    assert stream is not None
    file = log.open("wb")
    try:
        while block := await stream.read(65_536):
            if file.tell() + len(block) > _LOG_BYTES:
                file.close()
                log.replace(log.with_suffix(".log.1"))  # noqa: ASYNC240 - a rename, as short as the writes
                file = log.open("wb")
            file.write(block)
            file.flush()
    finally:
        file.close()


def _last_words(said: bytes) -> str:
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
