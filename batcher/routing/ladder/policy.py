"""A learned ladder: which model is asked first, when its answer stands, who is asked next.

Frozen, plain JSON when stored, and free of numpy: a replay on golden data and the workers decide by one
code. A document's way::

    signals = policy.read(text)
    step = policy.entry(signals)
    while True:
        ... ask policy.steps[step].model, append its BoughtAnswer (policy.bought(...)), with what the
        verifier says of it and, where policy.is_judged(step), what the judge says ...
        verdict = policy.decide(step, signals, answers)
        if verdict.stands:
            break        # answers[verdict.kept] is the answer
        step += 1

A model that gave no usable answer is left out of ``answers``, and the next step is taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from batcher.errors import ConfigurationError
from batcher.routing.ladder.answer_scorer import AnswerScorer, BoughtAnswer, ModelHabits
from batcher.routing.ladder.goals import Goal
from batcher.routing.ladder.normal_form import normal_form
from batcher.routing.ladder.text_scorer import TextScorer, TextSignals, lot_of

_FORMAT: Final = 2


@dataclass(frozen=True, slots=True)
class EntryScorer:
    """How likely a model is right, by the text alone: logistic in the text's ease and length."""

    bias: float
    ease: float
    length: float

    def probability(self, text: TextSignals) -> float:
        """0 to 1."""
        return 1 / (1 + math.exp(-(self.bias + self.ease * text.ease + self.length * text.length)))


@dataclass(frozen=True, slots=True)
class Step:
    """One rung of a learned ladder.

    Attributes:
        model: who is asked.
        stands_at: the answer stands if it is right with at least this probability; 0 on the last step.
        enters_at: the document starts here, and not on the next step, if this model is right with at least
            this probability by the text alone; 0 where every document may start here.
    """

    model: str
    stands_at: float
    enters_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a ladder is expected to do, by golden rows that had no part in choosing it (cross-validated).

    Attributes:
        rows: how many golden rows there were.
        accuracy: share of right answers; ``low`` and ``high`` are its 95 % interval (Wilson).
        low: see ``accuracy``.
        high: see ``accuracy``.
        cost_nusd: mean cost of a document, nano-dollars.
        cost_error_nusd: its standard error.
        best_model: the single model that was best over the golden rows.
        best_accuracy: its accuracy.
        best_cost_nusd: its mean cost.
        by_model: mean cost (nano-dollars) and accuracy of every model that was considered.
    """

    rows: int
    accuracy: float
    low: float
    high: float
    cost_nusd: float
    cost_error_nusd: float
    best_model: str
    best_accuracy: float
    best_cost_nusd: float
    by_model: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with the answers bought so far.

    Attributes:
        stands: whether to stop here.
        kept: which of the answers is the best, whether or not it stands; None if there are none.
        probability: how likely that one is right, 0 to 1; 0 if there are none.
    """

    stands: bool
    kept: int | None
    probability: float


@dataclass(frozen=True, slots=True)
class LadderPolicy:
    """A learned ladder; see this module's head for how it is walked.

    Attributes:
        steps: in the order in which they are asked; at least one.
        goal: what it was calibrated for.
        reached: whether the evidence says that it reaches that.
        text: what reads a document's text; None if nothing looks at it.
        habits: of each step's model.
        scorers: by the numbers of the steps whose answers were bought.
        entries: of the first steps, those that a document may skip by its text.
        skips: the share of documents that skip the first step by lot.
        evidence: what it is expected to do.
        verifies: whether what the task's verifier says of an answer counts.
        judge: the model that looks at an answer before it stands, on all steps but the last; None: none does.
        options: what it was learned with beside its task and goal (models, tiers, a judge), as words of the
            command line.
    """

    steps: tuple[Step, ...]
    goal: Goal
    reached: bool
    text: TextScorer | None = field(repr=False)
    habits: Mapping[str, ModelHabits] = field(repr=False)
    scorers: Mapping[tuple[int, ...], AnswerScorer] = field(repr=False)
    entries: tuple[EntryScorer, ...]
    skips: float
    evidence: Evidence
    verifies: bool = False
    judge: str | None = None
    options: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        """What it was calibrated for, in words."""
        return self.goal.words

    @property
    def promised(self) -> float:
        """The share of right answers that it is to keep to in production.

        That is the accuracy that it was learned for and reaches by its evidence; else the lower end of what
        was measured.
        """
        return self.goal.accuracy if self.goal.accuracy is not None and self.reached else self.evidence.low

    def is_judged(self, step: int) -> bool:
        """Whether a judge looks at a step's answer before it may stand."""
        return self.judge is not None and step < len(self.steps) - 1

    @property
    def models(self) -> list[str]:
        """The models of its steps, in order."""
        return [step.model for step in self.steps]

    def read(self, text: str) -> TextSignals:
        """What the text says; once for each document."""
        return self.text.read(text) if self.text else TextSignals(lot=lot_of(text))

    def entry(self, signals: TextSignals) -> int:
        """The number of the step on which a document starts."""
        if signals.lot < self.skips:
            return 1
        for number, scorer in enumerate(self.entries):
            if scorer.probability(signals) >= self.steps[number].enters_at:
                return number
        return len(self.entries)

    def bought(
        self,
        model: str,
        answer: str,
        logprob: float | None = None,
        verified: float | None = None,
        judged: float | None = None,
    ) -> BoughtAnswer:
        """An answer as the scorers see it.

        Args:
            model: of a step.
            answer: as the model gave it; structured answers as canonical JSON.
            logprob: mean log-probability of its tokens, where the API gives it.
            verified: what the task's verifier says of it, 0 to 1.
            judged: what the judge says of it, 0 to 1.
        """
        form = normal_form(answer, self.text.classes if self.text else ())
        return BoughtAnswer(model, form, logprob, verified, judged)

    def decide(self, step: int, signals: TextSignals, answers: Sequence[BoughtAnswer]) -> Verdict:
        """Whether to stop after a step, and with which answer.

        An answer of which the verifier or the judge should have said something, and has not, does not stand
        by itself.

        Args:
            step: the last one that was asked.
            signals: of the document's text.
            answers: those bought so far; of equally likely ones the one bought first is kept.
        """
        last = step >= len(self.steps) - 1
        if not answers:
            return Verdict(last, None, 0.0)
        chances = self.probabilities(signals, answers)
        kept = max(range(len(answers)), key=lambda number: chances[number])
        stands = last or (
            answers[-1].model == self.steps[step].model
            and self._was_checked(step, answers[-1])
            and chances[kept] >= self.steps[step].stands_at
        )
        return Verdict(stands, kept, chances[kept])

    def _was_checked(self, step: int, answer: BoughtAnswer) -> bool:
        verified = answer.verified is not None or not self.verifies
        return verified and (answer.judged is not None or not self.is_judged(step))

    def probabilities(self, signals: TextSignals, answers: Sequence[BoughtAnswer]) -> list[float]:
        """How likely each answer is right, 0 to 1.

        Raises:
            ConfigurationError: for the answer of a model that is on no step.
        """
        at = {step.model: number for number, step in enumerate(self.steps)}
        if strangers := [one.model for one in answers if one.model not in at]:
            raise ConfigurationError(f"{strangers[0]} is on no step of this ladder: {', '.join(at)}")
        scorer = self.scorers[tuple(sorted(at[one.model] for one in answers))]
        return scorer.probabilities(signals, answers, self.habits)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and words, ready for JSON."""
        return {
            "format": _FORMAT,
            "goal": {"accuracy": self.goal.accuracy, "spend_nusd": self.goal.spend_nusd},
            "reached": self.reached,
            "steps": [[one.model, one.stands_at, one.enters_at] for one in self.steps],
            "entries": [[one.bias, one.ease, one.length] for one in self.entries],
            "skips": self.skips,
            "text": self.text and self.text.to_json(),
            "habits": {name: habits.to_json() for name, habits in self.habits.items()},
            "scorers": [[list(steps), scorer.to_json()] for steps, scorer in self.scorers.items()],
            "evidence": evidence_to_json(self.evidence),
            "verifies": self.verifies,
            "judge": self.judge,
            "options": list(self.options),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` gave.

        Raises:
            ConfigurationError: if it is of another format.
        """
        if stored.get("format") != _FORMAT:
            raise ConfigurationError(
                "This ladder was stored by another version of batcher; calibrate it again"
            )
        return cls(
            steps=tuple(Step(*step) for step in stored["steps"]),
            goal=Goal(**stored["goal"]),
            reached=stored["reached"],
            text=TextScorer.from_json(stored["text"]) if stored["text"] else None,
            habits={name: ModelHabits.from_json(one) for name, one in stored["habits"].items()},
            scorers={tuple(steps): AnswerScorer.from_json(one) for steps, one in stored["scorers"]},
            entries=tuple(EntryScorer(*one) for one in stored["entries"]),
            skips=stored["skips"],
            evidence=evidence_from_json(stored["evidence"]),
            verifies=stored["verifies"],
            judge=stored["judge"],
            options=tuple(stored.get("options", ())),
        )


def evidence_to_json(evidence: Evidence) -> dict[str, Any]:
    """Plain numbers, ready for JSON."""
    stored = {name: getattr(evidence, name) for name in Evidence.__slots__}
    return {**stored, "by_model": {name: list(pair) for name, pair in evidence.by_model.items()}}


def evidence_from_json(stored: Mapping[str, Any]) -> Evidence:
    """Read what :func:`evidence_to_json` gave."""
    by_model = {name: (cost, share) for name, (cost, share) in stored["by_model"].items()}
    return Evidence(**{**stored, "by_model": by_model})
