"""The loopback vendor's request handling, on one event loop."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson
from aiohttp import web

from tests.support.vendor_answers import fitting_json
from tests.support.vendor_bill import Bill, BillLine, Fault
from tests.support.vendor_formats import Call, answer_body, error_body, read_call

_CHAT_PATHS = frozenset({"/v1/chat/completions", "/v1/messages", "/chat/completions"})


@dataclass(slots=True)
class VendorConfig:
    """How the vendor behaves.

    Attributes:
        latency_s: seconds from request to answer.
        token_bytes: bytes per token, in and out (1 makes every byte a token: the dearest possible tokenizer).
        key: the only key it takes; "" takes any; None needs none.
        schema: what to answer by when a request brings no schema.
        answers: ``(text to look for in the body, answer)`` pairs; the first that is found is the answer.
        context: requests of more tokens are refused as too long; 0: no limit.
        rate: calls per second it allows, 0: any number; more are answered 429 with retry-after-ms.
        burst: calls that the rate lets through at once.
        models: what ``GET /v1/models`` lists.
    """

    latency_s: float = 0.0
    token_bytes: int = 4
    key: str | None = ""
    schema: dict[str, Any] | None = None
    answers: list[tuple[str, str]] | None = None
    context: int = 0
    rate: float = 0.0
    burst: int = 1
    models: tuple[str, ...] = ("loopback-small", "loopback-large")


class Vendor:
    """Answers requests, keeps the bill and makes the faults."""

    def __init__(self, config: VendorConfig) -> None:
        self.config = config
        self.bill = Bill()
        self.faults: list[Fault] = []
        self.on_call: Callable[[Call], Fault | None] | None = None
        self.in_flight = 0
        self.peak_in_flight = 0
        self._allowance = float(config.burst)
        self._allowance_at = time.monotonic()
        self._closing = asyncio.Event()

    async def start(self, port: int) -> tuple[web.AppRunner, int]:
        """Listen on ``port`` (0: any free one); returns what to clean up, and the port."""
        app = web.Application(client_max_size=1 << 28)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        await web.SockSite(runner, listener, backlog=4096).start()
        return runner, listener.getsockname()[1]

    def stop_hanging(self) -> None:
        """Let the calls go that a fault left hanging."""
        self._closing.set()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path in _CHAT_PATHS and request.method == "POST":
            self.in_flight += 1
            self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
            try:
                return await self._chat(request, path)
            finally:
                self.in_flight -= 1
                self.bill.close()
        if path.startswith("/_"):
            return await self._control(request, path)
        if path in {"/v1/models", "/models"}:
            if not self._key_fits(request):
                return _json(401, error_body(False, 401, "Incorrect API key provided."))
            listed = [{"id": name, "object": "model"} for name in self.config.models]
            return _json(200, {"object": "list", "data": listed})
        return _json(404, error_body(False, 404, f"Invalid URL ({request.method} {path})"))

    def _key_fits(self, request: web.Request) -> bool:
        if self.config.key is None:
            return True
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        key = request.headers.get("x-api-key") or bearer
        return key == self.config.key if self.config.key else bool(key)

    async def _chat(self, request: web.Request, path: str) -> web.StreamResponse:
        arrived_at = time.time()
        raw = await request.read()
        digest = blake2b(raw, digest_size=8)
        call = read_call(path, raw, request.headers)
        number = len(self.bill.lines) + 1
        line = BillLine(
            number, arrived_at, path, call.model, digest.hexdigest(), f"req_{number:08d}",
            request.headers.get("x-client-request-id", ""),
        )  # fmt: skip
        self.bill.open(line)
        fault = self._fault_for(call)
        wait_s = self.config.latency_s + (fault.delay_s if fault else 0.0)
        if refusal := self._refusal(request, call):
            return await self._send(request, line, *refusal)
        if wait_s:
            await asyncio.sleep(wait_s)
        if fault and (fault.status != 200 or fault.body is not None):
            usual = error_body(call.anthropic, fault.status, "Told to fail.")
            body = usual if fault.body is None else fault.body
            return await self._send(request, line, fault.status, body, fault.headers, fault.connection)
        text, finish, usage = self._answer(call, int.from_bytes(digest.digest(), "big"), fault)
        line.input_tokens, line.output_tokens = usage
        line.billed = True
        body = answer_body(call, text, finish, usage, number)
        headers, connection = (fault.headers, fault.connection) if fault else ({}, "")
        return await self._send(request, line, 200, body, headers, connection)

    def _fault_for(self, call: Call) -> Fault | None:
        if self.on_call is not None and (fault := self.on_call(call)):
            return fault
        return next((fault for fault in self.faults if fault.hits(call.model, call.raw)), None)

    def _refusal(self, request: web.Request, call: Call) -> tuple[int, Any, dict[str, str]] | None:
        """The error that this request earns by itself: a bad key, body, length or rate."""
        if not self._key_fits(request):
            return 401, error_body(call.anthropic, 401, "Incorrect API key provided.", "invalid_api_key"), {}
        if call.fault:
            return 400, error_body(call.anthropic, 400, call.fault), {}
        if self.config.context and self._tokens(len(call.raw)) > self.config.context:
            asked = self._tokens(len(call.raw))
            said = f"This model's maximum context length is {self.config.context} tokens."
            if call.anthropic:
                said = f"prompt is too long: {asked} tokens > {self.config.context} maximum"
            return 400, error_body(call.anthropic, 400, said, "context_length_exceeded"), {}
        if self.config.rate and not self._allow():
            body = error_body(call.anthropic, 429, "Rate limit reached.", "rate_limit_exceeded")
            return 429, body, {"retry-after-ms": str(int(1000 / self.config.rate) + 1)}
        return None

    def _allow(self) -> bool:
        now = time.monotonic()
        grown = self._allowance + (now - self._allowance_at) * self.config.rate
        self._allowance, self._allowance_at = min(float(self.config.burst), grown), now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    def _answer(self, call: Call, seed: int, fault: Fault | None) -> tuple[str, str, tuple[int, int]]:
        schema = call.schema or self.config.schema
        known = next((text for sign, text in self.config.answers or () if sign.encode() in call.raw), None)
        if fault and fault.text is not None:
            text = fault.text
        elif known is not None:
            text = known
        else:
            text = fitting_json(schema, seed, call.text) if schema else f"An answer to {seed % 9973}."
        finish = fault.finish if fault else ""
        if finish == "length":
            text = text[: len(text) // 2]
        raw = text.encode()
        if call.max_output_tokens is not None and self._tokens(len(raw)) > call.max_output_tokens:
            raw = raw[: call.max_output_tokens * self.config.token_bytes]
            text, finish = raw.decode(errors="ignore"), finish or "length"
        return text, finish, (self._tokens(len(call.raw)), self._tokens(len(raw)))

    def _tokens(self, count_bytes: int) -> int:
        return -(-count_bytes // self.config.token_bytes)

    async def _send(
        self,
        request: web.Request,
        line: BillLine,
        status: int,
        body: Any,
        headers: dict[str, str],
        connection: str = "",
    ) -> web.StreamResponse:
        line.status = status
        if connection == "hang":
            await self._closing.wait()
        if connection in {"hang", "reset_before"}:
            return _reset(request)
        if isinstance(body, str):
            body = body.encode()
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        usual = {
            "content-type": "application/json",
            "x-request-id": line.request_id,
            "request-id": line.request_id,
        }
        if line.client_request_id:
            usual["x-client-request-id"] = line.client_request_id
        response = web.Response(status=status, body=raw, headers=usual | headers)
        if connection == "reset_after":
            return await _send_half(request, response, raw)
        try:
            await response.prepare(request)
            await response.write_eof()
            line.sent = request.transport is not None and not request.transport.is_closing()
        except ConnectionError:
            line.sent = False
        return response

    async def _control(self, request: web.Request, path: str) -> web.StreamResponse:
        if path == "/_wait":
            query = request.query
            try:
                await self.bill.wait(
                    int(query["calls"]), float(query.get("timeout_s", 30)), finished="finished" in query
                )
            except TimeoutError:
                return _json(504, self.bill.totals())
            return _json(200, self.bill.totals())
        if request.method == "POST":
            given = orjson.loads(await request.read())
            if path == "/_faults":
                faults = given if isinstance(given, list) else [given]
                self.faults.extend(Fault(**fields) for fields in faults)
            else:
                for name, value in given.items():
                    setattr(self.config, name, value)
        elif request.method == "DELETE":
            (self.bill.clear if path == "/_bill" else self.faults.clear)()
        totals = self.bill.totals() | {"peak_in_flight": self.peak_in_flight}
        return _json(200, {"calls": self.bill.rows(), "totals": totals} if path == "/_bill" else totals)


def _json(status: int, body: Any) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")


def _reset(request: web.Request) -> web.Response:
    """Close the connection so that the client sees a reset, not an end of file."""
    if request.transport is not None:
        sock = request.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response(status=500)


async def _send_half(request: web.Request, response: web.Response, raw: bytes) -> web.StreamResponse:
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    stream.content_length = len(raw)
    await stream.prepare(request)
    await stream.write(raw[: len(raw) // 2])
    _reset(request)
    return stream
