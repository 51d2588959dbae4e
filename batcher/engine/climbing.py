"""A learned ladder at work: which answer of a document stands, and who is asked next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from batcher.engine.binding import Binding
from batcher.routing.ladder.answer_scorer import BoughtAnswer
from batcher.routing.ladder.policy import LadderPolicy, Verdict
from batcher.store.results import StepAnswer

if TYPE_CHECKING:
    from batcher.engine.call import Valid
    from batcher.engine.checks import RungJudge, Verifier


@dataclass(frozen=True)
class Rung:
    """One step of a ladder: its model, and the tier whose cap its calls stand under."""

    binding: Binding
    tier: str


@dataclass(frozen=True)
class Ladder:
    """A calibrated policy bound to the models of its steps, in their order.

    Attributes:
        verifier: looks at answers, if the policy goes by what it says.
        judge: the same.
    """

    policy: LadderPolicy
    rungs: tuple[Rung, ...]
    verifier: Verifier | None = None
    judge: RungJudge | None = None


@dataclass(frozen=True, slots=True)
class Bought:
    """An answer that a document has: by whom, on which tier, the id of its stored result, its JSON text."""

    model: str
    tier: str
    result_id: int
    output: str = field(repr=False)
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
        self._text = text
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

    @property
    def awaits_judge(self) -> bool:
        """Whether the judge is to look at the answer of the present step before it may stand."""
        has_one = bool(self.bought) and self.bought[-1].model == self.rung.binding.model.name
        return has_one and self._ladder.policy.is_judged(self.step)

    def take(self, output: str, result_id: int, logprob: float | None) -> None:
        """Take the answer of the present step, JSON text."""
        ladder, model = self._ladder, self.rung.binding.model.name
        verified = ladder.verifier(self._text, output) if ladder.verifier is not None else None
        seen = ladder.policy.bought(model, output, logprob, verified)
        self.bought.append(Bought(model, self.rung.tier, result_id, output, seen))

    def take_valid(self, outcome: Valid) -> None:
        """The same, of a call that has just ended."""
        settlement = outcome.settlement
        self.take(outcome.result.output, settlement.attempt_id, settlement.logprob)

    def take_stored(self, stored: Mapping[bytes, StepAnswer], key: bytes) -> bool:
        """The same, of one that an earlier run bought; whether it bought one."""
        known = stored.get(key)
        if known is not None:
            self.take(known.output, known.result_id, known.logprob)
        return known is not None

    def judge(self, word: float | None) -> None:
        """Take what the judge says of the newest answer, 0 to 1; None: it gave no verdict."""
        newest = self.bought[-1]
        self.bought[-1] = replace(newest, seen=replace(newest.seen, judged=word))

    def kept(self, verdict: Verdict) -> Bought | None:
        """The answer that a verdict keeps."""
        return None if verdict.kept is None else self.bought[verdict.kept]

    def decide(self) -> Verdict:
        """Whether an answer stands after the present step."""
        return self._ladder.policy.decide(self.step, self._signals, [one.seen for one in self.bought])
