"""The broker: whether its URL can be used at all, and connections whose errors are said plainly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from kombu.exceptions import OperationalError

from batcher.errors import ConfigurationError, DependencyError

if TYPE_CHECKING:
    from celery import Celery

    from batcher.settings import Settings

_ADVICE: Final = "See that it is up and that BATCHER_BROKER_URL is right"
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_HIDDEN: Final = "[password]"
_MOST_LETTERS: Final = 300


def check_broker(settings: Settings) -> None:
    """Raise ConfigurationError if the broker's URL names what this installation cannot speak to."""
    from kombu.transport import get_transport_cls

    assert settings.broker_url is not None
    url = urlsplit(settings.broker_url.get_secret_value())
    kind = url.scheme.partition("+")[0]
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
    for name, values in parse_qs(url.query).items():
        if name in _FILES and not Path(values[-1]).is_file():
            raise ConfigurationError(f"BATCHER_BROKER_URL names a file for {name} that is not there")


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
    """
    connection = app.connection_for_write()
    refusals = tuple(connection.channel_errors)
    losses = (OperationalError, OSError, *connection.connection_errors)
    try:
        with connection:
            connection.ensure_connection(max_retries=retries, interval_start=0.1, interval_step=0.3)
            yield connection
    except (*losses, *refusals) as error:
        what = "refuses" if isinstance(error, refusals) and not isinstance(error, losses) else ""
        said = f"The broker {what or 'cannot be reached'}: {_reason(error, str(app.conf.broker_url))}"
        raise DependencyError(". ".join(part for part in (said, meanwhile, _ADVICE) if part)) from None


def _reason(error: BaseException, url: str) -> str:
    """The error's words on one line, without the password."""
    words = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    password = urlsplit(url).password or ""
    for secret in {password, unquote(password)} - {""}:
        words = words.replace(secret, _HIDDEN)
    return words[:_MOST_LETTERS]
