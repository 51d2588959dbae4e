"""What Kombu's Redis transport (5.7) does not bear, and ends a worker for: mended in its Channel class."""

from __future__ import annotations

import logging
import re
from functools import cache
from typing import Any, Final

_log = logging.getLogger("batcher.worker")

_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


@cache
def mend_channel() -> None:
    """Mend the class; once is enough, however often it is asked for."""
    _tell_of_closed_channels()
    _drop_what_is_no_message()


def _tell_of_closed_channels() -> None:
    """Let a channel whose connection is closed say so as every lost connection does.

    Kombu says AttributeError when a message is acknowledged or put back on one, as happens when Redis is lost
    while an entrypoint runs; for that Celery ends the whole worker instead of connecting anew.
    """
    from kombu.transport.redis import Channel
    from redis.exceptions import ConnectionError as LostError

    parameters = Channel._connparams

    def checked(channel: Any, asynchronous: bool = False) -> Any:
        if channel.connection is None or channel.connection.client is None:
            raise LostError("the channel is closed")
        return parameters(channel, asynchronous)  # type: ignore[no-untyped-call]

    Channel._connparams = checked  # type: ignore[method-assign]


def _drop_what_is_no_message() -> None:
    """Let the worker live on when something was taken off a queue that is no message; it is gone then."""
    from kombu.transport.redis import Channel, Transport

    read, deliver = Channel._brpop_read, Transport._deliver

    def careful_read(channel: Any, **options: Any) -> Any:
        try:
            return read(channel, **options)  # type: ignore[no-untyped-call]
        except ValueError:
            # Kombu has just tried to read it as JSON.
            _log.error("something on a queue that is no message was dropped")
            return True

    def careful_delivery(transport: Any, message: Any, queue: str) -> None:
        if is_envelope(message):
            deliver(transport, message, queue)  # type: ignore[no-untyped-call]
        else:
            _log.error("something on a queue that is no message was dropped")

    Channel._brpop_read = careful_read  # type: ignore[method-assign, assignment]
    Transport._deliver = careful_delivery  # type: ignore[method-assign]


def is_envelope(message: Any) -> bool:
    """Whether a JSON value is what Kombu wraps messages into, so that it can unwrap it, and put it back."""
    match message:
        case {"body": str(body), "properties": {"delivery_tag": str(), "delivery_info": dict(where)} as how}:
            headers, encoding = message.get("headers"), how.get("body_encoding")
        case _:
            return False
    if encoding == "base64" and not _BASE64.fullmatch(body):
        return False
    known = encoding in (None, "base64") and (headers is None or isinstance(headers, dict))
    return known and all(isinstance(where.get(name), str) for name in ("exchange", "routing_key"))
