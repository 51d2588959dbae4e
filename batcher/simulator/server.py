"""The simulator on loopback: HTTP in and out, one event loop, and a control endpoint under ``/_``.

``GET /_bill?after=N&limit=M`` (requests by number, sums, ``next``), ``GET /_totals``, ``DELETE /_bill``;
``GET``, ``POST`` (one fault or a list) and ``DELETE /_faults``; ``GET`` and ``POST /_limits``; ``GET`` and
``POST /_config``; ``GET /_wait?calls=N&timeout_s=S[&finished=1]`` answers when so many requests arrived (or
were answered), or 504.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

import orjson
from aiohttp import web

from batcher.errors import UsageError
from batcher.simulator.core import Reply, Simulator
from batcher.simulator.requests import OPENAI, ROUTES
from batcher.simulator.vendor_errors import shaped

LOOPBACK: Final = "127.0.0.1"
"""The only address it listens on."""

_BACKLOG: Final = 4_096
_PAGE: Final = 10_000

_TURNS_TO_CONNECT: Final = 4
"""Turns of the event loop in which a connection that was just accepted is made, and can be closed."""


class SimulatorServer:
    """A simulator behind a port.

    Args:
        simulator: what answers.
        clock: Unix seconds that never go back.
    """

    def __init__(self, simulator: Simulator, clock: Callable[[], float] | None = None) -> None:
        self.simulator = simulator
        started, ticks = time.time(), time.monotonic()
        self._clock = clock or (lambda: started + time.monotonic() - ticks)
        self.in_flight = 0
        self.peak_in_flight = 0
        self._closing = asyncio.Event()
        self._runner: web.ServerRunner | None = None
        self._listener: socket.socket | None = None
        self._waiters: list[tuple[int, bool, asyncio.Future[None]]] = []

    async def start(self, port: int) -> int:
        """Listen on ``port`` (0: any free one); returns the port.

        Raises:
            UsageError: if the port is taken.
        """
        server = web.Server(self._handle, handler_cancellation=True)
        self._runner = web.ServerRunner(server, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except (OSError, OverflowError) as error:
            listener.close()
            raise UsageError(f"Cannot listen on port {port}: {error}. Give another --port") from error
        await web.SockSite(self._runner, listener, backlog=_BACKLOG).start()
        self._listener = listener
        return int(listener.getsockname()[1])

    async def stop(self) -> None:
        """Listen no more, let the calls go that a fault left hanging, close all connections and the bill."""
        self._closing.set()
        if self._runner is not None and self._listener is not None:
            # asyncio forgets to close a connection that is being accepted while its server closes.
            asyncio.get_running_loop().remove_reader(self._listener)
            for _ in range(_TURNS_TO_CONNECT):
                await asyncio.sleep(0)
            await self._runner.cleanup()
        self.simulator.bill.shut()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        route = ROUTES.get(path)
        if route is not None and route.kind == "chat" and request.method == "POST":
            self.in_flight += 1
            self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
            try:
                return await self._chat(request, path)
            finally:
                self.in_flight -= 1
                self._wake()
        if route is not None and route.kind == "models" and request.method == "GET":
            status, raw = self.simulator.models(path, request.headers)
            return _json(status, raw)
        if path.startswith("/_"):
            return await self._control(request, path)
        error = shaped(OPENAI, 404, f"Invalid URL ({request.method} {path})")
        return _json(404, orjson.dumps(error.body))

    async def _chat(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        raw = await request.content.read()
        reply = self.simulator.handle(path, raw, request.headers, self._clock())
        self._wake()
        sent = False
        try:
            if reply.delay_s:
                await asyncio.sleep(reply.delay_s)
            self.simulator.answered(reply, self._clock())
            if reply.connection == "hang":
                await self._closing.wait()
            response, sent = await _send(request, reply)
        except asyncio.CancelledError:
            # The client is gone, and a vendor goes on and charges: unless it is this server that ends.
            if not reply.line.answered_at:
                if self._closing.is_set():
                    reply.used = None
                self.simulator.answered(reply, self._clock())
            raise
        finally:
            self.simulator.close(reply, sent=sent)
        return response

    def _wake(self) -> None:
        """Let those go on whose count has been reached."""
        if not self._waiters:
            return
        bill = self.simulator.bill
        for count, finished, future in self._waiters:
            if (bill.finished if finished else bill.arrived) >= count and not future.done():
                future.set_result(None)
        self._waiters = [waiter for waiter in self._waiters if not waiter[2].done()]

    async def _wait(self, request: web.BaseRequest) -> web.Response:
        count, finished = int(request.query.get("calls", "1")), "finished" in request.query
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((count, finished, future))
        self._wake()
        try:
            async with asyncio.timeout(float(request.query.get("timeout_s", "30"))):
                await future
        except TimeoutError:
            return _json(504, orjson.dumps(self._totals()))
        return _json(200, orjson.dumps(self._totals()))

    def _totals(self) -> dict[str, Any]:
        return self.simulator.bill.totals() | {"peak_in_flight": self.peak_in_flight}

    async def _control(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        try:
            if path == "/_wait":
                return await self._wait(request)
            if request.method == "POST":
                self._change(path, orjson.loads(await request.read()))
            elif request.method == "DELETE":
                self._clear(path)
            elif request.method != "GET":
                raise UsageError(f"{request.method} is not for {path}")
            return _json(200, orjson.dumps(self._shown(request, path)))
        except (UsageError, ValueError, TypeError) as error:
            return _json(400, orjson.dumps({"error": str(error)}))

    def _change(self, path: str, given: Any) -> None:
        simulator = self.simulator
        changes = given if isinstance(given, list) else [given]
        if not all(isinstance(change, dict) for change in changes):
            raise UsageError(f"{path} takes a JSON object, or a list of them")
        if path == "/_faults":
            simulator.faults.add(changes)
        elif path == "/_limits":
            for change in changes:
                simulator.limits.change(change)
        elif path == "/_config":
            for change in changes:
                simulator.config.change(change)
        else:
            raise UsageError(f"{path} takes no POST")

    def _clear(self, path: str) -> None:
        if path == "/_bill":
            self.simulator.bill.clear()
        elif path == "/_faults":
            self.simulator.faults.clear()
        else:
            raise UsageError(f"{path} takes no DELETE")

    def _shown(self, request: web.BaseRequest, path: str) -> Any:
        if path == "/_totals":
            return self._totals()
        if path == "/_bill":
            query = request.query
            limit = max(0, min(_PAGE, int(query.get("limit", str(_PAGE)))))
            lines = self.simulator.bill.lines(int(query.get("after", "0")), limit)
            following = lines[-1].number if len(lines) == limit and lines else None
            return {"calls": lines, "totals": self._totals(), "next": following}
        if path == "/_faults":
            return [fault.shown() for fault in self.simulator.faults.faults]
        if path == "/_limits":
            return self.simulator.limits.shown()
        if path == "/_config":
            return asdict(self.simulator.config)
        raise UsageError(f"There is no {path}")


async def serve(simulator: Simulator, port: int, announce: Callable[[int], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        simulator: what answers.
        port: where; 0 is any free one.
        announce: is told the port once it listens.

    Raises:
        UsageError: if the port is taken.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server = SimulatorServer(simulator)
    try:
        announce(await server.start(port))
        await stop.wait()
    finally:
        await server.stop()


def _json(status: int, raw: bytes) -> web.Response:
    return web.Response(status=status, body=raw, content_type="application/json")


async def _send(request: web.BaseRequest, reply: Reply) -> tuple[web.StreamResponse, bool]:
    """Send the answer as its connection says; the second value is whether all of it went out."""
    if reply.connection in {"hang", "reset_before"}:
        return _reset(request), False
    response = web.Response(status=reply.status, body=reply.body, headers=reply.headers)
    if reply.connection == "reset_after":
        return await _send_half(request, reply), False
    try:
        await response.prepare(request)
        await response.write_eof()
    except ConnectionError:
        return response, False
    return response, request.transport is not None and not request.transport.is_closing()


def _reset(request: web.BaseRequest) -> web.Response:
    """Close the connection so that the client sees a reset, not an end of file."""
    if request.transport is not None:
        sock = request.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response(status=500)


async def _send_half(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    stream = web.StreamResponse(status=reply.status, headers=reply.headers)
    stream.content_length = len(reply.body)
    await stream.prepare(request)
    await stream.write(reply.body[: len(reply.body) // 2])
    _reset(request)
    return stream
