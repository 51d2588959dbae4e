"""Where tracebacks go, with every key taken out."""

from __future__ import annotations

import os
import re
import tempfile
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from batcher.errors import BatcherError
from batcher.settings import Settings

LOG_NAME: Final = "batcher.log"
_HIDDEN: Final = "[key]"
_SHORTEST_SECRET: Final = 6


def format_traceback(error: BaseException, settings: Settings | None) -> str:
    """The traceback as Python prints it, without keys."""
    return hide_secrets("".join(traceback.format_exception(error)), settings)


def write_traceback(error: BaseException, settings: Settings | None) -> Path | None:
    """Append the traceback to the log in home, else to a new file that nobody else can read or foresee.

    Returns:
        The file, or None if nothing can be written anywhere.
    """
    entry = f"{datetime.now(UTC).isoformat(timespec='seconds')}\n{format_traceback(error, settings)}\n"
    for open_log in (_open_in_home, _open_temporary):
        try:
            descriptor, path = open_log(settings)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as log:
                log.write(entry)
        except (OSError, ValueError):
            continue
        return path
    return None


def _open_in_home(settings: Settings | None) -> tuple[int, Path]:
    if settings is None:
        raise FileNotFoundError(LOG_NAME)
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = settings.home / LOG_NAME
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), path


def _open_temporary(_settings: Settings | None) -> tuple[int, Path]:
    descriptor, name = tempfile.mkstemp(prefix="batcher-", suffix=".log")
    return descriptor, Path(name)


def hide_secrets(text: str, settings: Settings | None) -> str:
    """The text with the values of all known keys and passwords replaced."""
    if settings is None:
        return text
    for secret in _secrets(settings):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, _HIDDEN)
    return text


def _secrets(settings: Settings) -> Iterator[str]:
    from batcher.catalog.models import load_catalog

    for url in (settings.database_url, settings.broker_url):
        password = urlsplit(url.get_secret_value()).password if url is not None else None
        if password:
            yield from (password, unquote(password))
    yield from _alert_secrets(settings)
    try:
        providers = load_catalog(settings).providers.values()
        names = [provider.api_key_env for provider in providers]
        yield from (value for name in names if name and (value := settings.secret(name)))
    except BatcherError:
        # The catalogue itself is what is wrong: the built-in providers are still known.
        providers = load_catalog(Settings.model_construct()).providers.values()
        yield from (value for provider in providers if (value := _value(settings, provider.api_key_env)))


def _alert_secrets(settings: Settings) -> Iterator[str]:
    """The URLs of alert channels, and what of them may be a secret: not the kind, nor this machine."""
    try:
        urls = settings.alert_targets()
    except BatcherError:
        return
    for url in urls:
        yield url
        parts = re.split(r"[/:@?&=,;#]+", url)[1:]
        yield from (part for part in parts if not re.fullmatch(r"localhost|[\d.]+", part))


def _value(settings: Settings, name: str | None) -> str | None:
    try:
        return settings.secret(name) if name else None
    except BatcherError:
        return None
