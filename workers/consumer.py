"""Takes messages off the queues, and drops those that are none of ours: whoever may write there may err."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown
from kombu.exceptions import ContentDisallowed

from batcher.dispatch.broker import ADVICE, reason_of
from batcher.dispatch.celery_app import MAINTAIN, WORK

_log = logging.getLogger("batcher.worker")

_ARGUMENTS: Final = {WORK: 1, MAINTAIN: 0}
"""How many words the entrypoints take."""

_HEADERS: Final = ("task", "id", "lang", "expires", "root_id", "argsrepr", "kwargsrepr", "origin")
"""All that an entrypoint needs; each is a text."""

_STRANGE_KEY: Final = "Delete that key: something else has put it where messages go"
_REFUSED_PAUSE_S: Final = 5

_MALFORMED: Final = (ValueError, TypeError, KeyError)


class CarefulConsumer(Consumer):
    """Celery's consumer, which ends its whole process over a body or header that it does not expect."""

    def ensure_connected(self, conn: Any) -> Any:
        """Try until the broker is there (its password may be mended meanwhile); each failure is one line."""
        url = str(self.app.conf.broker_url)

        def tell(error: BaseException, pause_s: float) -> None:
            reason = reason_of(error, url)
            _log.error(
                "Cannot connect to the broker %s: %s. %s. Trying again in %.0f s",
                *(conn.as_uri(), reason, ADVICE, pause_s),
            )

        conn.ensure_connection(tell, callback=maybe_shutdown)
        self.first_connection_attempt = False
        return conn

    def on_connection_error_after_connected(self, exc: Any) -> None:
        """Connect anew; when the broker is there and refuses, say what to do, and not at once."""
        if isinstance(exc, self.channel_errors) and not isinstance(exc, self.connection_errors):
            reason = reason_of(exc, str(self.app.conf.broker_url))
            advice = _STRANGE_KEY if "WRONGTYPE" in reason else ADVICE
            _log.error(
                "The broker refuses: %s. %s. Until then this process looks for work by itself", reason, advice
            )
            for _ in range(_REFUSED_PAUSE_S):
                maybe_shutdown()
                time.sleep(1)
        super().on_connection_error_after_connected(exc)  # type: ignore[no-untyped-call]

    def create_task_handler(self, *given: Any) -> Any:
        """What is called with each message."""
        handle = super().create_task_handler(*given)  # type: ignore[no-untyped-call]

        def handle_ours(message: Any) -> None:
            fault = fault_of(message)
            if not fault:
                # Celery trusts the others, like an eta, which we never send.
                message.headers = {
                    name: message.headers[name]
                    for name in _HEADERS
                    if isinstance(message.headers.get(name), str)
                }
                try:
                    handle(message)
                except _MALFORMED as error:
                    if message.acknowledged:
                        raise
                    fault = f"its headers are wrong ({type(error).__name__})"
            if fault:
                _log.error("a message that is none of batcher's was dropped: %s", fault)
                message.ack_log_error(_log, self.connection_errors)

        return handle_ours


def fault_of(message: Any) -> str:
    """Why a message is none of ours, in words that hold nothing of it; "" if it is one."""
    headers = message.headers
    task = headers.get("task") if isinstance(headers, dict) else None
    if not isinstance(task, str) or task not in _ARGUMENTS:
        return "it names no entrypoint"
    if not isinstance(headers.get("id"), str):
        return "it has no id"
    try:
        body = message.payload
    except ContentDisallowed:
        # Celery refuses it, and says so.
        return ""
    except Exception:  # noqa: BLE001 - whatever a decoder makes of bytes that it cannot read
        return "its body cannot be read"
    match body:
        case [list(words), dict(named), dict() | None, *rest] if not named and not rest:
            if len(words) == _ARGUMENTS[task] and all(isinstance(word, str) for word in words):
                return ""
    return "its body is no call of an entrypoint"
