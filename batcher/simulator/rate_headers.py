"""Each vendor's own rate-limit headers.

OpenAI and Groq: Go durations until the bucket is full; Groq's request limits are per day. Anthropic: RFC 3339
times, tokens left rounded to thousands. Mistral: per minute, without resets. Together: per second.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

from batcher.simulator.rate_limits import DAILY, INPUT, OUTPUT, REQUESTS, TOKENS, Bucket, Buckets
from batcher.simulator.requests import ANTHROPIC, GROQ, MISTRAL, TOGETHER

_ROUNDED: Final = 1_000


def rate_headers(vendor: str, buckets: Buckets, now: float) -> dict[str, str]:
    """The headers of an answer; none where there are no limits.

    Args:
        vendor: in whose words.
        buckets: the account's, after the request was counted.
        now: Unix seconds.
    """
    if not buckets:
        return {}
    if vendor == ANTHROPIC:
        return _anthropic(buckets, now)
    if vendor == TOGETHER:
        return _together(buckets)
    if vendor == MISTRAL:
        return _mistral(buckets)
    requests = DAILY if vendor == GROQ and DAILY in buckets else REQUESTS
    headers: dict[str, str] = {}
    for name, bucket in (("requests", buckets.get(requests)), ("tokens", buckets.get(TOKENS))):
        if bucket is not None:
            headers[f"x-ratelimit-limit-{name}"] = str(int(bucket.limit))
            headers[f"x-ratelimit-remaining-{name}"] = str(_left(bucket))
            headers[f"x-ratelimit-reset-{name}"] = go_duration(bucket.reset_s())
    return headers


def _left(bucket: Bucket) -> int:
    return max(0, int(bucket.level))


def _anthropic(buckets: Buckets, now: float) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name in (REQUESTS, INPUT, OUTPUT):
        bucket = buckets.get(name)
        if bucket is None:
            continue
        left = _left(bucket)
        if name != REQUESTS and left >= _ROUNDED:
            left = left // _ROUNDED * _ROUNDED
        headers[f"anthropic-ratelimit-{name}-limit"] = str(int(bucket.limit))
        headers[f"anthropic-ratelimit-{name}-remaining"] = str(left)
        headers[f"anthropic-ratelimit-{name}-reset"] = rfc3339(now + bucket.reset_s())
    sums = [buckets[name] for name in (INPUT, OUTPUT) if name in buckets]
    if len(sums) == 2:
        left = sum(map(_left, sums))
        headers["anthropic-ratelimit-tokens-limit"] = str(int(sum(bucket.limit for bucket in sums)))
        headers["anthropic-ratelimit-tokens-remaining"] = str(left // _ROUNDED * _ROUNDED)
        headers["anthropic-ratelimit-tokens-reset"] = rfc3339(now + max(bucket.reset_s() for bucket in sums))
    return headers


def _together(buckets: Buckets) -> dict[str, str]:
    headers: dict[str, str] = {}
    requests, tokens = buckets.get(REQUESTS), buckets.get(TOKENS)
    if requests is not None:
        per_second = max(1, int(requests.rate))
        headers["x-ratelimit-limit"] = str(per_second)
        headers["x-ratelimit-remaining"] = str(min(per_second, _left(requests)))
        headers["x-ratelimit-reset"] = str(math.ceil(requests.wait_s(1)) or 1)
    if tokens is not None:
        per_second = max(1, int(tokens.rate))
        headers["x-tokenlimit-limit"] = str(per_second)
        headers["x-tokenlimit-remaining"] = str(min(per_second, _left(tokens)))
    return headers


def _mistral(buckets: Buckets) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, bucket in (("req", buckets.get(REQUESTS)), ("tokens", buckets.get(TOKENS))):
        if bucket is not None:
            headers[f"x-ratelimit-limit-{name}-minute"] = str(int(bucket.limit))
            headers[f"x-ratelimit-remaining-{name}-minute"] = str(_left(bucket))
    return headers


def go_duration(seconds: float) -> str:
    """Seconds as Go writes them: ``6m0s``, ``1.5s``, ``17ms``, ``0s``."""
    milliseconds = math.ceil(seconds * 1000 - 1e-6)
    if milliseconds <= 0:
        return "0s"
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:g}s" if rest % 1000 else f"{rest // 1000}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def rfc3339(moment: float) -> str:
    """Unix seconds as Anthropic writes a time, rounded up to a second."""
    return datetime.fromtimestamp(math.ceil(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
