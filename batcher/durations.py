"""Points in time and lengths of time, in all the spellings that vendors use."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
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
_IN_WORDS: Final = re.compile(r"(\d+(?:\.\d+)?) ?(millisecond|second|minute|hour)s?", re.IGNORECASE)
_WORD_S: Final = {"millisecond": 1e-3, "second": 1.0, "minute": 60.0, "hour": 3600.0}
_EPOCH_FROM: Final = 1e9
"""A number above this is a point in time in seconds since 1970 (above 1e12: in milliseconds)."""


def seconds_until(text: str, now: Callable[[], float]) -> float | None:
    """Seconds from now that a text means, never negative; None if it means no time.

    Args:
        text: seconds (``7``, ``0.25``), a duration (``6m0s``, ``17ms``, ``30 seconds``), seconds or
            milliseconds since 1970, an HTTP date or an RFC 3339 time.
        now: Unix seconds; asked where the text is a point in time.
    """
    text = text.strip()
    seconds = read_number(text)
    if seconds is not None:
        if seconds < _EPOCH_FROM:
            return max(0.0, seconds)
        return max(0.0, (seconds / 1000 if seconds >= _EPOCH_FROM * 1000 else seconds) - now())
    if _DURATION.fullmatch(text):
        return float(sum(float(count) * _UNIT_S[unit] for count, unit in _DURATION_PART.findall(text)))
    if words := _IN_WORDS.fullmatch(text):
        return float(words[1]) * _WORD_S[words[2].lower()]
    moment = read_moment(text)
    return None if moment is None else max(0.0, moment - now())


def read_moment(text: str) -> float | None:
    """Unix seconds of an HTTP date or an RFC 3339 time with its zone; None if it is neither."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, TypeError):
            return None
    try:
        return moment.timestamp() if moment.tzinfo else None
    except (OverflowError, OSError):
        return None


def read_number(text: str | None) -> float | None:
    """A finite number, or None."""
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None
