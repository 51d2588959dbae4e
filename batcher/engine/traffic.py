"""Admission: which model a call goes to, and when it may leave."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from batcher.domain import FailureClass
from batcher.engine.binding import Binding
from batcher.limits.base import Limiter, Permit
from batcher.limits.breaker import Circuit, CircuitBreaker
from batcher.limits.clock import Clock
from batcher.limits.concurrency import AdaptiveConcurrency
from batcher.limits.headers import read_headers

_LOOK_AGAIN_S: Final = 1.0
_HEALED_BY_WAITING: Final = frozenset({FailureClass.RATE_LIMITED, FailureClass.OVERLOADED})


class Traffic:
    """Rate limits, slots and circuits of a process, over all lanes.

    A call takes a slot, then a permit, then waits for the wire. A quarter more slots than may be on the wire
    are given, because a slot that stands empty while the next call's mark is being committed costs a tenth of
    the rate (measured at 200 in flight).

    Args:
        limiter: rates, perhaps shared with other processes.
        concurrency: calls on the wire at most, all models together.
        clock: what tells the time.
    """

    def __init__(self, limiter: Limiter, concurrency: int, clock: Clock) -> None:
        self.limiter = limiter
        self._concurrency = concurrency
        self._breaker = CircuitBreaker(clock)
        self._clock = clock
        self._ceilings: dict[str, int] = {}
        self._slots = AdaptiveConcurrency(
            lambda key: _with_room_ahead(self._ceilings.get(key, concurrency)),
            clock,
            start=_with_room_ahead(concurrency),
            waits_elsewhere=limiter.waits,
        )
        self._all_wires = asyncio.Semaphore(concurrency)
        self._wires: dict[str, asyncio.Semaphore] = {}
        self._under_way: Counter[str] = Counter()
        self._shut_out: Counter[str] = Counter()
        self._providers: dict[str, str] = {}

    async def pick(self, bindings: Sequence[Binding]) -> Binding:
        """The first model whose circuit lets a call through; waits if none does.

        Args:
            bindings: models that may do the work, first choice first.
        """
        while True:
            for binding in bindings:
                if self._breaker.allows(binding.circuit):
                    return binding
            first = min(bindings, key=lambda binding: self._breaker.retry_in_s(binding.circuit))
            seconds = self._breaker.retry_in_s(first.circuit)
            self._providers[first.circuit] = first.model.provider
            self._shut_out[first.circuit] += 1
            try:
                await self._clock.sleep(min(_LOOK_AGAIN_S, max(0.01, seconds)))
            finally:
                self._shut_out[first.circuit] -= 1

    def is_shut_out(self, router: Binding, *, half: bool) -> bool:
        """Whether asking a router would mean to wait: for a circuit of its own, or for its model to recover.

        Args:
            router: the model as a router.
            half: whether its model is away as well while others find out if it has recovered.
        """
        if self._breaker.retry_in_s(router.circuit) > 0:
            return True
        state = self._breaker.state(router.key)
        return state is Circuit.OPEN or (half and state is Circuit.HALF_OPEN)

    def openings(self, binding: Binding) -> int:
        """How often the circuits that a call hangs on have opened; see ``CircuitBreaker.openings``."""
        return sum(self._breaker.openings(name) for name in {binding.circuit, binding.key})

    @asynccontextmanager
    async def admitted(self, binding: Binding, input_tokens: int, output_limit: int) -> AsyncIterator[Permit]:
        """Wait for a slot and a permit, and hold both; then mark the call, and send it ``on_the_wire``.

        A call that is cut off meanwhile finds out no more whether a model has recovered: another one may.
        """
        if binding.key not in self._ceilings:
            limit = binding.model.limits.concurrency or self._concurrency
            self._ceilings[binding.key] = min(limit, self._concurrency)
            self._wires[binding.key] = asyncio.Semaphore(self._ceilings[binding.key])
        try:
            async with self._slots.slot(binding.key):
                with await self.limiter.acquire(binding.key, input_tokens, output_limit) as permit:
                    yield permit
        except asyncio.CancelledError:
            self.nothing_sent(binding)
            raise

    @asynccontextmanager
    async def on_the_wire(self, binding: Binding) -> AsyncIterator[None]:
        """Wait until fewer calls than allowed are under way, for this model and for all."""
        async with self._wires[binding.key], self._all_wires:
            self._under_way[binding.circuit] += 1
            try:
                yield
            finally:
                self._under_way[binding.circuit] -= 1

    def nothing_sent(self, binding: Binding) -> None:
        """A call that was picked a model for was held back: if it was a circuit's probe, another may be."""
        self._breaker.give_back(binding.circuit)

    def learn(
        self,
        binding: Binding,
        failure: FailureClass | None,
        retry_after_s: float | None,
        headers: dict[str, str],
        status: int | None,
        took_s: float,
    ) -> None:
        """Take in what an answer says of the vendor's limits and health, while its slot is held.

        Args:
            binding: the model that was called.
            failure: the class of the failure; None for an answer.
            retry_after_s: how long the vendor asks to be left alone.
            headers: of the response.
            status: of the response.
            took_s: how long the call was on the wire.
        """
        if headers:
            self.limiter.observe(binding.key, read_headers(binding.model.provider, headers))
        if failure in _HEALED_BY_WAITING and retry_after_s:
            self.limiter.cool_down(binding.key, retry_after_s, f"{binding.model.provider} {status or 429}")
        self._slots.record(binding.key, failure, retry_after_s)
        self._breaker.record(binding.circuit, failure, took_s, self._under_way[binding.circuit])

    def waiting(self) -> dict[str, str]:
        """Why calls wait that wait now, by model. Of several reasons the one nearest to the wire counts."""
        circuits = {
            key: f"{reason} ({self._providers[key]})"
            for key, calls in self._shut_out.items()
            if calls and (reason := self._breaker.reason(key))
        }
        return {**circuits, **self._slots.waiting(), **self.limiter.waiting()}


def _with_room_ahead(on_the_wire: int) -> int:
    return on_the_wire + max(1, on_the_wire // 4)
