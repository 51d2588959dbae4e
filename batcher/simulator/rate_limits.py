"""Token buckets per account and model, as the vendors keep them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

from batcher.errors import UsageError
from batcher.simulator.field_checks import FLAG, TEXT, Check, check_fields, number
from batcher.simulator.requests import ANTHROPIC, GROQ, OPENAI

_DAY_S: Final = 86_400.0
_MINUTE_S: Final = 60.0
_MOST_BUCKETS: Final = 10_000

_FIELDS: Final[dict[str, Check]] = {
    "vendor": TEXT,
    "model": TEXT,
    "burst_s": number(0.001),
    "charge": TEXT,
    "count_refused": FLAG,
}

REQUESTS: Final = "requests"
TOKENS: Final = "tokens"
INPUT: Final = "input-tokens"
OUTPUT: Final = "output-tokens"
DAILY: Final = "requests-per-day"


@dataclass(frozen=True, slots=True)
class Limits:
    """What an account may do with a model; None is no limit.

    Attributes:
        rpm: requests a minute.
        tpm: tokens a minute, in and out; for Anthropic the default of the two below.
        input_tpm: input tokens a minute (Anthropic only).
        output_tpm: output tokens a minute (Anthropic only).
        rpd: requests a day (Groq only).
        burst_s: seconds' worth of a limit that may be used at once. Full buckets of a minute are what the
            recorded headers of OpenAI and Groq show (their reset is the time until the bucket is full again).
        charge: what a request takes from ``tpm``: ``asked`` is the larger of the output limit asked for and
            the prompt (OpenAI's documentation), ``used`` the prompt at arrival and the answer when it is
            there. "" is the vendor's: OpenAI asked, others used.
        count_refused: whether a refused request is counted as one too, which OpenAI's documentation says of
            itself: who keeps sending above the limit then gets nothing through.
    """

    rpm: float | None = None
    tpm: float | None = None
    input_tpm: float | None = None
    output_tpm: float | None = None
    rpd: float | None = None
    burst_s: float = _MINUTE_S
    charge: str = ""
    count_refused: bool = False

    def __post_init__(self) -> None:
        for name in ("rpm", "tpm", "input_tpm", "output_tpm", "rpd"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int | float) or value <= 0):
                raise UsageError(f"The limit {name} = {value!r} must be a number above 0, or left out")
        if self.burst_s <= 0:
            raise UsageError(f"burst_s = {self.burst_s!r} must be above 0 seconds")
        if self.charge not in {"", "asked", "used"}:
            raise UsageError(f"charge = {self.charge!r} must be asked, used or empty")


@dataclass(slots=True)
class Bucket:
    """Tokens that drip in at a steady rate up to a capacity.

    Attributes:
        limit: what the vendor states: per minute or per day.
        period_s: of that limit.
        capacity: most that it holds.
        level: what it holds at ``at``; below zero after a charge that came later.
        at: Unix seconds.
    """

    limit: float
    period_s: float
    capacity: float
    level: float
    at: float

    @property
    def rate(self) -> float:
        """What drips in per second."""
        return self.limit / self.period_s

    def fill(self, now: float) -> None:
        """Let drip in what is due by ``now``."""
        if now > self.at:
            self.level = min(self.capacity, self.level + (now - self.at) * self.rate)
            self.at = now

    def wait_s(self, amount: float) -> float:
        """Seconds until ``amount`` has dripped in; Groq says so even of more than the capacity."""
        return max(0.0, (amount - self.level) / self.rate)

    def reset_s(self) -> float:
        """Seconds until it is full."""
        return (self.capacity - self.level) / self.rate

    def resize(self, limit: float, capacity: float) -> None:
        """Change the limit in mid-run; what was saved up stays, up to the new capacity."""
        self.limit, self.capacity = limit, capacity
        self.level = min(self.level, capacity)


@dataclass(frozen=True, slots=True)
class Exceeded:
    """A limit that a request met.

    Attributes:
        name: one of ``REQUESTS``, ``TOKENS``, ``INPUT``, ``OUTPUT``, ``DAILY``.
        limit: per minute or per day.
        used: of it.
        requested: what the request needs.
        wait_s: until it would be let through.
        hopeless: whether it never will be, because it needs more than the bucket holds.
    """

    name: str
    limit: float
    used: float
    requested: float
    wait_s: float
    hopeless: bool


Buckets = dict[str, Bucket]


class LimitBook:
    """All accounts' buckets.

    Args:
        limits: what holds where no rule says otherwise.
    """

    def __init__(self, limits: Limits) -> None:
        self.default = limits
        self._rules: dict[tuple[str, str], Limits] = {}
        self._buckets: dict[tuple[str, str, str], Buckets] = {}

    def change(self, given: Mapping[str, Any]) -> None:
        """Change limits from now on.

        Args:
            given: fields of :class:`Limits`, and perhaps ``vendor`` and ``model``, to which they apply alone.

        Raises:
            UsageError: for an unknown field or a limit that is none.
        """
        check_fields(given, _FIELDS, "a limit")
        known = {field.name for field in fields(Limits)}
        changes = {name: value for name, value in given.items() if name not in {"vendor", "model"}}
        if changes.keys() - known:
            unknown = ", ".join(sorted(changes.keys() - known))
            raise UsageError(f"Unknown limits: {unknown}. Known: {', '.join(sorted(known))}")
        place = (str(given.get("vendor") or ""), str(given.get("model") or ""))
        if place == ("", ""):
            self.default = replace(self.default, **changes)
        else:
            self._rules[place] = replace(self.of(*place), **changes)

    def of(self, vendor: str, model: str) -> Limits:
        """The limits in force: for the vendor's model, the model, the vendor, or all."""
        for place in ((vendor, model), ("", model), (vendor, "")):
            if place in self._rules:
                return self._rules[place]
        return self.default

    def shown(self) -> dict[str, Any]:
        """All limits, for the control endpoint."""
        rules = [
            {"vendor": vendor, "model": model, **asdict(limits)}
            for (vendor, model), limits in self._rules.items()
        ]
        return {"default": asdict(self.default), "rules": rules}

    def buckets(self, vendor: str, account: str, model: str, now: float) -> Buckets:
        """An account's buckets for a model, filled up to ``now``; empty where there are no limits."""
        limits = self.of(vendor, model)
        wanted = _wanted(vendor, limits)
        place = (vendor, account, model)
        held = self._buckets.get(place)
        if held is None:
            if not wanted:
                return {}
            if len(self._buckets) >= _MOST_BUCKETS:
                self._buckets.clear()
            held = self._buckets[place] = {}
        for name in held.keys() - wanted.keys():
            del held[name]
        for name, (limit, period_s) in wanted.items():
            capacity = limit if period_s == _DAY_S else max(1.0, limit * limits.burst_s / _MINUTE_S)
            bucket = held.get(name)
            if bucket is None:
                bucket = held[name] = Bucket(limit, period_s, capacity, capacity, now)
            bucket.fill(now)
            if bucket.limit != limit or bucket.capacity != capacity:
                bucket.resize(limit, capacity)
        return held

    def admit(
        self, buckets: Buckets, vendor: str, model: str, prompt: int, asked: int | None
    ) -> Exceeded | None:
        """Take a request out of its buckets, or say which limit it meets.

        Args:
            buckets: from :meth:`buckets`, just now.
            vendor: whose.
            model: which.
            prompt: its input tokens, without those from the cache.
            asked: the output limit it asks for.
        """
        if not buckets:
            return None
        needs = self._needs(vendor, model, prompt, asked)
        for name, bucket in buckets.items():
            need = needs[name]
            if bucket.level < need:
                if self.of(vendor, model).count_refused:
                    _count_the_refused(buckets)
                used = min(bucket.capacity, bucket.capacity - bucket.level)
                hopeless = need > bucket.capacity
                return Exceeded(name, bucket.limit, used, need, bucket.wait_s(need), hopeless)
        for name, bucket in buckets.items():
            if name != OUTPUT:
                bucket.level -= needs[name]
        return None

    def answered(self, buckets: Buckets, vendor: str, model: str, output: int, now: float) -> None:
        """Take an answer's tokens, which vendors count when they are made; the level may go below zero."""
        name = OUTPUT if OUTPUT in buckets else TOKENS
        if name not in buckets or (name == TOKENS and self._charge(vendor, model) == "asked"):
            return
        buckets[name].fill(now)
        buckets[name].level -= output

    def _charge(self, vendor: str, model: str) -> str:
        return self.of(vendor, model).charge or ("asked" if vendor == OPENAI else "used")

    def _needs(self, vendor: str, model: str, prompt: int, asked: int | None) -> dict[str, float]:
        tokens = max(prompt, asked or 0) if self._charge(vendor, model) == "asked" else prompt
        return {REQUESTS: 1, DAILY: 1, TOKENS: tokens, INPUT: prompt, OUTPUT: 1}


def _wanted(vendor: str, limits: Limits) -> dict[str, tuple[float, float]]:
    """The buckets that a vendor keeps under these limits: name to (limit, period)."""
    wanted = {REQUESTS: (limits.rpm, _MINUTE_S)}
    if vendor == ANTHROPIC:
        wanted[INPUT] = (limits.input_tpm or limits.tpm, _MINUTE_S)
        wanted[OUTPUT] = (limits.output_tpm or limits.tpm, _MINUTE_S)
    else:
        wanted[TOKENS] = (limits.tpm, _MINUTE_S)
    if vendor == GROQ:
        wanted[DAILY] = (limits.rpd, _DAY_S)
    return {name: (limit, period) for name, (limit, period) in wanted.items() if limit is not None}


def _count_the_refused(buckets: Buckets) -> None:
    requests = buckets.get(REQUESTS)
    if requests is not None:
        requests.level = max(0.0, requests.level - 1)
