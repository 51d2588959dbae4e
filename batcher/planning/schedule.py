"""How long calls take at the known limits, and when they would be done."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from batcher.budget.ledger import Ledger
from batcher.catalog.models import Model
from batcher.limits.quotas import DAY_S, MINUTE_S, Dimension, Quota
from batcher.planning.caps import CapCheck, days_needed
from batcher.planning.estimate import Costs

_MOST_DAYS: Final = 3_650


@dataclass(frozen=True, slots=True)
class RunTime:
    """How long calls take without a pause.

    Attributes:
        seconds: from the first call to the last answer.
        limit: what makes it take that long, for people.
        latency_s: what one call takes.
        is_measured: whether that was measured here; else it is usual for models of the class.
    """

    seconds: float
    limit: str
    latency_s: float
    is_measured: bool


def run_time(
    model: Model, costs: Costs, extra_share: float, latency_s: float, concurrency: int, *, is_measured: bool
) -> RunTime:
    """How long a model takes for documents.

    Args:
        model: with the limits of the account.
        costs: what the documents ask of it.
        extra_share: calls on top of the first ones, as a share.
        latency_s: what one call takes.
        concurrency: calls in flight at most, of this process.
        is_measured: whether ``latency_s`` was measured here.
    """
    limits = model.limits
    calls = costs.calls * (1 + extra_share)
    if not calls:
        return RunTime(0.0, "nothing", latency_s, is_measured)
    written = costs.longest_answer_tokens if limits.charges_output_limit else costs.output_tokens
    in_flight = max(1, min(concurrency, limits.concurrency or concurrency))
    seconds, limit = math.ceil(calls / in_flight) * latency_s, f"{in_flight:,} calls in flight"
    demands = {
        Dimension.RPM: calls,
        Dimension.TPM: costs.input_tokens + written,
        Dimension.ITPM: costs.input_tokens,
        Dimension.OTPM: costs.output_tokens,
    }
    for dimension, amount in demands.items():
        most = getattr(limits, dimension.value)
        if most is None:
            continue
        quota = Quota(most, MINUTE_S)
        if amount / quota.per_s + latency_s > seconds:
            seconds, limit = amount / quota.per_s + latency_s, quota.text(dimension)
    if limits.rpd is not None and calls > limits.rpd:
        # A day's calls go as fast as the minute allows; then the day has to pass.
        full_days = math.ceil(calls / limits.rpd) - 1
        last = calls - full_days * limits.rpd
        seconds = full_days * DAY_S + seconds * last / calls
        limit = Quota(limits.rpd, DAY_S).text(Dimension.RPD)
    return RunTime(seconds, limit, latency_s, is_measured)


def ends_at(
    ledger_day: str,
    now: float,
    seconds: float,
    checks: Sequence[CapCheck],
    likely_nusd: int,
    ledger: Ledger,
) -> float | None:
    """When a run that starts now is done, if it goes on at once on each day whose cap is used up.

    Args:
        ledger_day: today.
        now: Unix seconds.
        seconds: what it takes without a pause.
        checks: its cost against the caps.
        likely_nusd: its likely cost.
        ledger: tells when days begin.

    Returns:
        Unix seconds, or None if the caps never let it end.
    """
    days = days_needed(checks)
    if days is None or days > _MOST_DAYS:
        return None
    if days == 1:
        return now + seconds
    tightest = max(checks, key=lambda check: check.days or 0).balance
    day, at = date.fromisoformat(ledger_day), now
    for _ in range(days - 1):
        at = ledger.next_day_starts_at(day.isoformat())
        day += timedelta(days=1)
    before_nusd = (tightest.room_nusd or 0) + (days - 2) * (tightest.cap_nusd or 0)
    share = (likely_nusd - before_nusd) / likely_nusd
    return max(now + seconds, at + share * seconds)
