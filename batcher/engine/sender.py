"""Sends one call: admitted, marked, sent, read. What it cost is known or booked when it returns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from batcher.domain import Image
from batcher.engine.binding import Binding
from batcher.engine.call import Call, Fault, Valid, fault_of_error, not_sent, read_completion
from batcher.engine.held_leases import HeldLease
from batcher.engine.lane import Lane
from batcher.engine.marks import BudgetExhaustedError, LeaseLostError, Mark
from batcher.engine.policy import RetryLimits
from batcher.engine.traffic import Traffic
from batcher.engine.writer import Writer
from batcher.limits.base import Permit
from batcher.providers.base import NotSentError, ProviderError
from batcher.store.attempts import Settlement
from batcher.store.leases import QueuedItem
from batcher.store.results import StepAnswer
from batcher.tasks.rendering import text_bytes

_BYTES_PER_TOKEN = 4
"""For rate limits only; what a call really used is booked when its answer is in."""


class LaneStoppedError(Exception):
    """The lane takes no more calls; the item goes back."""


class ModelStoppedError(Exception):
    """The model that was picked takes no more calls; another one of the lane may."""


_NOTHING_SENT: Final = (LaneStoppedError, ModelStoppedError, LeaseLostError, BudgetExhaustedError)


class Observer(Protocol):
    """Hears what happens, for displays and counters."""

    def attempt_sent(self) -> None:
        """A call leaves."""

    def attempt_settled(self, mark: Mark, settlement: Settlement) -> None:
        """A call has ended. Its outcome is ``ok``, ``not_sent`` or a failure class."""

    def item_waits(self, reason: str, seconds: float) -> None:
        """An item waits before it is tried again."""


@dataclass(frozen=True, slots=True)
class Services:
    """What running an item needs, the same for all items of a process."""

    writer: Writer
    traffic: Traffic
    retry: RetryLimits
    observer: Observer
    is_stopping: Callable[[int], bool]
    find_parts: Callable[[Lane, Sequence[bytes]], Awaitable[dict[bytes, Any]]]
    find_steps: Callable[[Lane, Sequence[bytes]], Awaitable[dict[bytes, StepAnswer]]]
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

    async def pick(self, among: Sequence[Binding], *, sees_images: bool) -> Binding | None:
        """The model for the next call, or None if none works that sees images where they must be seen.

        Args:
            among: the models to choose from, first choice first.
            sees_images: whether images must be seen.

        Raises:
            LaneStoppedError: if none of the lane's models can work any more.
        """
        self._check_that_it_may_go_on()
        working = [
            binding
            for binding in among
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
        openings = traffic.openings(call.binding)
        async with traffic.admitted(call.binding, size // _BYTES_PER_TOKEN, call.output_tokens) as permit:
            if traffic.openings(call.binding) != openings:
                permit.give_back()
                raise ModelStoppedError("its circuit opened while the call waited for its turn")
            try:
                outcome = await self._mark_and_send(call, mark)
            except _NOTHING_SENT:
                permit.give_back()
                traffic.nothing_sent(call.binding)
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
        services = self._services
        try:
            self._check_that_it_may_go_on(call.binding)
        except (LaneStoppedError, ModelStoppedError) as stopped:
            services.writer.settle(not_sent(mark, str(stopped)))
            raise
        services.observer.attempt_sent()
        try:
            outcome = await self._send(call, mark)
        except NotSentError as late:
            # The process slept between the mark and here: another worker may have the item by now.
            held_back = not_sent(mark, str(late))
            services.observer.attempt_settled(mark, held_back)
            services.writer.settle(held_back)
            raise LeaseLostError from late
        services.observer.attempt_settled(mark, outcome.settlement)
        return outcome

    async def _send(self, call: Call, mark: Mark) -> Valid | Fault:
        clock = asyncio.get_running_loop().time
        started = clock()
        request = call.binding.request(call.messages, call.output_tokens, self._lease.is_valid)
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
            binding,
            failure,
            retry_after_s,
            dict(outcome.headers),
            settlement.status_code,
            settlement.latency_s or 0.0,
        )

    def _check_that_it_may_go_on(self, binding: Binding | None = None) -> None:
        if self._lane.stopped is not None or self._services.is_stopping(self._lane.job.id):
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
            tier=call.tier,
            model=model.name,
            provider=model.provider,
            reserved_nusd=call.binding.reservation_nusd(size, call.ask.image_count, call.output_tokens),
            prices=model.prices,
            climbs=lane.climbs,
        )
