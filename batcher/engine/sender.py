"""Sends one call: admitted, marked, sent, read. What it cost is known or booked when it returns."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from batcher.domain import Image, Usage
from batcher.engine.binding import Binding
from batcher.engine.call import Call, Fault, Valid, fault_of_error, not_sent, read_completion
from batcher.engine.lane import Lane
from batcher.engine.policy import RetryLimits
from batcher.engine.traffic import Traffic
from batcher.engine.writer import BudgetExhaustedError, LeaseLostError, Mark, Writer
from batcher.limits.base import Permit
from batcher.providers.base import ProviderError
from batcher.store.attempts import SEQUENCE_BITS
from batcher.store.leases import QueuedItem
from batcher.tasks.rendering import text_bytes

_BYTES_PER_TOKEN = 4
"""For rate limits only; what a call really used is booked when its answer is in."""


@dataclass(eq=False)
class HeldLease:
    """A lease as its worker sees it. ``valid_until`` is on the loop's clock and moves with each renewal."""

    id: int
    valid_until: float
    unfinished: int
    _sequence: itertools.count[int] = field(default_factory=itertools.count, repr=False)

    def next_attempt_id(self) -> int:
        """A fresh attempt id, unique across workers."""
        return (self.id << SEQUENCE_BITS) | next(self._sequence)


class LaneStoppedError(Exception):
    """The lane takes no more calls; the item goes back."""


class ModelStoppedError(Exception):
    """The model that was picked takes no more calls; another one of the lane may."""


_NOTHING_SENT: Final = (LaneStoppedError, ModelStoppedError, LeaseLostError, BudgetExhaustedError)


class Observer(Protocol):
    """Hears what happens, for displays and counters."""

    def attempt_sent(self) -> None:
        """A call leaves."""

    def attempt_settled(self, usage: Usage, cost_nusd: int, outcome: str) -> None:
        """A call has ended. ``outcome`` is ``ok`` or a failure class."""

    def item_waits(self, reason: str, seconds: float) -> None:
        """An item waits before it is tried again."""


@dataclass(frozen=True, slots=True)
class Services:
    """What running an item needs, the same for all items of a process."""

    writer: Writer
    traffic: Traffic
    retry: RetryLimits
    observer: Observer
    is_stopping: Callable[[], bool]
    find_parts: Callable[[Lane, Sequence[bytes]], Awaitable[dict[bytes, Any]]]
    read_images: Callable[[QueuedItem], Awaitable[tuple[Image, ...]]]


class Sender:
    """Sends the calls of one leased item.

    Attributes:
        calls_in_flight: calls that are marked or on the wire: they must not be cut off lightly.
    """

    def __init__(self, lane: Lane, item: QueuedItem, lease: HeldLease, services: Services) -> None:
        self._lane = lane
        self._item = item
        self._lease = lease
        self._services = services
        self.calls_in_flight = 0

    async def pick(self, *, sees_images: bool) -> Binding | None:
        """The model for the next call, or None if images must be seen and no working model sees them.

        Raises:
            LaneStoppedError: if none of the lane's models can work any more.
        """
        self._check_that_it_may_go_on()
        working = [
            binding
            for binding in self._lane.bindings
            if binding.key not in self._lane.dead and (not sees_images or "vision" in binding.model.abilities)
        ]
        if not working:
            return None
        return await self._services.traffic.pick(working)

    async def call(self, call: Call) -> Valid | Fault:
        """Make one attempt. Its settlement is the caller's to queue, with what it leads to.

        Raises:
            LeaseLostError, BudgetExhaustedError, LaneStoppedError: nothing was sent, and nothing more may be.
            ModelStoppedError: nothing was sent; pick again.
        """
        size = text_bytes(call.messages)
        mark = self._mark(call, size)
        traffic = self._services.traffic
        async with traffic.admitted(call.binding, size // _BYTES_PER_TOKEN, call.output_tokens) as permit:
            try:
                outcome = await self._mark_and_send(call, mark)
            except _NOTHING_SENT:
                permit.give_back()
                raise
            self._learn(call.binding, outcome, permit)
        return outcome

    async def _mark_and_send(self, call: Call, mark: Mark) -> Valid | Fault:
        self._check_that_it_may_go_on(call.binding)
        self.calls_in_flight += 1
        try:
            await self._services.writer.mark(mark)
            async with self._services.traffic.on_the_wire(call.binding):
                return await self._send_unless_stopped(call, mark)
        finally:
            self.calls_in_flight -= 1

    async def _send_unless_stopped(self, call: Call, mark: Mark) -> Valid | Fault:
        try:
            self._check_that_it_may_go_on(call.binding)
        except (LaneStoppedError, ModelStoppedError) as stopped:
            self._services.writer.settle(not_sent(mark, str(stopped)).settlement)
            raise
        self._services.observer.attempt_sent()
        outcome = await self._send(call, mark)
        settlement = outcome.settlement
        self._services.observer.attempt_settled(settlement.usage, settlement.cost_nusd, settlement.outcome)
        return outcome

    async def _send(self, call: Call, mark: Mark) -> Valid | Fault:
        clock = asyncio.get_running_loop().time
        started = clock()
        if started >= self._lease.valid_until:
            # The process slept between the mark and here: another worker may have the item by now.
            return not_sent(mark, "the lease ran out before the call left")
        request = call.binding.request(call.messages, call.output_tokens)
        try:
            completion = await call.binding.provider.complete(request)
        except ProviderError as error:
            return fault_of_error(mark, error, clock() - started)
        return read_completion(self._lane, mark, call.ask.key, completion, clock() - started)

    def _learn(self, binding: Binding, outcome: Valid | Fault, permit: Permit) -> None:
        failure, retry_after_s = None, None
        if isinstance(outcome, Fault):
            failure, retry_after_s = outcome.failure, outcome.retry_after_s
        settlement = outcome.settlement
        if settlement.usage.input_tokens:
            permit.settle(binding.counted_input_tokens(settlement.usage), settlement.usage.output_tokens)
        self._services.traffic.learn(
            binding, failure, retry_after_s, dict(outcome.headers), settlement.status_code
        )

    def _check_that_it_may_go_on(self, binding: Binding | None = None) -> None:
        if self._lane.stopped is not None or self._services.is_stopping():
            raise LaneStoppedError(self._lane.stopped or "stopping")
        if binding is not None and binding.key in self._lane.dead:
            raise ModelStoppedError(self._lane.dead[binding.key])

    def _mark(self, call: Call, size: int) -> Mark:
        lane, model = self._lane, call.binding.model
        return Mark(
            attempt_id=self._lease.next_attempt_id(),
            item_id=self._item.id,
            job_id=lane.job.id,
            lease_id=self._lease.id,
            purpose=call.purpose,
            part=call.ask.part,
            tier=lane.tier,
            model=model.name,
            provider=model.provider,
            reserved_nusd=call.binding.reservation_nusd(size, call.ask.image_count, call.output_tokens),
            prices=model.prices,
        )
