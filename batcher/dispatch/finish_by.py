"""A time by which a run is to be over: no call leaves that could not be answered by then."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, select

from batcher.engine.engine import Engine
from batcher.errors import BatcherError, UsageError
from batcher.store.database import Store
from batcher.store.tables import attempts

FINISH_BY_REASON: Final = "finish-by"
"""How the reason of a pause begins that such a time made."""

LOOK_EVERY_S: Final = 5.0
_NEWEST_ATTEMPTS: Final = 2_000
_KNOWN_ENOUGH: Final = 20
_PERCENTILE: Final = 0.95
_CLOCK_TIME: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class FinishBy:
    """When to be done.

    Attributes:
        at: Unix seconds.
        text: as the user wrote it.
    """

    at: float
    text: str

    @property
    def reason(self) -> str:
        """Why a job is paused that was not done by then."""
        return f"{FINISH_BY_REASON} {self.text}: no time for another call"


def parse_finish_by(text: str, now: float, time_zone: str) -> FinishBy:
    """Read ``HH:MM``, the next such time, or an ISO 8601 date with a time.

    Args:
        text: what the user wrote.
        now: Unix seconds.
        time_zone: IANA zone that counts where the text names none.

    Raises:
        UsageError: if it is neither, or is over.
    """
    zone = ZoneInfo(time_zone)
    if clock_time := _CLOCK_TIME.fullmatch(text):
        return FinishBy(_next(time(int(clock_time[1]), int(clock_time[2])), now, zone), text)
    try:
        moment = datetime.fromisoformat(text)
        has_time = len(text) > len("2026-11-20")
    except ValueError:
        has_time = False
    if not has_time:
        raise UsageError(
            f"--finish-by takes a time like 06:00, or a date and a time like 2026-11-21T06:00, not {text!r}"
        )
    at = (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()
    if at <= now:
        present = datetime.fromtimestamp(now, zone).isoformat(timespec="minutes")
        raise UsageError(f"--finish-by {text} is over: it is {present}")
    return FinishBy(at, text)


def _next(clock_time: time, now: float, zone: ZoneInfo) -> float:
    today = datetime.fromtimestamp(now, zone).date()
    days = (datetime.combine(today + timedelta(days=ahead), clock_time, zone) for ahead in (0, 1, 2))
    return next(at for day in days if (at := day.timestamp()) > now)


async def stop_in_time(
    engine: Engine, store: Store, job_ids: Sequence[int], finish_by: FinishBy, call_timeout_s: float
) -> None:
    """Stop an engine so early that the calls in flight are usually answered by the time to be done.

    A call is taken to need what 95 % of the newest answers of these jobs needed; as long as few are known,
    the most that one may take. A straggler in flight is still waited for, until its own timeout. The clock is
    the store's, looked at every few seconds, so that a machine that slept or whose clock was set finds out.

    Args:
        engine: what to stop; its jobs are then paused with ``finish_by.reason``.
        store: whose clock and attempts count.
        job_ids: whose.
        finish_by: when to be done.
        call_timeout_s: the most that a call may take.
    """
    loop = asyncio.get_running_loop()
    needed_s, ends_at = call_timeout_s, math.inf
    while True:
        # A store that is out of reach ends the run by itself; until then what was known last holds.
        with contextlib.suppress(BatcherError):
            now, needed_s = await asyncio.to_thread(_look, store, list(job_ids), call_timeout_s)
            ends_at = loop.time() + finish_by.at - now
        left_s = ends_at - needed_s - loop.time()
        if left_s <= 0:
            engine.stop(finish_by.reason)
            return
        await asyncio.sleep(min(LOOK_EVERY_S, left_s))


def _look(store: Store, job_ids: Sequence[int], call_timeout_s: float) -> tuple[float, float]:
    with store.read() as connection:
        return store.now(connection), _usual_latency_s(connection, job_ids, call_timeout_s)


def _usual_latency_s(connection: Connection, job_ids: Sequence[int], call_timeout_s: float) -> float:
    newest = (
        select(attempts.c.job_id, attempts.c.latency_s, attempts.c.outcome)
        .order_by(attempts.c.id.desc())
        .limit(_NEWEST_ATTEMPTS)
        .subquery()
    )
    query = select(newest.c.latency_s).where(
        newest.c.job_id.in_(job_ids), newest.c.latency_s.is_not(None), newest.c.outcome == "ok"
    )
    known = sorted(connection.execute(query).scalars())
    if len(known) < _KNOWN_ENOUGH:
        return call_timeout_s
    return float(min(call_timeout_s, known[math.ceil(_PERCENTILE * len(known)) - 1]))
