"""The simulator without sockets or clock: a request and a time go in, an answer and its delay come out.

Whoever drives it waits: :meth:`Simulator.handle` when a request arrives, ``reply.delay_s`` later
:meth:`Simulator.answered` (from then on it is charged), and :meth:`Simulator.close` when the answer has left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import orjson

from batcher.errors import UsageError
from batcher.simulator.answers import fitting_json, plain_answer
from batcher.simulator.bill import Bill, BillLine
from batcher.simulator.faults import Fault, FaultScript, Spoiling, spoiling
from batcher.simulator.field_checks import (
    FLAG,
    PAIRS,
    TABLE,
    TEXT,
    TEXTS,
    Check,
    check_fields,
    number,
    optional,
    whole,
)
from batcher.simulator.latency import LatencyTable
from batcher.simulator.prices import PriceFile, Tokens
from batcher.simulator.prompt_cache import PromptCache
from batcher.simulator.rate_headers import rate_headers
from batcher.simulator.rate_limits import Buckets, LimitBook, Limits
from batcher.simulator.replies import NULL_MESSAGE, answer_body, model_list
from batcher.simulator.requests import ANTHROPIC, OPENAI, ROUTES, Call, read_call
from batcher.simulator.vendor_errors import (
    VendorError,
    bad_key,
    rate_limited,
    shaped,
    too_long,
    unknown_model,
)

_SETTINGS: Final[dict[str, Check]] = {
    "latency_scale": number(0),
    "latency_s": number(0),
    "token_bytes": number(0.25),
    "image_tokens": whole(0),
    "key": optional(TEXT),
    "schema": optional(TABLE),
    "answers": optional(PAIRS),
    "context": whole(0),
    "models": optional(TEXTS),
    "refuse_unlisted": FLAG,
    "cache": FLAG,
    "seed": whole(-(2**63), 2**63 - 1),
}
_JSON: Final = {"content-type": "application/json"}


@dataclass(slots=True)
class SimulatorConfig:
    """How the vendors behave; every field may be changed in mid-run.

    Attributes:
        latency_scale: factor on the times of the latency table; 0 leaves the table out.
        latency_s: further seconds from request to answer.
        token_bytes: bytes per token, in and out (1 makes every byte a token: the dearest possible tokenizer).
        image_tokens: tokens of an image.
        key: the only key it takes; "" takes any; None needs none.
        schema: what to answer by when a request brings no schema.
        answers: ``(text to look for in the body, answer)`` pairs; the first that is found is the answer.
        context: requests of more tokens are refused as too long; 0: no limit.
        models: what model lists show; None: the models of the price file.
        refuse_unlisted: whether other models are refused; if not, they are served without a price.
        cache: whether prompts are cached.
        seed: of answers; with times and faults drawn from it at the start.
    """

    latency_scale: float = 0.0
    latency_s: float = 0.0
    token_bytes: float = 4
    image_tokens: int = 1_000
    key: str | None = ""
    schema: dict[str, Any] | None = None
    answers: list[tuple[str, str]] | None = None
    context: int = 0
    models: list[str] | None = None
    refuse_unlisted: bool = False
    cache: bool = False
    seed: int = 0

    def change(self, given: Mapping[str, Any]) -> None:
        """Set fields by name.

        Raises:
            UsageError: for a field that does not exist, or a value that it cannot hold.
        """
        unknown = given.keys() - {one.name for one in fields(self)}
        if unknown:
            raise UsageError(f"The simulator has no setting {', '.join(sorted(unknown))}")
        check_fields(given, _SETTINGS, "the simulator")
        for name, value in given.items():
            setattr(self, name, value)


@dataclass(slots=True)
class Reply:
    """What to answer, and when.

    Attributes:
        call: the request as it was read.
        line: its line on the bill.
        status: HTTP status.
        headers: all that belong to the answer, in lower case.
        body: the bytes to send.
        delay_s: seconds from the request's arrival to the answer.
        connection: "" sends it; ``reset_before`` cuts the connection instead, ``reset_after`` in the middle
            of it, ``hang`` never answers.
        used: the tokens to charge; None for an answer that is not charged.
    """

    call: Call
    line: BillLine
    status: int
    headers: dict[str, str]
    body: bytes
    delay_s: float = 0.0
    connection: str = ""
    used: Tokens | None = None
    _buckets: Buckets = field(default_factory=dict)


class Simulator:
    """All vendors at once: answers, limits, faults and the bill.

    Args:
        config: how they behave.
        limits: what accounts may do.
        prices: what they charge; None: the built-in file.
        bill_path: a file to append the bill to.
    """

    def __init__(
        self,
        config: SimulatorConfig | None = None,
        limits: Limits | None = None,
        *,
        prices: PriceFile | None = None,
        bill_path: Path | None = None,
    ) -> None:
        self.config = config or SimulatorConfig()
        self.limits = LimitBook(limits or Limits())
        self.prices = prices or PriceFile.load()
        self.bill = Bill(bill_path)
        self.faults = FaultScript(self.config.seed)
        self.on_call: Callable[[Call], Fault | None] | None = None
        self._latency = LatencyTable(self.config.seed)
        self._cache = PromptCache()

    def handle(
        self,
        path: str,
        body: bytes | Mapping[str, Any],
        headers: Mapping[str, str],
        now: float,
        *,
        vendor: str = "",
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Take a request in.

        Args:
            path: where it came in, one of ``requests.ROUTES``.
            body: as it came, or as JSON values.
            headers: names in lower case, or a mapping that does not mind.
            now: Unix seconds; may be any clock that does not go back.
            vendor: whose API was called, if the path alone does not tell.
            schema: what to answer by if the request brings no schema.
        """
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        route = ROUTES.get(path)
        call = read_call(vendor or (route.vendor if route else ""), path, raw, headers)
        call.fallback_schema = schema
        call.vendor = call.vendor or self.prices.vendor_of(call.model) or OPENAI
        line = self._open_line(call, now)
        fault = self.on_call(call) if self.on_call is not None else None
        if refusal := self._refusal(call):
            return self._fail(call, line, refusal, {})
        prompt = self._prompt(call, line.account, now)
        buckets = self.limits.buckets(call.vendor, line.account, call.model, now)
        met = self.limits.admit(
            buckets, call.vendor, call.model, prompt.input - prompt.cached, call.max_output_tokens
        )
        limit_headers = rate_headers(call.vendor, buckets, now)
        if met is not None:
            return self._fail(call, line, rate_limited(call.vendor, call.model, met), limit_headers)
        fault = fault or self.faults.pick(call)
        done = spoiling(fault, call, _told_to_fail) if fault is not None else Spoiling()
        line.fault = done.way or ("fault" if fault else "")
        if done.error is not None:
            reply = self._fail(call, line, done.error, limit_headers, done)
            reply.used = prompt if done.billed else None
            return reply
        return self._answer(call, line, prompt, done, limit_headers, buckets, now)

    def answered(self, reply: Reply, now: float) -> None:
        """Decide on a request, ``delay_s`` after it arrived: from now on it is charged."""
        line, used = reply.line, reply.used
        line.status, line.answered_at = reply.status, now
        if used is not None:
            price = self.prices.find(line.vendor, line.model)
            line.billed = True
            line.input_tokens, line.output_tokens = used.input, used.output
            line.cached_tokens = used.cached
            line.cache_write_tokens = used.cache_write + used.cache_write_1h
            line.cost_nusd = price.cost_nusd(used) if price is not None else None
            self.limits.answered(reply._buckets, line.vendor, line.model, used.output, now)
            if self.config.cache and reply.status == 200:
                self._cache.remember(reply.call, line.account, now)
        self.bill.answered(line)

    def close(self, reply: Reply, *, sent: bool) -> None:
        """Be done with a request.

        Args:
            reply: what it got.
            sent: whether the whole answer was handed over.
        """
        reply.line.sent = sent
        self.bill.close(reply.line)

    def models(self, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """The status and body of a model list."""
        route = ROUTES.get(path)
        vendor = (route.vendor if route else "") or (ANTHROPIC if "x-api-key" in headers else OPENAI)
        if not self._takes_key(read_call(vendor, path, b"", headers)):
            error = bad_key(vendor)
            return error.status, orjson.dumps(error.body)
        return 200, orjson.dumps(model_list(vendor, self._listed(vendor)))

    def _listed(self, vendor: str) -> tuple[str, ...]:
        names = self.config.models
        return self.prices.models(vendor) if names is None else tuple(names)

    def _open_line(self, call: Call, now: float) -> BillLine:
        number = self.bill.next_number()
        line = BillLine(
            number=number,
            arrived_at=now,
            path=call.path,
            model=call.model,
            body_hash=f"{call.digest:016x}",
            request_id=f"req_{number:08d}",
            client_request_id=call.headers.get("x-client-request-id", ""),
            vendor=call.vendor,
            account=blake2b(call.key.encode(), digest_size=6).hexdigest() if call.key else "",
        )
        self.bill.open(line)
        return line

    def _takes_key(self, call: Call) -> bool:
        key = self.config.key
        return key is None or (call.key == key if key else bool(call.key))

    def _refusal(self, call: Call) -> VendorError | None:
        """The error that a request earns by itself: a bad key, body, model or length."""
        if not self._takes_key(call):
            return bad_key(call.vendor)
        if call.fault:
            return shaped(call.vendor, 400, call.fault)
        if self.config.refuse_unlisted and call.model not in self._listed(call.vendor):
            return unknown_model(call.vendor, call.model)
        tokens = self._tokens_of_prompt(call)
        if self.config.context and tokens > self.config.context:
            return too_long(call.vendor, tokens, call.max_output_tokens or 0, self.config.context)
        return None

    def _tokens_of_prompt(self, call: Call) -> int:
        return call.input_tokens(self.config.token_bytes, self.config.image_tokens)

    def _prompt(self, call: Call, account: str, now: float) -> Tokens:
        used = Tokens(input=self._tokens_of_prompt(call))
        return (
            self._cache.read(call, account, used, self.config.token_bytes, now) if self.config.cache else used
        )

    def _fail(
        self,
        call: Call,
        line: BillLine,
        error: VendorError,
        limit_headers: dict[str, str],
        done: Spoiling | None = None,
    ) -> Reply:
        body = error.body
        if isinstance(body, dict) and body.get("request_id"):
            body = {**body, "request_id": line.request_id}
        raw = (
            body
            if isinstance(body, bytes)
            else body.encode()
            if isinstance(body, str)
            else orjson.dumps(body)
        )
        headers = _ids(call.vendor, line) | limit_headers | error.headers
        if done is None:
            return Reply(call, line, error.status, headers, raw)
        return Reply(
            call,
            line,
            error.status,
            headers | done.headers,
            raw,
            self.config.latency_s + done.delay_s,
            done.connection,
        )

    def _answer(
        self,
        call: Call,
        line: BillLine,
        prompt: Tokens,
        done: Spoiling,
        limit_headers: dict[str, str],
        buckets: Buckets,
        now: float,
    ) -> Reply:
        text, finish = self._text(call, done)
        text, finish, output = self._cut(text, finish, call.max_output_tokens)
        used = Tokens(prompt.input, output, prompt.cached, prompt.cache_write, prompt.cache_write_1h)
        delay_s = self.config.latency_s + done.delay_s
        if self.config.latency_scale:
            delay_s += self.config.latency_scale * self._latency.draw_s(call.model, output)
        body = answer_body(call, text, finish, used, line.number, now)
        return Reply(
            call=call,
            line=line,
            status=200,
            headers=_ids(call.vendor, line) | limit_headers | done.headers,
            body=orjson.dumps(body),
            delay_s=delay_s,
            connection=done.connection,
            used=None if done.billed is False else used,
            _buckets=buckets,
        )

    def _text(self, call: Call, done: Spoiling) -> tuple[str, str]:
        text = done.text
        if text is None:
            text = self._usual_text(call)
        if done.way == "fenced":
            text = f"Here is what you asked for:\n\n```json\n{text}\n```\n"
        if done.finish == "length":
            text = text[: len(text) // 2]
        return text, done.finish

    def _usual_text(self, call: Call) -> str:
        for sign, answer in self.config.answers or ():
            if sign.encode() in call.raw:
                return answer
        seed = call.digest ^ self.config.seed
        schema = call.heeded or call.fallback_schema or self.config.schema
        return fitting_json(schema, seed, call.text, nulls=True) if schema else plain_answer(seed, call.text)

    def _cut(self, text: str, finish: str, limit: int | None) -> tuple[str, str, int]:
        """The text within the output limit, how it ends, and its tokens."""
        if text == NULL_MESSAGE:
            return text, finish, 0
        size = self.config.token_bytes
        raw = text.encode()
        tokens = int(-(-len(raw) // size))
        if limit is not None and tokens > limit:
            text = raw[: int(limit * size)].decode(errors="ignore")
            return text, finish or "length", limit
        return text, finish, tokens


def _ids(vendor: str, line: BillLine) -> dict[str, str]:
    """The headers that every answer has."""
    name = "request-id" if vendor == ANTHROPIC else "x-request-id"
    headers = {**_JSON, name: line.request_id}
    if line.client_request_id:
        headers["x-client-request-id"] = line.client_request_id
    return headers


def _told_to_fail(vendor: str, status: int) -> VendorError:
    return shaped(vendor, status, "Told to fail.")
