"""What the rate-limit headers of every vendor say, in one form.

Nothing here raises: a header that makes no sense counts as absent. Which header means what was read in the
vendors' pages and SDKs in November 2026; each deviation from the plain form stands beside its name.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final, NamedTuple

from batcher.durations import read_moment, read_number, seconds_until
from batcher.limits.quotas import DAY_S, MINUTE_S, Dimension, Observed, Reading

MOST: Final = 10**13
"""A count above this is no limit but nonsense."""


class _Header(NamedTuple):
    """What a header is: which limit, which of its three numbers, and the length of the limit's window."""

    group: str
    dimension: Dimension
    number: str
    window_s: float


_NUMBERS: Final = ("limit", "remaining", "reset")
_ANTHROPIC: Final = {
    "requests": Dimension.RPM,
    "tokens": Dimension.TPM,
    "input-tokens": Dimension.ITPM,
    "output-tokens": Dimension.OTPM,
}
_PLAIN: Final = {
    "requests": Dimension.RPM,
    "req": Dimension.RPM,  # Mistral
    "tokens": Dimension.TPM,
    "project-tokens": Dimension.TPM,  # OpenAI, where a project has a limit of its own
    "tokens-prompt": Dimension.ITPM,  # Fireworks
    "tokens-generated": Dimension.OTPM,  # Fireworks
}
_PER_DAY: Final = {Dimension.RPM: Dimension.RPD, Dimension.TPM: Dimension.TPD}


def _known_headers() -> dict[str, _Header]:
    known = {}
    for number in _NUMBERS:
        for unit, dimension in _ANTHROPIC.items():
            known[f"anthropic-ratelimit-{unit}-{number}"] = _Header(unit, dimension, number, MINUTE_S)
        for unit, dimension in _PLAIN.items():
            name = f"x-ratelimit-{number}-{unit}"
            known[name] = _Header(unit, dimension, number, MINUTE_S)
            # Mistral and Cerebras name the window: x-ratelimit-limit-req-minute, -requests-day
            known[f"{name}-second"] = _Header(f"{unit}/s", dimension, number, 1.0)
            known[f"{name}-minute"] = _Header(f"{unit}/min", dimension, number, MINUTE_S)
            if dimension in _PER_DAY:
                known[f"{name}-day"] = _Header(f"{unit}/day", _PER_DAY[dimension], number, DAY_S)
        # Mistral's older spelling of its token limit
        known[f"x-ratelimitbysize-{number}-minute"] = _Header("size", Dimension.TPM, number, MINUTE_S)
    return known


def _together_headers() -> dict[str, _Header]:
    """Together counts per second and leaves the unit out."""
    known = {}
    for number in _NUMBERS:
        known[f"x-ratelimit-{number}"] = _Header("requests/s", Dimension.RPM, number, 1.0)
        known[f"x-tokenlimit-{number}"] = _Header("tokens/s", Dimension.TPM, number, 1.0)
    return known


def _groq_headers() -> dict[str, _Header]:
    """Groq's requests are those of a day, its tokens those of a minute.

    Gateways that pass for Groq count by the minute under the same names; see ``_told_window``.
    """
    return {
        f"x-ratelimit-{number}-requests": _Header("requests", Dimension.RPD, number, DAY_S)
        for number in _NUMBERS
    }


_KNOWN: Final = _known_headers()
_BY_PROVIDER: Final[dict[str, dict[str, _Header]]] = {
    "together": {**_KNOWN, **_together_headers()},
    "groq": {**_KNOWN, **_groq_headers()},
}


def read_headers(provider: str, headers: Mapping[str, str], now: float | None = None) -> Observed:
    """Read the rate-limit headers of one response.

    Args:
        provider: the name of the provider in the catalogue, or its kind: ``groq`` and ``together`` use names
            that mean something else elsewhere; all others are told by the names of their headers alone.
        headers: lower-case names.
        now: Unix seconds, for resets that are points in time; by default the ``date`` header, else the clock.
    """
    known = _BY_PROVIDER.get(provider, _KNOWN)
    groups: dict[str, dict[str, str]] = {}
    meanings: dict[str, _Header] = {}
    for name, value in headers.items():
        header = known.get(name)
        if header is not None and isinstance(value, str):
            groups.setdefault(header.group, {})[header.number] = value
            meanings[header.group] = header
    readings = [
        reading
        for group, numbers in groups.items()
        if (reading := _reading(meanings[group], numbers, headers, now)) is not None
    ]
    return Observed(tuple(readings))


def _reading(
    header: _Header, numbers: Mapping[str, str], headers: Mapping[str, str], now: float | None
) -> Reading | None:
    limit = _count(numbers.get("limit"), least=1)  # 0: Mistral for a model outside the plan
    remaining = _count(numbers.get("remaining"), least=0)
    reset = numbers.get("reset", "")
    if _leaves_window_open(header, limit, reset):
        remaining = None
    if limit is None and remaining is None and not reset:
        return None
    reset_s = seconds_until(reset, lambda: _date(headers) if now is None else now) if reset else None
    if header.dimension is Dimension.RPD and header.group == "requests":
        told = _told_window(header, limit, remaining, reset_s)
        if told is None:
            return None
        header = told
    return Reading(header.dimension, limit, header.window_s, remaining, reset_s)


def _told_window(
    header: _Header, limit: int | None, remaining: int | None, reset_s: float | None
) -> _Header | None:
    """The window that a daily limit refills in, by its reset; None if that cannot be told.

    The reset is when all of the limit is there again: of 14,400 a day with 3 used it is 18 s. Taking a limit
    per minute for one per day would stop a run until tomorrow; taking one per day for one per minute would
    use it up at once. One request may be almost refilled, which makes any window look short.
    """
    if limit is None or remaining is None or reset_s is None or remaining >= limit:
        return header
    used = limit - remaining
    window_s = reset_s * limit / used
    if window_s >= DAY_S / 10:
        return header
    if used > 1 and window_s <= 2 * MINUTE_S:
        return _Header(header.group, Dimension.RPM, header.number, MINUTE_S)
    return None


def _leaves_window_open(header: _Header, limit: int | None, reset: str) -> bool:
    """Whether ``remaining`` counts down in a window that is not the limit's own, or in none that is known.

    Azure's, told by its resets in plain seconds or by a missing limit, counts requests of 1 or 10 seconds
    beside a limit per minute; what is left of one second says nothing about the next.
    """
    azure = header.dimension is Dimension.RPM and header.window_s == MINUTE_S and reset.strip().isdigit()
    return limit is None or azure or header.window_s < MINUTE_S


def _count(text: str | None, *, least: int) -> int | None:
    number = read_number((text or "").replace(",", ""))
    return int(number) if number is not None and least <= number <= MOST else None


def _date(headers: Mapping[str, str]) -> float:
    """The vendor's clock, so that a wrong one here does no harm."""
    return read_moment(headers.get("date", "")) or time.time()
