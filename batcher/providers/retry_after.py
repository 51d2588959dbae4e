"""How long a vendor asks us to wait, in all the spellings that vendors use."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

_UNIT_S: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)")
_DURATION: Final = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_SAID: Final = re.compile(
    r"(?:try again|retry|retrying|wait) (?:in |after |for )?(?:about )?"
    r"(\d+(?:\.\d+)? ?(?:milli)?(?:second|minute|hour)s?\b"
    r"|(?:\d+(?:\.\d+)?(?:ms|µs|us|ns|s|m|h|d)(?![a-z]))+)",
    re.IGNORECASE,
)
_IN_WORDS: Final = re.compile(r"(\d+(?:\.\d+)?) ?(millisecond|second|minute|hour)s?", re.IGNORECASE)
_WORD_S: Final = {"millisecond": 1e-3, "second": 1.0, "minute": 60.0, "hour": 3600.0}
_RESET_IN_BODY: Final = re.compile(r'"x-ratelimit-reset"\s*:\s*"(\d+)"', re.IGNORECASE)
"""OpenRouter repeats the upstream's headers in its error's metadata."""
_RETRY_DELAY: Final = re.compile(r'"retryDelay"\s*:\s*"([^"]+)"')
_EPOCH_FROM: Final = 1e9
"""A reset number above this is a point in time in seconds since 1970 (above 1e12: in milliseconds)."""


def retry_after_s(
    headers: Mapping[str, str], body: str = "", now: float | None = None, *, heed_resets: bool = True
) -> float | None:
    """Seconds to wait before the next call, or None if the vendor does not say.

    In the order of the vendors' own SDKs: ``retry-after-ms``, ``retry-after`` as seconds, as an HTTP date
    (RFC 9110, section 10.2.3); then the body (Gemini's ``retryDelay``, "try again in 1.5s"); then the reset
    headers of the limits that are used up: OpenAI and Groq write durations like ``6m0s``, Anthropic RFC 3339
    times, Together seconds, OpenRouter milliseconds since 1970.

    Args:
        headers: lower-case names.
        body: the answer's text.
        now: Unix seconds; by default the vendor's ``date`` header, so that a wrong clock here does no harm.
        heed_resets: whether the resets of limits count. They stand beside every answer, and say nothing about
            a failure that is no rate limit.
    """
    if now is None:
        now = _moment(headers.get("date", "")) or time.time()
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    told = headers.get("retry-after")
    if told is not None and (wait := _wait(told, now)) is not None:
        return wait
    for pattern in (_RETRY_DELAY, _SAID, _RESET_IN_BODY):
        if (found := pattern.search(body)) and (wait := _wait(found[1], now)) is not None:
            return wait
    return _from_resets(headers, now) if heed_resets else None


def _from_resets(headers: Mapping[str, str], now: float) -> float | None:
    """The longest reset of a used-up limit, else the shortest of all resets."""
    used_up: list[float] = []
    others: list[float] = []
    for name, value in headers.items():
        if "ratelimit" not in name or "reset" not in name or (wait := _wait(value, now)) is None:
            continue
        remaining = _number(headers.get(name.replace("reset", "remaining")))
        (used_up if remaining is None or remaining <= 0 else others).append(wait)
    if used_up:
        return max(used_up)
    return min(others, default=None)


def _wait(text: str, now: float) -> float | None:
    """Seconds from now that a number, a duration or a time means; never negative."""
    text = text.strip()
    if words := _IN_WORDS.fullmatch(text):
        return float(words[1]) * _WORD_S[words[2].lower()]
    number = _number(text)
    if number is not None:
        if number >= _EPOCH_FROM:
            return max(0.0, (number / 1000 if number >= _EPOCH_FROM * 1000 else number) - now)
        return max(0.0, number)
    if _DURATION.fullmatch(text):
        return float(sum(float(count) * _UNIT_S[unit] for count, unit in _DURATION_PART.findall(text)))
    moment = _moment(text)
    return None if moment is None else max(0.0, moment - now)


def _moment(text: str) -> float | None:
    """Unix seconds of an HTTP date or an RFC 3339 time."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
    try:
        return moment.timestamp() if moment.tzinfo else None
    except (OverflowError, OSError):
        return None


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None
