"""Watches what apprise's plug-ins do over HTTP: a redirect that loses the message, and why a call failed.

The plug-ins send with the library ``requests`` (2.34), which follows 301, 302 and 303 as browsers do, with a
GET without the message; the page that it finds counts as success. Every failure has the same words.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session

_KEEPS_THE_MESSAGE: Final = frozenset({307, 308})

_found: ContextVar[list[str] | None] = ContextVar("found", default=None)
"""What went wrong with the message that the running thread sends; None if it sends none."""


@contextmanager
def watched() -> Iterator[list[str]]:
    """Let no redirect within lose a message; yields what goes wrong, in words that hold no part of a URL."""
    _install()
    found: list[str] = []
    outside = _found.set(found)
    try:
        yield found
    finally:
        _found.reset(outside)


@functools.cache
def _install() -> None:
    """Put the watch around ``requests``, once per process; who sends no alert does not notice it."""
    from requests import RequestException, Session, Timeout

    follow, send = Session.rebuild_method, Session.send

    def rebuild_method(session: Session, prepared: PreparedRequest, response: Response) -> None:
        method, body, status = prepared.method, prepared.body, response.status_code
        follow(session, prepared, response)
        found = _found.get()
        if found is None or status in _KEEPS_THE_MESSAGE or (prepared.method == method and not body):
            return
        found.append(f"it redirects ({status}), and the message would not go along; give the last address")
        raise RequestException(found[-1], response=response)

    def watched_send(session: Session, request: PreparedRequest, **options: Any) -> Response:
        try:
            return send(session, request, **options)
        except Timeout:
            found = _found.get()
            if found is not None:
                found.append(f"no answer within {_seconds(options.get('timeout'))}")
            raise

    Session.rebuild_method = rebuild_method  # type: ignore[method-assign,assignment]
    Session.send = watched_send  # type: ignore[method-assign,assignment]


def _seconds(timeout: Any) -> str:
    """``4 s``, of a time limit for the connection and one for the answer."""
    limit = timeout[-1] if isinstance(timeout, tuple) else timeout
    return f"{limit:g} s" if isinstance(limit, int | float) else "its time limit"
