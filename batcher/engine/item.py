"""Runs one item: its calls, their retries and repairs, the parts of a long document and their merge."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, Protocol

import orjson

from batcher.catalog.tokens import estimate_tokens
from batcher.documents.chunking import split_text
from batcher.domain import (
    Document,
    FailureClass,
    Image,
    ItemStatus,
    Purpose,
    Usage,
)
from batcher.engine.call import Ask, Call, Fault, Valid, fault_of_error, not_sent, read_completion
from batcher.engine.lane import Lane, load_document
from batcher.engine.policy import (
    Decision,
    Enlarge,
    History,
    Repair,
    Retry,
    RetryLimits,
    Split,
    StopLane,
    decide,
)
from batcher.engine.writer import Mark, Writer
from batcher.limits.base import Limiter
from batcher.providers.base import ChatRequest, ProviderError
from batcher.store.attempts import SEQUENCE_BITS, ItemChange
from batcher.store.leases import QueuedItem
from batcher.tasks.rendering import document_messages, merge_messages, repair_messages


@dataclass(eq=False)
class HeldLease:
    """A lease as its worker sees it. ``valid_until`` is monotonic seconds and moves with each renewal."""

    id: int
    valid_until: float
    unfinished: int
    _sequence: itertools.count[int] = field(default_factory=itertools.count, repr=False)

    def next_attempt_id(self) -> int:
        """A fresh attempt id, unique across workers."""
        return (self.id << SEQUENCE_BITS) | next(self._sequence)


class Failed(Exception):  # noqa: N818 - an outcome, not an error of the program
    """The lane has no answer for the item."""

    def __init__(self, failure: FailureClass, error: str, *, may_climb: bool) -> None:
        super().__init__(error)
        self.failure = failure
        self.error = error
        self.may_climb = may_climb


class LaneStoppedError(Exception):
    """The lane takes no more calls; the item goes back."""


class Observer(Protocol):
    """Hears what happens, for displays and counters."""

    def attempt_sent(self, lane: Lane) -> None:
        """A call leaves."""

    def attempt_settled(self, lane: Lane, usage: Usage, cost_nusd: int, outcome: str) -> None:
        """A call has ended. ``outcome`` is ``ok`` or a failure class."""

    def item_waits(self, lane: Lane, reason: str, seconds: float) -> None:
        """An item waits before it is tried again."""


class Slots:
    """How many calls may be on the wire at once, and an eighth more that are marked and wait for their turn.

    Without those a slot would stand empty while the next call's mark is being committed (measured: a tenth of
    the rate at 200 in flight). One that is still waiting when the run is stopped is settled as not sent.
    """

    def __init__(self, limit: int) -> None:
        self.marked = asyncio.Semaphore(limit + max(1, limit // 8))
        self.sent = asyncio.Semaphore(limit)


@dataclass(frozen=True, slots=True)
class Services:
    """What running an item needs, the same for all items of a process."""

    writer: Writer
    limiter: Limiter
    retry: RetryLimits
    observer: Observer
    slots: Callable[[Lane], Slots]
    is_stopping: Callable[[], bool]
    find_parts: Callable[[Lane, Sequence[bytes]], Awaitable[dict[bytes, Any]]]
    read_images: Callable[[QueuedItem], Awaitable[tuple[Image, ...]]]


class ItemRunner:
    """One leased item on its lane."""

    def __init__(self, lane: Lane, item: QueuedItem, lease: HeldLease, services: Services) -> None:
        self._lane = lane
        self._item = item
        self._lease = lease
        self._services = services
        self._started = time.monotonic()
        self.calls_in_flight = 0
        self.ended: ItemStatus | None = None

    async def run(self) -> None:
        """Run the item to its end on this lane; everything that happened is queued with the writer.

        Raises:
            LeaseLostError, BudgetExhaustedError, LaneStoppedError: nothing more may be sent; the caller gives
                the item back.
        """
        try:
            await self._run()
        except Failed as failed:
            change = self._after_failure(failed)
            self._services.writer.change(change)
            self.ended = change.status

    async def _run(self) -> None:
        images = await self._services.read_images(self._item) if self._item.image_count else ()
        document = load_document(self._item, images)
        room = self._lane.document_tokens
        whole = (
            bool(document.images) or self._item.text_bytes <= room or estimate_tokens(document.text) <= room
        )
        if whole:
            ask = Ask(
                self._item.result_key, 0, document_messages(self._lane.spec, document), len(document.images)
            )
            try:
                await self._answer(ask, finishes_item=True)
                return
            except _TooLongError as error:
                if document.images:
                    raise Failed(FailureClass.TOO_LONG, str(error), may_climb=True) from error
            room = max(1, min(room, estimate_tokens(document.text)) // 2)
        await self._run_in_parts(document, room)

    async def _run_in_parts(self, document: Document, room: int) -> None:
        """Map, then reduce: each part's answer is kept under its own key, so that none is paid for twice."""
        if self._lane.spec.long_documents != "merge":
            length, model = estimate_tokens(document.text), self._lane.model.name
            what = f"the document is too long: about {length} tokens, {model} takes {room} at a time"
            raise Failed(FailureClass.TOO_LONG, what, may_climb=True)
        while True:
            if room < _SMALLEST_PART_TOKENS:
                what = (
                    f"{self._lane.model.name} has no room for a part of the document beside the instructions"
                )
                raise Failed(FailureClass.TOO_LONG, what, may_climb=True)
            try:
                answers = await self._map(document, room)
                await self._reduce(answers, room)
                return
            except _TooLongError:
                room //= 2

    async def _map(self, document: Document, room: int) -> list[Any]:
        pieces = split_text(document.text, room, estimate_tokens)
        asks = []
        for number, piece in enumerate(pieces, start=1):
            key = self._part_key(b"part", piece.encode())
            part = Document(hash=key, text=piece)
            messages = document_messages(self._lane.spec, part, part=(number, len(pieces)))
            asks.append(Ask(key, number, messages))
        return await self._gather(asks)

    async def _reduce(self, answers: list[Any], room: int) -> None:
        while True:
            groups = _group_by_size(answers, room)
            if len(groups) == 1:
                messages = merge_messages(self._lane.spec, answers)
                await self._answer(Ask(self._item.result_key, 0, messages, 0), finishes_item=True)
                return
            if len(groups) == len(answers):
                raise _TooLongError("answers of two parts do not fit into one call")
            asks = []
            for number, group in enumerate(groups, start=1):
                key = self._part_key(b"merge", orjson.dumps(group))
                asks.append(Ask(key, number, merge_messages(self._lane.spec, group)))
            answers = await self._gather(asks)

    async def _gather(self, asks: Sequence[Ask]) -> list[Any]:
        known = await self._services.find_parts(self._lane, [ask.key for ask in asks])
        missing = {ask.key: ask for ask in asks if ask.key not in known}
        # Not a task group: it would cancel the other calls in flight when one fails, and they are paid for.
        answered = await asyncio.gather(*map(self._answer, missing.values()), return_exceptions=True)
        for outcome in answered:
            if isinstance(outcome, BaseException):
                raise outcome
        known |= dict(zip(missing, answered, strict=True))
        return [known[ask.key] for ask in asks]

    def _part_key(self, kind: bytes, content: bytes) -> bytes:
        return blake2b(self._item.result_key + kind + b"\0" + content, digest_size=20).digest()

    async def _answer(self, ask: Ask, *, finishes_item: bool = False) -> Any:
        """Call until there is a valid answer.

        Raises:
            Failed: if this lane will not give one.
            _TooLongError: if the request does not fit the model's context.
        """
        lane, services = self._lane, self._services
        messages, output_tokens = ask.messages, lane.output_tokens
        history = History()
        purpose = Purpose.ANSWER if lane.tier == lane.job.tier else Purpose.ESCALATION
        while True:
            call = Call(ask, messages, output_tokens, purpose)
            outcome = await self._call(call)
            if isinstance(outcome, Valid):
                change = self._done() if finishes_item else None
                services.writer.settle(outcome.settlement, result=outcome.result, change=change)
                if finishes_item:
                    self.ended = ItemStatus.DONE
                return outcome.answer
            services.writer.settle(outcome.settlement)
            history = replace(history.after(outcome.failure), elapsed_s=time.monotonic() - self._started)
            decision = self._decide(outcome, history)
            if isinstance(decision, Retry):
                services.observer.item_waits(lane, f"{outcome.failure} ({outcome.error})", decision.delay_s)
                await asyncio.sleep(decision.delay_s)
            elif isinstance(decision, Repair):
                messages, purpose = repair_messages(messages, outcome.text, outcome.error), Purpose.REPAIR
                history = replace(history, repairs=1)
            elif isinstance(decision, Enlarge):
                output_tokens = self._enlarged(output_tokens, outcome)
                history = replace(history, enlargements=1)
            elif isinstance(decision, Split):
                raise _TooLongError(outcome.error)
            elif isinstance(decision, StopLane):
                lane.stopped = f"{lane.model.provider}: {outcome.error}"
                raise LaneStoppedError(lane.stopped)
            else:
                raise Failed(outcome.failure, outcome.error, may_climb=decision.may_climb)

    def _decide(self, outcome: Fault, history: History) -> Decision:
        lane = self._lane
        if outcome.failure is FailureClass.BAD_REQUEST and lane.note_request_error(outcome.error):
            return StopLane()
        if outcome.failure in {FailureClass.RATE_LIMITED, FailureClass.OVERLOADED} and outcome.retry_after_s:
            status = outcome.settlement.status_code or outcome.failure
            self._services.limiter.cool_down(
                lane.model.name, outcome.retry_after_s, f"{lane.model.provider} {status}"
            )
        return decide(outcome.failure, history, self._services.retry, retry_after_s=outcome.retry_after_s)

    def _enlarged(self, output_tokens: int, outcome: Fault) -> int:
        lane = self._lane
        larger = min(output_tokens * 2, lane.model.max_output)
        if larger <= output_tokens:
            raise Failed(outcome.failure, outcome.error, may_climb=True)
        return larger

    async def _call(self, call: Call) -> Valid | Fault:
        """One attempt: admitted by the limiter, marked, sent, read."""
        lane, services = self._lane, self._services
        text_bytes = sum(len(message.text.encode()) for message in call.messages)
        mark = self._mark(call, text_bytes)
        request = lane.request(call.messages, call.output_tokens)
        tokens = text_bytes // 4 + call.output_tokens
        slots = services.slots(lane)
        async with slots.marked:
            await services.limiter.acquire(lane.model.name, tokens)
            if lane.stopped is not None or services.is_stopping():
                raise LaneStoppedError(lane.stopped or "stopping")
            self.calls_in_flight += 1
            try:
                await services.writer.mark(mark)
                async with slots.sent:
                    if lane.stopped is not None or services.is_stopping():
                        services.writer.settle(not_sent(mark, "stopped before the call left").settlement)
                        raise LaneStoppedError(lane.stopped or "stopping")
                    services.observer.attempt_sent(lane)
                    outcome = await self._send(call, mark, request)
            finally:
                self.calls_in_flight -= 1
        usage = outcome.settlement.usage
        used = usage.input_tokens + usage.output_tokens
        if used:
            services.limiter.refund(lane.model.name, max(0, tokens - used))
        label = outcome.settlement.outcome
        services.observer.attempt_settled(lane, usage, outcome.settlement.cost_nusd, label)
        return outcome

    def _mark(self, call: Call, text_bytes: int) -> Mark:
        lane = self._lane
        return Mark(
            attempt_id=self._lease.next_attempt_id(),
            item_id=self._item.id,
            job_id=lane.job.id,
            lease_id=self._lease.id,
            purpose=call.purpose,
            part=call.ask.part,
            tier=lane.tier,
            model=lane.model.name,
            provider=lane.model.provider,
            reserved_nusd=lane.reservation_nusd(text_bytes, call.ask.image_count, call.output_tokens),
            prices=lane.model.prices,
        )

    async def _send(self, call: Call, mark: Mark, request: ChatRequest) -> Valid | Fault:
        started = time.monotonic()
        if started >= self._lease.valid_until:
            # The process slept between the mark and here: another worker may have the item by now.
            return not_sent(mark, "the lease ran out before the call left")
        try:
            completion = await self._lane.provider.complete(request)
        except ProviderError as error:
            return fault_of_error(mark, error, time.monotonic() - started)
        return read_completion(self._lane, mark, call.ask.key, completion, time.monotonic() - started)

    def _done(self) -> ItemChange:
        return replace(self.given_back(), status=ItemStatus.DONE, model=self._lane.model.name)

    def _after_failure(self, failed: Failed) -> ItemChange:
        rung = self._lane.next_rung() if failed.may_climb else None
        change = replace(self.given_back(), error_class=failed.failure.value, error=failed.error)
        if rung is not None:
            return replace(change, tier=rung)
        return replace(change, status=ItemStatus.FAILED)

    def given_back(self, ready_at: float = 0.0) -> ItemChange:
        """The change that puts the item back on its queue as it was."""
        return ItemChange(
            item_id=self._item.id,
            job_id=self._lane.job.id,
            lease_id=self._lease.id,
            result_key=self._item.result_key,
            accepts_key=self._item.accepts_key,
            refresh_key=self._lane.job.refresh_key,
            status=ItemStatus.PENDING,
            tier=self._lane.tier,
            ready_at=ready_at,
        )


_SMALLEST_PART_TOKENS = 32


class _TooLongError(Exception):
    """A request does not fit the model's context."""


def _group_by_size(answers: Sequence[Any], room: int) -> list[list[Any]]:
    """Answers in order, in as few groups as fit ``room`` tokens each; a group has at least one."""
    groups: list[list[Any]] = []
    left = 0
    for answer in answers:
        tokens = estimate_tokens(orjson.dumps(answer).decode())
        if not groups or tokens > left:
            groups.append([])
            left = room
        groups[-1].append(answer)
        left -= tokens
    return groups
