"""Takes one document up a learned ladder: asks, has answers checked, keeps the one that stands."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from batcher.domain import Document, ItemStatus, Purpose
from batcher.engine.binding import Binding
from batcher.engine.call import Ask, Valid
from batcher.engine.checks import RungJudge
from batcher.engine.climbing import Bought, Climb
from batcher.engine.failing import Failed, TooLongError
from batcher.engine.sender import LaneStoppedError, Services
from batcher.store.item_changes import ItemChange

if TYPE_CHECKING:
    from batcher.engine.item import Conclusion, ItemRunner
    from batcher.engine.lane import Lane


class Climber:
    """One item on the ladder of its lane.

    Args:
        runner: makes the item's calls.
        services: what all items of the process share.
        lane: the item's, which has a ladder.
        document: the item's.
    """

    def __init__(self, runner: ItemRunner, services: Services, lane: Lane, document: Document) -> None:
        assert lane.ladder is not None
        self._runner = runner
        self._services = services
        self._lane = lane
        self._ladder = lane.ladder
        self._document = document
        self._climb = Climb(lane.ladder, document.text)

    async def climb(self, ask: Ask) -> None:
        """Ask the steps until an answer stands.

        Those that do not stand are kept under keys of their own, so that none is paid for twice.
        """
        climb, runner = self._climb, self._runner
        names = [rung.binding.model.name for rung in self._ladder.rungs]
        keys = {name: runner.part_key(b"rung", name.encode()) for name in names}
        stored = await self._services.find_steps(self._lane, list(keys.values()))
        while True:
            key = keys[climb.rung.binding.model.name]
            if not climb.take_stored(stored, key):
                await self._ask_step(replace(ask, key=key))
                if runner.ended is not None:
                    return
            if self._ladder.judge is not None and climb.awaits_judge:
                climb.judge(await self._judged(self._ladder.judge))
            verdict = climb.decide()
            if verdict.stands and (kept := climb.kept(verdict)) is not None:
                self._services.writer.change(self._promoted(kept))
                runner.ended = ItemStatus.DONE
                return
            climb.step += 1

    async def _ask_step(self, ask: Ask) -> None:
        """Ask the present step; if an answer stands with it, the item is done with the call."""
        climb, runner = self._climb, self._runner

        def conclude(outcome: Valid, _: Binding) -> Conclusion:
            climb.take_valid(outcome)
            if climb.awaits_judge:
                return outcome.result, None
            verdict = climb.decide()
            kept = climb.kept(verdict)
            if not verdict.stands or kept is None:
                return outcome.result, None
            if kept is not climb.bought[-1]:
                return outcome.result, self._promoted(kept)
            own = replace(outcome.result, result_key=runner.result_key)
            return own, runner.done(kept.model, kept.tier)

        purpose = runner.purpose if climb.step == climb.first else Purpose.ESCALATION
        try:
            await runner.answer(ask, conclude, rung=climb.rung, purpose=purpose)
        except (Failed, TooLongError) as error:
            if isinstance(error, Failed) and not error.may_climb:
                raise
            if climb.is_last and not climb.bought:
                raise

    async def _judged(self, judge: RungJudge) -> float | None:
        """What the judge says of the answer just bought; None if it gives no verdict.

        A cap that refuses its call gives the item back: the answer is in the store by then.
        """
        ask = judge.ask(self._document, self._climb.bought[-1].output)
        known = await self._services.find_parts(judge.lane, [ask.key])
        if ask.key not in known:
            try:
                known[ask.key] = await self._runner.answer_of_judge(ask)
            except (Failed, TooLongError) as error:
                judge.complain(str(error))
                return None
            except LaneStoppedError:
                if judge.lane.stopped is None:
                    raise
                judge.complain(judge.lane.stopped)
                return None
        return judge.word(known[ask.key])

    def _promoted(self, kept: Bought) -> ItemChange:
        """Done with the answer of an earlier step."""
        return replace(self._runner.done(kept.model, kept.tier), promotes=kept.result_id)
