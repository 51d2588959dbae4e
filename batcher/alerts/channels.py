"""One channel that alerts go to: an apprise URL, which is a secret from end to end."""

from __future__ import annotations

import logging
import re
import threading
import warnings
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from batcher.alerts.web import watched
from batcher.alerts.wording import one_line

if TYPE_CHECKING:
    from apprise import Apprise

NOT_A_URL: Final = "apprise cannot read its URL; docs/alerts.md shows the form of some"
_REASON_LENGTH: Final = 200
_SHORTEST_SECRET: Final = 3
_FINGERPRINT_BYTES: Final = 6
_LOADING: Final = threading.Lock()


@dataclass(slots=True)
class Channel:
    """Where alerts go. Its URL shows in no message, log or repr.

    Attributes:
        number: its place among the URLs that are set, from 1: what people know it by.
        url: as apprise reads it.
    """

    number: int
    url: str = field(repr=False)
    _apprise: Apprise | None = field(default=None, repr=False)

    @property
    def fingerprint(self) -> str:
        """Twelve characters that name the URL in the store, and tell nothing of it."""
        return blake2b(self.url.encode(), digest_size=_FINGERPRINT_BYTES, person=b"channel").hexdigest()

    @property
    def name(self) -> str:
        """What people may see: ``channel 2 (Slack)``."""
        service = next((str(found.service_name) for found in self._services()), "unknown")
        return f"channel {self.number} ({one_line(service, 40)})"

    def send(self, title: str, body: str, *, is_trouble: bool = False) -> str | None:
        """Send a message and wait for the channel's answer: 4 s, unless its URL says otherwise (``?rto=10``).

        Returns:
            None if the channel took it, else why not, in one line without the URL's secrets.
        """
        try:
            if not self._services() or self._apprise is None:
                return NOT_A_URL
            with watched() as found:
                kind = "warning" if is_trouble else "info"
                outcome = self._apprise.notify(title=title, body=body, body_format="text", notify_type=kind)
            said = [str(entry.message) for entry in outcome.logs()]
        except Exception as error:  # noqa: BLE001 - hundreds of plug-ins: whatever they raise, the run goes on
            return self._without_secrets(f"{type(error).__name__}: {error}")
        if outcome:
            return None
        return "; ".join(found) or self._without_secrets("; ".join(said) or "it did not take the message")

    def _services(self) -> list[Any]:
        if self._apprise is None:
            self._apprise = _open(self.url)
        return list(self._apprise)

    def _without_secrets(self, reason: str) -> str:
        """The reason with every part of the URL that could be a secret taken out."""
        from urllib.parse import unquote

        for part in sorted(re.split(r"[/:@?&=,;#]+", self.url)[1:], key=len, reverse=True):
            for secret in {part, unquote(part)}:
                if len(secret) >= _SHORTEST_SECRET:
                    reason = reason.replace(secret, "[hidden]")
        return one_line(reason, _REASON_LENGTH)


def _open(url: str) -> Apprise:
    """Apprise with this URL, silenced: what it logs may quote the URL, and ``send`` returns what matters."""
    logger = logging.getLogger("apprise")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    with _LOADING, warnings.catch_warnings():
        # Its mail plug-in imports imghdr where Python still has it (apprise 2.2 on Python 3.11 and 3.12).
        warnings.filterwarnings("ignore", "'imghdr' is deprecated", DeprecationWarning)
        from apprise import Apprise, AppriseAsset

        # With deadlines apprise would send in threads that Python waits for when the process ends, however
        # long a channel hangs; without, it sends in the thread that calls, and that is a daemon.
        asset = AppriseAsset(
            app_id="batcher", app_desc="batcher", app_url="", async_mode=False, service_timeout=0
        )
        opened = Apprise(asset=asset)
        opened.add(url)
    return opened
