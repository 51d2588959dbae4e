"""One key of a limiter whose permits come from elsewhere: the queue, a small stock, and who keeps it filled.

Permits are fetched for many callers at a time, by one task per key. While there are enough of them, it also
keeps a stock of what this process uses in a moment, so that most callers need not wait for a round trip; what
is not used within half a second goes back.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import deque
from itertools import islice
from typing import Final

from batcher.limits.base import Permit
from batcher.limits.charging import Charging
from batcher.limits.demand import Demand
from batcher.limits.exchange import Ask, Grantor, Reply, observed_from_text, observed_to_text
from batcher.limits.quotas import DIMENSIONS, MINUTE_S, Charge, Dimension, Observed, Quotas, told_limits
from batcher.limits.window import DRAIN_TOLERANCE_S

IDLE_S: Final = 0.5
"""A stock that nobody took from for so long goes back."""
HEARTBEAT_S: Final = 2.0
LONGEST_WAIT_S: Final = 1.0
"""How often those who wait long ask again: a refund or a new limit may have changed the outlook."""
POLL_S: Final = 0.05
LONGEST_POLL_S: Final = 0.4
"""While a limit is used to the full, each process asks this often times the number of processes, so that the
permits come in handfuls; at most this long, because a bucket holds but half a second's worth."""
_SHORTEST_PAUSE_S: Final = 0.002
SHARE_PAUSE_S: Final = 0.1
MOST_AT_ONCE: Final = 256
"""Callers in one ask."""

_log = logging.getLogger(__name__)
_NOTHING: Final = (0.0,) * len(DIMENSIONS)


class _Turn:
    """One waiting caller; the future is done when it may go."""

    __slots__ = ("admitted", "charge")

    def __init__(self, charge: Charge) -> None:
        self.charge = charge
        self.admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class SharedLane:
    """What is counted together for one key in this process.

    Args:
        key: its name.
        quotas: the limits in force.
        grantor: where permits come from.
        expected_processes: how many processes to assume until they have been counted.
    """

    def __init__(self, key: str, quotas: Quotas, grantor: Grantor, expected_processes: int) -> None:
        self.key = key
        self.alive = max(1, expected_processes)
        self._quotas = quotas
        self._in_force = quotas.in_force()
        self._observed_text = ""
        self._charging = Charging(charges_output_limit=quotas.charges_output_limit)
        self._grantor = grantor
        self._demand = Demand()
        self._tight = self._tight_dimensions()
        self._queue: deque[_Turn] = deque()
        self._stock_count = 0
        self._stock = list(_NOTHING)
        self._settled = list(_NOTHING)
        self._in_flight = 0
        self._cool_until = -math.inf
        self._cool_reason = ""
        self._reply = Reply()
        self._waits_for_limit = False
        self._shared_at = -math.inf
        self._asked_at = -math.inf
        self._wake = asyncio.Event()
        self._soon: asyncio.TimerHandle | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._is_closing = False

    async def acquire(self, input_tokens: int, output_limit: int) -> Permit:
        """See ``Limiter``."""
        charge = self._charging.before(input_tokens, output_limit)
        self._demand.note(charge)
        if not self._queue and self._take_from_stock(charge):
            self._in_flight += 1
            if self._stock_count <= self._demand.low_mark:
                self._nudge()
            return Permit(self, charge, output_limit)
        turn = _Turn(charge)
        self._queue.append(turn)
        if not self._waits_for_limit:
            self._nudge()
        try:
            await turn.admitted
        except asyncio.CancelledError:
            if turn in self._queue:
                self._queue.remove(turn)
            elif not turn.admitted.cancelled():
                self._in_flight -= 1
                self._return(charge)
            raise
        return Permit(self, charge, output_limit)

    def settle(self, permit: Permit, input_tokens: int, output_tokens: int) -> None:
        """See ``PermitIssuer``."""
        charge = self._charging.after(input_tokens, output_tokens, permit.output_limit)
        self._rebook(permit, charge)

    def take_back(self, permit: Permit) -> None:
        """See ``PermitIssuer``."""
        self._rebook(permit, _NOTHING)

    def close(self, _permit: Permit) -> None:
        """See ``PermitIssuer``."""
        self._in_flight -= 1
        if self._quotas.concurrency is not None:
            self._nudge()

    def cool_down(self, seconds: float, reason: str) -> None:
        """See ``Limiter``."""
        self._cool(seconds, reason)
        self._grantor.share_cool_down(self.key, seconds, reason)

    def observe(self, observed: Observed) -> None:
        """See ``Limiter``."""
        is_news = self._quotas.learn(told_limits(observed))
        if is_news:
            self._observed_text = observed_to_text(self._quotas.observed)
            self._renew()
        left = self._news_of_rooms(observed)
        now = _now()
        if is_news or (left and now >= self._shared_at + SHARE_PAUSE_S):
            self._shared_at = now
            self._grantor.share_observed(self.key, self._in_force, self._observed_text, left)

    @property
    def has_queue(self) -> bool:
        """Whether somebody waits."""
        return bool(self._queue)

    def waiting_for(self) -> str:
        """Why the first in the queue waits, or ""."""
        if not self._queue:
            return ""
        trouble, reason = self._grantor.trouble(), self._reason()
        if not trouble:
            return reason
        return f"{trouble}, using 1/{self.alive} of the limits" + (f": {reason}" if reason else "")

    async def aclose(self) -> None:
        """Give back what is held. Who still waits, waits on: nobody is admitted any more."""
        self._is_closing = True
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait((keeper,))
        self._give_back_stock()
        await self._grantor.grant(self.key, self._ask(leaving=True))

    def _reason(self) -> str:
        cool_s, asked_s = self._cool_until - _now(), _now() - self._asked_at
        if cool_s > 0:
            return f"cooling down {math.ceil(cool_s)} s: {self._cool_reason}"
        if self._reply.why == "in flight":
            return f"in flight: {self._quotas.concurrency} calls at most, in all processes"
        for name, quota in self._in_force.items():
            if name == self._reply.why:
                return f"rate limit: {quota.text(name)}"
        return f"no answer to a request for permits for {asked_s:.0f} s" if asked_s >= 1 else ""

    def _take_from_stock(self, charge: Charge) -> bool:
        if self._stock_count <= 0 or _now() < self._cool_until:
            return False
        stock = self._stock
        for index in self._tight:
            if stock[index] < charge[index]:
                return False
        for index in self._tight:
            stock[index] -= charge[index]
        self._stock_count -= 1
        return True

    def _return(self, charge: Charge) -> None:
        self._settled = [known + amount for known, amount in zip(self._settled, charge, strict=True)]
        self._keep_going()

    def _rebook(self, permit: Permit, charge: Charge) -> None:
        booked, permit.charge = permit.charge, charge
        for index in self._tight:
            self._settled[index] += booked[index] - charge[index]
        self._keep_going()
        if self._waits_for_limit:
            self._ask_soon()

    def _cool(self, seconds: float, reason: str) -> None:
        until = _now() + max(seconds, 0.0)
        if until > self._cool_until:
            self._cool_until, self._cool_reason = until, reason

    def _news_of_rooms(self, observed: Observed) -> dict[Dimension, float]:
        """Of what a response says is left, what is notably less than we believe."""
        left = {}
        for reading in observed.readings:
            quota = self._in_force.get(reading.dimension)
            if quota is None or reading.remaining is None:
                continue
            share = reading.remaining / quota.limit
            believed = self._reply.rooms.get(reading.dimension, 1.0)
            if share < believed - DRAIN_TOLERANCE_S / quota.span_s:
                left[reading.dimension] = share
        return left

    def _renew(self) -> None:
        self._in_force = self._quotas.in_force()
        self._tight = self._tight_dimensions()

    def _tight_dimensions(self) -> tuple[int, ...]:
        return tuple(DIMENSIONS.index(name) for name in self._in_force)

    def _nudge(self) -> None:
        self._wake.set()
        self._keep_going()

    def _keep_going(self) -> None:
        if self._keeper is None and not self._is_closing:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:  # a permit that was lost with its loop
                return
            self._keeper = loop.create_task(self._keep())
            self._keeper.add_done_callback(self._check_keeper)

    def _check_keeper(self, keeper: asyncio.Task[None]) -> None:
        """A fault in the keeper must not leave its callers waiting for ever."""
        if keeper.cancelled() or (fault := keeper.exception()) is None:
            return
        _log.error("permits for %s: %r; trying again", self.key, fault)
        self._keeper = None
        asyncio.get_running_loop().call_later(LONGEST_WAIT_S, self._nudge)

    def _ask_soon(self) -> None:
        """Those who wait for a limit may not have to wait as long as it seemed."""
        if self._soon is None:
            loop = asyncio.get_running_loop()
            self._soon = loop.call_later(POLL_S * self.alive, self._wake.set)

    async def _keep(self) -> None:
        """Fetch permits until nobody wants any and nothing is held."""
        while True:
            if self._demand.is_idle(_now()):
                self._give_back_stock()
            ask = self._ask()
            turns = list(islice(self._queue, len(ask.queue)))
            self._settled = list(_NOTHING)
            self._wake.clear()
            self._asked_at = _now()
            asking = asyncio.ensure_future(self._grantor.grant(self.key, ask))
            try:
                reply = await asyncio.shield(asking)
            except asyncio.CancelledError:
                # Closing. What is granted meanwhile would be lost to all for a window if it did not go back.
                self._apply(ask, turns, await asking)
                raise
            pause_s = self._apply(ask, turns, reply)
            if self._is_at_rest() and not ask.in_flight:
                self._keeper = None
                return
            if pause_s > 0:
                await self._pause(pause_s)

    def _is_at_rest(self) -> bool:
        return not (self._queue or self._stock_count or self._in_flight or any(self._settled)) and (
            self._demand.is_idle(_now())
        )

    def _ask(self, *, leaving: bool = False) -> Ask:
        now = _now()
        is_cooling = now < self._cool_until
        wanted = self._demand.wanted(self._stock_count, now)
        if self._quotas.concurrency or is_cooling or leaving:
            wanted = 0
        most = 0 if is_cooling else MOST_AT_ONCE
        return Ask(
            quotas=self._in_force,
            observed=self._observed_text,
            settled=tuple(self._settled),
            queue=tuple(turn.charge for turn in islice(self._queue, most)),
            spare_count=wanted,
            spare=self._demand.charge_of(wanted),
            in_flight=self._in_flight,
            concurrency=self._quotas.concurrency or 0,
            leaving=leaving,
        )

    def _apply(self, ask: Ask, turns: list[_Turn], reply: Reply) -> float:
        """Hand out what was granted; seconds to wait before asking again, 0 for at once."""
        self._reply = reply
        self.alive = reply.alive
        if reply.observed:
            self._observed_text = reply.observed
            self._quotas.learn(observed_from_text(reply.observed))
            self._renew()
            self._return(ask.settled)
            return 0.0
        if reply.cool_s > 0:
            self._cool(reply.cool_s, reply.cool_reason)
        for turn in turns[: reply.admitted]:
            if self._is_closing or turn.admitted.done():  # nobody is left to take the permit
                self._return(turn.charge)
            else:
                self._queue.remove(turn)  # not always the first: one that was cancelled may still stand there
                self._in_flight += 1
                turn.admitted.set_result(None)
        if reply.spare:
            self._stock_count += reply.spare
            for index, amount in enumerate(ask.spare):
                self._stock[index] += amount * reply.spare / ask.spare_count
        wait_s = max(reply.wait_s, self._cool_until - _now())
        self._waits_for_limit = wait_s > 0 and bool(self._queue)
        if self._waits_for_limit:
            return min(max(wait_s, self._handful_s()), LONGEST_WAIT_S)
        if self._queue:
            return 0.0 if reply.admitted or not ask.queue else POLL_S
        return HEARTBEAT_S if self._in_flight and not self._stock_count else IDLE_S

    def _handful_s(self) -> float:
        """How long to let permits gather: not always the same, or who asks just after another gets little."""
        handful_s = min(POLL_S * self.alive, LONGEST_POLL_S) * random.uniform(0.5, 1.5)
        charge = self._queue[0].charge
        for index, quota in zip(self._tight, self._in_force.values(), strict=True):
            if quota.span_s <= MINUTE_S and charge[index] > handful_s * quota.per_s:
                return _SHORTEST_PAUSE_S
        return handful_s

    async def _pause(self, seconds: float) -> None:
        """Sleep, unless somebody comes or goes for whom it is worth asking at once."""
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
            if self._soon is not None:
                self._soon.cancel()
                self._soon = None
            self._waits_for_limit = False

    def _give_back_stock(self) -> None:
        if self._stock_count:
            self._stock[0] = self._stock[1] = float(self._stock_count)
            self._settled = [known + held for known, held in zip(self._settled, self._stock, strict=True)]
        self._stock_count, self._stock = 0, list(_NOTHING)


def _now() -> float:
    return asyncio.get_running_loop().time()
