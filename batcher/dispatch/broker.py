"""The broker: whether its URL can be used at all, and connections whose errors are said plainly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from kombu.exceptions import OperationalError

from batcher.errors import BatcherError, ConfigurationError, DependencyError

if TYPE_CHECKING:
    from celery import Celery

    from batcher.settings import Settings

_Errors = tuple[type[BaseException], ...]

ADVICE: Final = "See that it is up and that BATCHER_BROKER_URL is right"
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_HIDDEN: Final = "[password]"
_MOST_LETTERS: Final = 300
_USE_REDIS: Final = "Name a server, like redis://HOST:6379/0"
_UNHEARD: Final = f"which no other process can hear, so that no worker would. {_USE_REDIS}"
_SQLITE: Final = ("sqla+sqlite", "sqlalchemy+sqlite")
_UNSUPPORTED: Final = {
    "sentinel": f"and Redis Sentinel is not supported. {_USE_REDIS}",
    "memory": _UNHEARD,
}
"""Transports that Kombu has and batcher cannot use."""


def check_broker(settings: Settings) -> None:
    """Raise ConfigurationError if the broker's URL names what this installation cannot speak to."""
    from kombu.connection import Connection

    assert settings.broker_url is not None
    whole = settings.broker_url.get_secret_value()
    url = urlsplit(whole)
    kind = url.scheme.partition("+")[0]
    if url.scheme in _SQLITE and url.path.strip("/") in ("", ":memory:"):
        raise ConfigurationError(f"BATCHER_BROKER_URL names a database in memory, {_UNHEARD}")
    if kind in _UNSUPPORTED:
        raise ConfigurationError(f"BATCHER_BROKER_URL begins with {kind}://, {_UNSUPPORTED[kind]}")
    for name, values in parse_qs(url.query).items():
        if name in _FILES and not Path(values[-1]).is_file():
            raise ConfigurationError(f"BATCHER_BROKER_URL names a file for {name} that is not there")
    with said_plainly(whole):
        _check_transport(kind)
        with Connection(whole) as connection:
            broker_errors(connection)
            _ = connection.transport


def _check_transport(kind: str) -> None:
    from kombu.transport import get_transport_cls

    try:
        get_transport_cls(kind)
    except KeyError:
        raise ConfigurationError(
            f"BATCHER_BROKER_URL begins with {kind}://, which is no broker's. It looks like redis://HOST:6379/0"
        ) from None
    except ImportError as error:
        raise ConfigurationError(
            f"A broker with {kind}:// needs a package that is not installed: {error}. See Celery's page on it"
        ) from None


def try_broker(settings: Settings) -> None:
    """Raise ConfigurationError if the URL cannot be used, also where only its use tells: not Redis's."""
    check_broker(settings)
    if settings.limiter_url() is None:
        with contextlib.suppress(DependencyError):
            ping(settings)


def ping(settings: Settings) -> None:
    """See whether the broker is there and takes what is sent; costs no more than a connection.

    Raises:
        DependencyError: if not, with its reason.
        ConfigurationError: if its URL names what cannot be used.
    """
    from batcher.dispatch.celery_app import MAINTENANCE_QUEUE, make_app
    from batcher.dispatch.waking import Waker

    Waker(make_app(settings, ())).depth(MAINTENANCE_QUEUE)


@contextlib.contextmanager
def broker_connection(app: Celery, *, retries: int = 1, meanwhile: str = "") -> Iterator[Any]:
    """A connection to the broker of an app.

    Args:
        app: the app.
        retries: how often to try again, tenths of a second apart.
        meanwhile: a sentence about what holds although the broker is away.

    Raises:
        DependencyError: if it cannot be reached, or refuses what is asked of it; with its reason.
        ConfigurationError: if its URL names what cannot be used.
    """
    url = str(app.conf.broker_url)
    with said_plainly(url):
        connection = app.connection_for_write()
        losses, refusals = broker_errors(connection)
        try:
            with connection:
                connection.ensure_connection(max_retries=retries, interval_start=0.1, interval_step=0.3)
                yield connection
        except (*losses, *refusals) as error:
            what = "refuses" if isinstance(error, refusals) and not isinstance(error, losses) else ""
            said = f"The broker {what or 'cannot be reached'}: {reason_of(error, url)}"
            raise DependencyError(". ".join(part for part in (said, meanwhile, ADVICE) if part)) from None


def broker_errors(connection: Any) -> tuple[_Errors, _Errors]:
    """What a connection raises when the broker is away, and when it refuses what is asked of it."""
    losses = (OperationalError, OSError, *connection.connection_errors)
    refusals = tuple(connection.channel_errors)
    if not all(isinstance(error, type) for error in (*losses, *refusals)):
        raise ConfigurationError(
            "The broker of BATCHER_BROKER_URL needs a package that is not installed. See Celery's page on it"
        )
    return losses, refusals


@contextlib.contextmanager
def said_plainly(url: str) -> Iterator[None]:
    """Turn whatever Kombu makes of a broker's URL while it sets up the transport into ConfigurationError."""
    try:
        yield
    except BatcherError:
        raise
    except Exception as error:  # noqa: BLE001 - each transport has its own for what it does not understand
        raise ConfigurationError(f"BATCHER_BROKER_URL cannot be used: {reason_of(error, url)}") from None


def reason_of(error: BaseException, url: str) -> str:
    """The error's words on one line, without the password."""
    words = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    password = urlsplit(url).password or ""
    for secret in {password, unquote(password)} - {""}:
        words = words.replace(secret, _HIDDEN)
    return words[:_MOST_LETTERS]
