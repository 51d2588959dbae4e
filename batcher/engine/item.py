"""Runs one item: its calls, their retries and repairs, the parts of a long document and their merge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from typing import Any

import orjson

from batcher.catalog.tokens import estimate_tokens
from batcher.documents.chunking import split_text
from batcher.domain import Document, FailureClass, ItemStatus, Purpose
from batcher.engine import policy
from batcher.engine.binding import Binding
from batcher.engine.call import Ask, Call, Fault, Valid
from batcher.engine.call_clock import CallClock
from batcher.engine.climber import Climber
from batcher.engine.climbing import Rung
from batcher.engine.entry import PATIENCE
from batcher.engine.failing import Failed, TooLongError
from batcher.engine.held_leases import HeldLease
from batcher.engine.lane import Lane, load_document
from batcher.engine.parts import group_by_size
from batcher.engine.sender import LaneStoppedError, ModelStoppedError, Sender, Services
from batcher.store.attempts import NewResult
from batcher.store.item_changes import ItemChange
from batcher.store.leases import QueuedItem
from batcher.tasks.rendering import document_messages, merge_messages, repair_messages


class ItemRunner:
    """One leased item on its lane.

    Args:
        lane: the lane.
        item: the item.
        lease: its chunk's lease.
        services: what all items of the process share.
        ready: the models to ask at this moment, if none is to be waited for; None: wait for the lane's.
    """

    def __init__(
        self,
        lane: Lane,
        item: QueuedItem,
        lease: HeldLease,
        services: Services,
        ready: Callable[[], Sequence[Binding]] | None = None,
    ) -> None:
        self._lane = lane
        self._item = item
        self._lease = lease
        self._services = services
        self._sender = Sender(lane, item, lease, services)
        self._ready = ready
        self._router: ItemRunner | None = None
        if lane.router is not None:
            hasty = replace(services, retry=PATIENCE)
            ready = partial(lane.router.ready, services.traffic, lane)
            self._router = ItemRunner(lane.router.lane, item, lease, hasty, ready)
        self._judge: ItemRunner | None = None
        if lane.ladder is not None and lane.ladder.judge is not None:
            self._judge = ItemRunner(lane.ladder.judge.lane, item, lease, services)
        self.ended: ItemStatus | None = None
        self.failure: FailureClass | None = None
        self._is_running = False

    @property
    def job_id(self) -> int:
        """Whose item it is."""
        return self._lane.job.id

    @property
    def item_id(self) -> int:
        """Which item it is."""
        return self._item.id

    @property
    def result_key(self) -> bytes:
        """What its answer is stored by."""
        return self._item.result_key

    @property
    def purpose(self) -> Purpose:
        """What its first call is paid for."""
        return self._lane.purpose_of(self._item)

    @property
    def calls_in_flight(self) -> int:
        """Calls of this item that are marked or on the wire."""
        others = [runner.calls_in_flight for runner in (self._router, self._judge) if runner is not None]
        return self._sender.calls_in_flight + sum(others)

    @property
    def may_be_cut_off(self) -> bool:
        """Whether a task that runs it may be cancelled: then it gives its item back, and nothing is lost.

        One that has not begun would end without a word, and one that is ending gives its item back already.
        """
        return self._is_running and self.calls_in_flight == 0

    async def run(self) -> None:
        """Run the item to its end on this lane; everything that happened is queued with the writer.

        Raises:
            LeaseLostError, BudgetExhaustedError, LaneStoppedError: nothing more may be sent; the caller gives
                the item back.
        """
        self._is_running = True
        try:
            await self._run()
        except Failed as failed:
            change = self._after_failure(failed)
            self._services.writer.change(change)
            self.ended = change.status
            self.failure = failed.failure
        finally:
            self._is_running = False

    async def _run(self) -> None:
        images = await self._services.read_images(self._item) if self._item.image_count else ()
        document = load_document(self._item, images)
        if (start := await self._routed_to(document)) != self._lane.queue:
            self._services.writer.change(replace(self.given_back(), tier=start, start_tier=start))
            return
        room = self._lane.first.document_tokens
        whole = (
            bool(document.images) or self._item.text_bytes <= room or estimate_tokens(document.text) <= room
        )
        if whole:
            ask = Ask(
                self._item.result_key, 0, document_messages(self._lane.spec, document), len(document.images)
            )
            try:
                if self._lane.ladder is not None and not document.images:
                    await Climber(self, self._services, self._lane, document).climb(ask)
                else:
                    await self.answer(ask, self._as_answer)
                return
            except TooLongError as error:
                if document.images:
                    raise Failed(FailureClass.TOO_LONG, str(error), may_climb=True) from error
            room = max(1, min(room, estimate_tokens(document.text)) // 2)
        await self._run_in_parts(document, room)

    async def _routed_to(self, document: Document) -> str:
        """The queue of the rung where the document starts: the lane's own, unless its router knows better."""
        lane, runner = self._lane, self._router
        if lane.router is None or runner is None or self._item.start_tier is not None or document.images:
            return lane.queue
        ask = lane.router.ask(document)
        known = await self._services.find_parts(lane.router.lane, [ask.key])
        if ask.key not in known:
            try:
                known[ask.key] = await runner.answer(ask, purpose=Purpose.ROUTE)
            except (Failed, TooLongError):
                return lane.queue
            except LaneStoppedError:
                if lane.router.lane.stopped is None:
                    raise
                return lane.queue
        return lane.router.rung_of(known[ask.key]) or lane.queue

    async def _run_in_parts(self, document: Document, room: int) -> None:
        """Map, then reduce: each part's answer is kept under its own key, so that none is paid for twice."""
        if self._lane.spec.long_documents != "merge":
            length, model = estimate_tokens(document.text), self._lane.first.model.name
            what = f"the document is too long: about {length} tokens, {model} takes {room} at a time"
            raise Failed(FailureClass.TOO_LONG, what, may_climb=True)
        answers = await self._map_in_parts_that_fit(document, room)
        await self._reduce(answers, room)

    async def _map_in_parts_that_fit(self, document: Document, room: int) -> list[Any]:
        while room >= _SMALLEST_PART_TOKENS:
            try:
                return await self._map(document, room)
            except TooLongError:
                room //= 2
        model = self._lane.first.model.name
        what = f"{model} has no room for a part of the document beside the instructions"
        raise Failed(FailureClass.TOO_LONG, what, may_climb=True)

    async def _map(self, document: Document, room: int) -> list[Any]:
        pieces = split_text(document.text, room, estimate_tokens)
        asks = []
        for number, piece in enumerate(pieces, start=1):
            key = self.part_key(b"part", piece.encode())
            part = Document(hash=key, text=piece)
            messages = document_messages(self._lane.spec, part, part=(number, len(pieces)))
            asks.append(Ask(key, number, messages))
        return await self._gather(asks)

    async def _reduce(self, answers: list[Any], room: int) -> None:
        while True:
            groups = group_by_size(answers, room)
            if len(groups) == len(answers) > 1:
                # Smaller parts would bring more answers, not smaller ones.
                model = self._lane.first.model.name
                what = f"{model} has no room to merge the answers for the parts of the document"
                raise Failed(FailureClass.TOO_LONG, what, may_climb=True)
            try:
                if len(groups) == 1:
                    merge = Ask(self._item.result_key, 0, merge_messages(self._lane.spec, answers))
                    await self.answer(merge, self._as_answer)
                    return
                answers = await self._gather([self._merge_of(group) for group in groups])
            except TooLongError:
                room //= 2

    def _merge_of(self, answers: Sequence[Any]) -> Ask:
        key = self.part_key(b"merge", orjson.dumps(answers))
        return Ask(key, 1, merge_messages(self._lane.spec, answers))

    async def _gather(self, asks: Sequence[Ask]) -> list[Any]:
        known = await self._services.find_parts(self._lane, [ask.key for ask in asks])
        missing = {ask.key: ask for ask in asks if ask.key not in known}
        # Not a task group: it would cancel the other calls in flight when one fails, and they are paid for.
        answered = await asyncio.gather(*map(self.answer, missing.values()), return_exceptions=True)
        for outcome in answered:
            if isinstance(outcome, BaseException):
                raise outcome
        known |= dict(zip(missing, answered, strict=True))
        return [known[ask.key] for ask in asks]

    def part_key(self, kind: bytes, content: bytes) -> bytes:
        """What an answer for a part of the item, or on the way to its own, is stored by."""
        return blake2b(self._item.result_key + kind + b"\0" + content, digest_size=20).digest()

    async def answer_of_judge(self, ask: Ask) -> Any:
        """A verdict of the judge of the lane's ladder; raises what :meth:`answer` does."""
        assert self._judge is not None
        return await self._judge.answer(ask, purpose=Purpose.JUDGE)

    async def answer(
        self,
        ask: Ask,
        conclude: Callable[[Valid, Binding], Conclusion] = lambda outcome, _: (outcome.result, None),
        *,
        rung: Rung | None = None,
        purpose: Purpose | None = None,
    ) -> Any:
        """Call until there is a valid answer.

        Args:
            ask: what is asked.
            conclude: what a valid answer is stored as, and what becomes of the item with it.
            rung: the model to ask; the lane's otherwise.
            purpose: what it is paid for; the lane's otherwise.

        Raises:
            Failed: if this lane will not give one.
            TooLongError: if the request does not fit the model's context.
        """
        services, lane = self._services, self._lane
        messages, enlarged = ask.messages, 1
        history, clock = policy.History(), CallClock()
        purpose = purpose or self.purpose
        tier = lane.tier if rung is None else rung.tier
        while True:
            clock.start()
            binding = await self._pick(ask, rung)
            clock.picked()
            output_tokens = min(binding.output_tokens * enlarged, binding.model.max_output)
            try:
                outcome = await self._sender.call(Call(ask, binding, messages, output_tokens, purpose, tier))
            except ModelStoppedError:
                continue
            if isinstance(outcome, Valid):
                result, change = conclude(outcome, binding)
                services.writer.settle(outcome.settlement, result=result, change=change)
                if change is not None:
                    self.ended = ItemStatus.DONE
                return outcome.answer
            services.writer.settle(outcome.settlement)
            history = clock.ended(history.after(outcome.failure), outcome)
            decision = self._decide(outcome, history)
            if isinstance(decision, policy.Retry):
                await self._wait_to_retry(binding, outcome, decision.delay_s)
                history = replace(history, elapsed_s=history.elapsed_s + decision.delay_s)
            elif isinstance(decision, policy.Repair):
                messages = repair_messages(messages, outcome.text, outcome.error)
                purpose = purpose.of_repair
                history = replace(history, repairs=1)
            elif isinstance(decision, policy.Enlarge) and output_tokens < binding.model.max_output:
                enlarged *= 2
                history = replace(history, enlargements=1)
            elif isinstance(decision, policy.Split):
                raise TooLongError(outcome.error)
            elif isinstance(decision, policy.StopLane):
                lane.stop(binding, f"{binding.model.provider}: {outcome.error}")
            else:
                may_climb = not isinstance(decision, policy.GiveUp) or decision.may_climb
                raise Failed(outcome.failure, outcome.error, may_climb=may_climb)

    async def _wait_to_retry(self, binding: Binding, outcome: Fault, delay_s: float) -> None:
        if self._services.is_stopping(self.job_id):
            raise LaneStoppedError("stopping")
        why = f"retrying {binding.model.provider} after {outcome.failure} ({outcome.error})"
        self._services.observer.item_waits(why, delay_s)
        await asyncio.sleep(delay_s)

    async def _pick(self, ask: Ask, rung: Rung | None) -> Binding:
        among: Sequence[Binding] = self._lane.bindings if rung is None else (rung.binding,)
        if self._ready is not None and not (among := self._ready()):
            raise Failed(FailureClass.OVERLOADED, "its models have to recover first", may_climb=False)
        binding = await self._sender.pick(among, sees_images=ask.image_count > 0)
        if binding is None and rung is not None:
            only = rung.binding
            why = self._lane.dead.get(only.key, f"{only.model.name} sees no images")
            raise Failed(FailureClass.ACCOUNT, why, may_climb=True)
        if binding is None:
            what = f"no model of tier {self._lane.tier} that works sees images"
            raise Failed(FailureClass.BAD_REQUEST, what, may_climb=True)
        return binding

    def _decide(self, outcome: Fault, history: policy.History) -> policy.Decision:
        if outcome.failure is FailureClass.BAD_REQUEST and self._lane.note_request_error(outcome.error):
            return policy.StopLane()
        return policy.decide(
            outcome.failure, history, self._services.retry, retry_after_s=outcome.retry_after_s
        )

    def _as_answer(self, outcome: Valid, binding: Binding) -> Conclusion:
        return outcome.result, self.done(binding.model.name, self._lane.tier)

    def done(self, model: str, tier: str) -> ItemChange:
        """The change that ends the item with a model's answer."""
        lot = self._lane.lot(self._item.result_key, model)
        return replace(self.given_back(), status=ItemStatus.DONE, tier=tier, model=model, draw=lot)

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
            tier=self._lane.queue,
            ready_at=ready_at,
        )


_SMALLEST_PART_TOKENS = 32

Conclusion = tuple[NewResult, ItemChange | None]
"""What a valid answer is stored as, and what its item becomes with it; None: nothing yet."""
