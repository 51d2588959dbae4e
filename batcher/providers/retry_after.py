"""How long a vendor asks us to wait, in all the spellings that vendors use."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Final

from batcher.durations import read_moment, read_number, seconds_until

_SAID: Final = re.compile(
    r"(?:try again|retry|retrying|wait) (?:in |after |for )?(?:about )?"
    r"(\d+(?:\.\d+)? ?(?:milli)?(?:second|minute|hour)s?\b"
    r"|(?:\d+(?:\.\d+)?(?:ms|µs|us|ns|s|m|h|d)(?![a-z]))+)",
    re.IGNORECASE,
)
_RESET_IN_BODY: Final = re.compile(r'"x-ratelimit-reset"\s*:\s*"(\d+)"', re.IGNORECASE)
"""OpenRouter repeats the upstream's headers in its error's metadata."""
_RETRY_DELAY: Final = re.compile(r'"retryDelay"\s*:\s*"([^"]+)"')


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
        now = read_moment(headers.get("date", "")) or time.time()
    milliseconds = read_number(headers.get("retry-after-ms"))
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
        remaining = read_number(headers.get(name.replace("reset", "remaining")))
        (used_up if remaining is None or remaining <= 0 else others).append(wait)
    if used_up:
        return max(used_up)
    return min(others, default=None)


def _wait(text: str, now: float) -> float | None:
    return seconds_until(text, lambda: now)
