"""One call over a vendor SDK's authentication, headers, URL and aiohttp connection pool.

What the SDKs do for every call beside that (options model, headers and URL built afresh, response model)
costs half of a call's CPU time and brings nothing here: plain data goes in and comes out, and only the engine
retries. The headers are the SDK's own, read once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import orjson

from batcher.domain import FailureClass, Usage
from batcher.providers.base import ChatRequest, Completion, NotSentError, ProviderError
from batcher.providers.classification import classify_answer, load_json, rate_headers
from batcher.providers.fence import DEPARTURE, Departure, install_fence
from batcher.providers.redaction import redact
from batcher.providers.transport_errors import classify_exception, timed_out, unsendable

CONNECT_TIMEOUT_S: Final = 10.0
KEEP_ALIVE_S: Final = 4.0
"""Idle connections are closed before the servers do it (uvicorn and llama.cpp after 5 s), because a POST into
a connection that is being closed has an unknown outcome, and so stays booked."""

_CHECK_TIMEOUT_S: Final = 15.0
_REQUEST_ID_HEADERS: Final = ("x-request-id", "request-id", "cf-ray")

_Limits = TypeVar("_Limits")


class SdkClient(Protocol):
    """The part of an SDK's async client that is used here."""

    @property
    def base_url(self) -> Any:
        """Where the vendor answers, ending in a slash."""
        ...

    @property
    def default_headers(self) -> Mapping[str, Any]:
        """What the SDK sends with every call; values that are no text are to be left out."""
        ...

    @property
    def auth_headers(self) -> Mapping[str, str]:
        """The headers that bear the key."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class HttpClient(Protocol):
    """The part of the SDK's HTTP client that is used here."""

    def build_request(
        self, method: str, url: str, *, content: bytes | None = None, headers: Any = None
    ) -> Any:
        """A request with the client's own headers and timeouts."""
        ...

    async def send(self, request: Any) -> Any:
        """Send it and read the whole answer."""
        ...


class RepeatedRequests:
    """An SDK's HTTP client that merges headers and parses the URL once per endpoint, not once per call."""

    def __init__(self, http_client: HttpClient) -> None:
        self._http = http_client
        self._templates: dict[tuple[str, str], Any] = {}

    def build_request(
        self, method: str, url: str, *, content: bytes | None = None, headers: Any = None
    ) -> Any:
        """A request like the first one to this URL, with its own content."""
        template = self._templates.get((method, url))
        if template is None:
            template = self._templates[method, url] = self._http.build_request(method, url, headers=headers)
            template.headers.pop("content-length", None)
        return type(template)(
            method, template.url, headers=template.headers, content=content, extensions=template.extensions
        )

    async def send(self, request: Any) -> Any:
        """Send it and read the whole answer."""
        return await self._http.send(request)


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: its JSON object, lower-case headers, and the vendor's id of the call."""

    value: Mapping[str, Any]
    headers: Mapping[str, str]
    request_id: str


class SdkProvider:
    """A vendor account behind an SDK client; subclasses write the body and read the answer."""

    def __init__(
        self,
        client: SdkClient,
        http_client: HttpClient,
        *,
        chat_path: str,
        models_path: str,
        secrets: tuple[str, ...] = (),
    ) -> None:
        install_fence(http_client)
        self._client = client
        self._http: HttpClient = RepeatedRequests(http_client)
        self._sees_departures: bool | None = None
        base_url = str(client.base_url).rstrip("/")
        self._chat_url = base_url + chat_path
        self._models_url = base_url + models_path
        headers = {**client.default_headers, **client.auth_headers}
        self._headers = {name: value for name, value in headers.items() if isinstance(value, str)}
        self._secrets = secrets

    def send_through(self, http_client: HttpClient) -> None:
        """Send over another HTTP client from now on."""
        self._http = http_client

    async def complete(self, request: ChatRequest) -> Completion:
        """Make one call, without retries.

        Raises:
            NotSentError: if ``request.may_leave`` says no when the connection is there.
            ProviderError: for every failure, classified.
        """
        departure = Departure(request.may_leave)
        outside = DEPARTURE.set(departure)
        try:
            response = await self._sent(
                "POST", self._chat_url, self.encoded(request), request.timeout_s, departure
            )
        finally:
            DEPARTURE.reset(outside)
        return self._read(self._answer(response), request)

    def encoded(self, request: ChatRequest) -> bytes:
        """The body of a call, as it is sent."""
        return orjson.dumps(self._body(request))

    async def check(self) -> str:
        """Ask for the model list; see ``Provider.check``."""
        response = await self._sent("GET", self._models_url, None, _CHECK_TIMEOUT_S)
        try:
            value = orjson.loads(response.content)
        except orjson.JSONDecodeError:
            raise self._unreadable(response, "the model list is not JSON") from None
        models = value if isinstance(value, list) else value.get("data") if isinstance(value, dict) else None
        return f"{len(models)} models" if isinstance(models, list) else "reachable"

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.close()

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        raise NotImplementedError

    def _read(self, answer: Answer, request: ChatRequest) -> Completion:
        raise NotImplementedError

    async def _sent(
        self,
        method: str,
        url: str,
        content: bytes | None,
        timeout_s: float,
        departure: Departure | None = None,
    ) -> Any:
        """Send within the time, and classify whatever goes wrong."""
        try:
            request = self._http.build_request(method, url, content=content, headers=self._headers)
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing has left
            raise unsendable(redact(str(error) or type(error).__name__, self._secrets)) from None
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._http.send(request)
        except NotSentError:
            raise
        except TimeoutError:
            raise timed_out(timeout_s, may_have_left=self._may_have_left(departure)) from None
        except Exception as error:  # noqa: BLE001 - money may have been spent: every failure must be classified
            may_have_left = self._may_have_left(departure)
            raise classify_exception(error, self._secrets, may_have_left=may_have_left) from None
        if departure is not None and self._sees_departures is not False:
            self._sees_departures = departure.left
        if response.status_code < 300:
            return response
        headers = _lower(response.headers)
        raise classify_answer(
            response.status_code,
            headers,
            response.content,
            secrets=self._secrets,
            request_id=_request_id(headers),
        )

    def _may_have_left(self, departure: Departure | None) -> bool:
        """Whether a request without an answer may have left.

        That it has not is believed only where every call that was answered was seen to leave: money hangs on
        it, and a later SDK may send in another way.
        """
        return departure is None or departure.left or not self._sees_departures

    def _answer(self, response: Any) -> Answer:
        try:
            value = load_json(response.content)
        except orjson.JSONDecodeError:
            raise self._unreadable(response, "the answer is not JSON") from None
        if not isinstance(value, dict):
            raise self._unreadable(response, "the answer is no JSON object")
        headers = _lower(response.headers)
        return Answer(value, headers, _request_id(headers) or str(value.get("id") or ""))

    def _unreadable(self, response: Any, what: str) -> ProviderError:
        """A 200 that cannot be read: the call may well have been billed."""
        headers = _lower(response.headers)
        shown = classify_answer(
            response.status_code, headers, response.content, secrets=self._secrets
        ).message
        return ProviderError(
            FailureClass.UNKNOWN_OUTCOME,
            f"HTTP {response.status_code}, but {what}: {shown}"[:500],
            status=response.status_code,
            billed=None,
            headers=rate_headers(headers),
            request_id=_request_id(headers),
        )


def misshapen(answer: Answer, what: str, secrets: tuple[str, ...]) -> ProviderError:
    """The error of a 200 that is no completion. OpenRouter sends errors so, with their status inside."""
    error = answer.value.get("error")
    if (inner := error_inside(answer, error, secrets)) is not None:
        return inner
    shown = classify_answer(200, {}, orjson.dumps(answer.value), secrets=secrets).message
    return ProviderError(
        FailureClass.UNKNOWN_OUTCOME,
        f"HTTP 200, but {what}: {shown}"[:500],
        status=200,
        billed=None,
        headers=rate_headers(answer.headers),
        request_id=answer.request_id,
    )


def error_inside(answer: Answer, error: Any, secrets: tuple[str, ...]) -> ProviderError | None:
    """An error object that came with HTTP 200 and has the status it should have had, classified by that."""
    code = error.get("code") if isinstance(error, dict) else None
    status = int(code) if isinstance(code, int) or (isinstance(code, str) and code.isdecimal()) else 0
    if not 400 <= status < 600:
        return None
    body = orjson.dumps({"error": error})
    inner = classify_answer(status, answer.headers, body, secrets=secrets, request_id=answer.request_id)
    if status >= 500:
        inner.billed = None
    return inner


def with_extra(body: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a model's own fields over the usual ones: None removes a field, an object is merged into one."""
    for name, value in extra.items():
        if value is None:
            body.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(body.get(name), dict):
            body[name] = {**body[name], **value}
        else:
            body[name] = value
    return body


def count(value: Any) -> int:
    """A token count out of an answer: never negative, 0 for what is not a number."""
    return max(0, int(value)) if isinstance(value, int | float) else 0


def checked_usage(*, inputs: int, cached: int, written: int, outputs: int, reasoning: int) -> Usage:
    """A ``Usage`` whose parts are never more than the whole."""
    cached = min(cached, inputs)
    return Usage(inputs, cached, min(written, inputs - cached), outputs, min(reasoning, outputs))


def pool_limits(limits_type: Callable[..., _Limits], max_connections: int) -> _Limits:
    """A connection pool for this many calls in flight, in the SDK's own httpx."""
    return limits_type(
        max_connections=max_connections,
        max_keepalive_connections=max_connections,
        keepalive_expiry=KEEP_ALIVE_S,
    )


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _request_id(headers: Mapping[str, str]) -> str:
    return next((headers[name] for name in _REQUEST_ID_HEADERS if name in headers), "")
