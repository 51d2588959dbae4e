"""The fence: the last look before a request's bytes leave this machine.

A process that was stopped, or a machine that slept, goes on where it was, which may be between the decision
to send a call and its sending, with a connection that has just been made. By then somebody else may have
taken the call's item. So leave is asked for once more in the step that writes the request, with nothing to
wait for in between. Whether that step was reached also tells failures before sending from those after it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import aiohttp

from batcher.providers.base import NotSentError

_log = logging.getLogger(__name__)


class UnsendableError(Exception):
    """The head of a request cannot be written as HTTP: no byte of it left."""


class Departure:
    """One call on its way out.

    Args:
        may_leave: asked in the moment before its first byte leaves.

    Attributes:
        left: whether bytes may have left.
    """

    __slots__ = ("_may_leave", "left")

    def __init__(self, may_leave: Callable[[], bool]) -> None:
        self._may_leave = may_leave
        self.left = False

    def leave(self) -> None:
        """Take leave: from now on bytes may have left.

        Raises:
            NotSentError: if the call may not leave any more.
        """
        if not self._may_leave():
            raise NotSentError("the lease ran out before the call left")
        self.left = True


DEPARTURE: ContextVar[Departure | None] = ContextVar("departure", default=None)
"""The call that the running task is about to send."""


def leave() -> None:
    """Take leave for the running task's call, if it has one.

    Raises:
        NotSentError: if the call may not leave any more.
    """
    departure = DEPARTURE.get()
    if departure is not None:
        departure.leave()


class _FencedRequest(aiohttp.ClientRequest):
    """aiohttp's request, whose writer has two ways to the socket (``StreamWriter``, aiohttp 3.13, 3.14)."""

    async def send(self, conn: Any) -> Any:
        departure = DEPARTURE.get()
        try:
            return await super().send(conn)
        except (ValueError, TypeError) as error:
            if departure is not None and departure.left:
                raise
            raise UnsendableError(str(error)) from error

    async def write_bytes(self, writer: Any, conn: Any, *arguments: Any) -> None:
        departure = DEPARTURE.get()
        if departure is not None:
            put = _Gate(departure, conn)
            writer._write, writer._writelines = put.before(writer._write), put.before(writer._writelines)
        await super().write_bytes(writer, conn, *arguments)


class _Gate:
    """Stands before the writer's two ways to the socket, which it takes without a pause after the look."""

    __slots__ = ("_conn", "_departure", "_is_shut")

    def __init__(self, departure: Departure, conn: Any) -> None:
        self._departure = departure
        self._conn = conn
        self._is_shut = False

    def before(self, write: Callable[[Any], None]) -> Callable[[Any], None]:
        """The same way, with leave taken before the first bytes."""

        def put(data: Any) -> None:
            if self._is_open():
                write(data)

        return put

    def _is_open(self) -> bool:
        if self._departure.left or self._is_shut:
            return not self._is_shut
        try:
            self._departure.leave()
        except NotSentError as error:
            # Whoever waits for the answer gets this instead, and closes the connection.
            self._is_shut = True
            self._conn.protocol.set_exception(error)
        return not self._is_shut


def install_fence(http_client: Any) -> None:
    """Put the fence around an SDK's HTTP client, before it is used for the first time.

    The SDKs' aiohttp transports (httpx-aiohttp 0.2) make their session when the first call goes out.

    Args:
        http_client: an httpx client whose transports, one for each proxy and one for none, are such.
    """
    try:
        transports = [http_client._transport, *http_client._mounts.values()]
        for transport in transports:
            if transport is not None:
                transport.get_client = _with_fence(transport.get_client)
    except AttributeError as error:
        _log.warning("no look at the clock right before calls leave: this SDK is built otherwise (%s)", error)


def _with_fence(make_session: Callable[[], aiohttp.ClientSession]) -> Callable[[], aiohttp.ClientSession]:
    def make() -> aiohttp.ClientSession:
        session = make_session()
        session._request_class = _FencedRequest
        return session

    return make
