"""A learned ladder at work: which answer of a document stands, and who is asked next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from batcher.engine.binding import Binding
from batcher.routing.ladder.answer_scorer import BoughtAnswer
from batcher.routing.ladder.policy import LadderPolicy, Verdict
from batcher.store.results import StepAnswer

if TYPE_CHECKING:
    from batcher.engine.call import Valid


@dataclass(frozen=True)
class Rung:
    """One step of a ladder: its model, and the tier whose cap its calls stand under."""

    binding: Binding
    tier: str


@dataclass(frozen=True)
class Ladder:
    """A calibrated policy bound to the models of its steps, in their order."""

    policy: LadderPolicy
    rungs: tuple[Rung, ...]


@dataclass(frozen=True, slots=True)
class Bought:
    """An answer that a document has: by whom, on which tier, and the id of its stored result."""

    model: str
    tier: str
    result_id: int
    seen: BoughtAnswer = field(repr=False)


class Climb:
    """One document's way up a ladder.

    Args:
        ladder: the ladder.
        text: the document's.

    Attributes:
        step: the number of the step that is to be asked.
        bought: the answers so far.
    """

    def __init__(self, ladder: Ladder, text: str) -> None:
        self._ladder = ladder
        self._signals = ladder.policy.read(text)
        self.first = self.step = ladder.policy.entry(self._signals)
        self.bought: list[Bought] = []

    @property
    def rung(self) -> Rung:
        """The step that is to be asked."""
        return self._ladder.rungs[self.step]

    @property
    def is_last(self) -> bool:
        """Whether there is no step above this one."""
        return self.step == len(self._ladder.rungs) - 1

    def take(self, answer: Any, result_id: int, logprob: float | None) -> Verdict:
        """Take the answer of the present step, and say whether one stands now."""
        rung, model = self.rung, self.rung.binding.model.name
        seen = self._ladder.policy.bought(model, orjson.dumps(answer).decode(), logprob)
        self.bought.append(Bought(model, rung.tier, result_id, seen))
        return self._decide()

    def take_valid(self, outcome: Valid) -> Verdict:
        """The same, of a call that has just ended."""
        settlement = outcome.settlement
        return self.take(outcome.answer, settlement.attempt_id, settlement.logprob)

    def take_stored(self, stored: Mapping[bytes, StepAnswer], key: bytes) -> Verdict | None:
        """The same, of one that an earlier run bought; None if it bought none."""
        known = stored.get(key)
        if known is None:
            return None
        return self.take(orjson.loads(known.output), known.result_id, known.logprob)

    def fail(self) -> Verdict:
        """The present step gave no usable answer; whether one of the others stands now."""
        return self._decide()

    def kept(self, verdict: Verdict) -> Bought | None:
        """The answer that a verdict keeps."""
        return None if verdict.kept is None else self.bought[verdict.kept]

    def _decide(self) -> Verdict:
        return self._ladder.policy.decide(self.step, self._signals, [one.seen for one in self.bought])
