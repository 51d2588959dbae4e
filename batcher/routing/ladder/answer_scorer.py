"""How likely each answer bought so far is right. Standard library only: workers call this per answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from batcher.routing.ladder.text_scorer import TextSignals, standardised

_LEAST_LOGIT: Final = -5.0
_MOST_LOGIT: Final = 9.0


def confidence(logprob: float) -> float:
    """A mean log-probability as the log-odds of the mean token, between -5 and 9.

    Log-odds spread out where log-probabilities crowd: -0.01 and -0.0001 are far apart in what they promise.
    """
    sure = math.exp(min(0.0, logprob))
    if sure >= 1.0 - 1e-9:
        return _MOST_LOGIT
    odds = math.log(max(sure, 1e-9)) - math.log(1.0 - sure)
    return max(_LEAST_LOGIT, min(_MOST_LOGIT, odds))


@dataclass(frozen=True, slots=True)
class BoughtAnswer:
    """An answer that has been paid for.

    Attributes:
        model: who gave it.
        answer: in normal form.
        logprob: mean log-probability of its tokens; None where the API gives none.
        verified: what the task's verifier says of it, 0 to 1; None if it says nothing.
        judged: what a judge says of it, 0 to 1; None if none was asked, or it gave no verdict.
    """

    model: str
    answer: str
    logprob: float | None = None
    verified: float | None = None
    judged: float | None = None


@dataclass(frozen=True, slots=True)
class ModelHabits:
    """How one model answered the golden rows.

    Attributes:
        accuracy: share of rows that it was right on.
        confidence: mean and standard deviation of :func:`confidence`; (0, 0) without log-probabilities.
        reliability: by answer: the log-odds of being right when it says so, less its usual log-odds.
    """

    accuracy: float
    confidence: tuple[float, float]
    reliability: Mapping[str, float] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        return {
            "accuracy": self.accuracy,
            "confidence": list(self.confidence),
            "reliability": dict(self.reliability),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` gave."""
        centre, spread = stored["confidence"]
        return cls(stored["accuracy"], (centre, spread), dict(stored["reliability"]))


@dataclass(frozen=True, slots=True)
class AnswerScorer:
    """The chance that each distinct answer of certain models is right: one of them or none is.

    Attributes:
        models: whose answers it weighs, in the order of the ladder.
        bias: of any answer against "none of them is right".
        votes: for an answer, of each model that gave it.
        confidence: for an answer, times each such model's standardised confidence.
        reliability: times the reliability of the models that gave it, summed.
        lift: times what the text says for the answer.
        ease: times the text's ease.
        text_length: times the text's length.
        answer_length: times the answer's length, standardised by ``answer_lengths``.
        answer_lengths: mean and standard deviation of log(1 + characters).
        verified: times what the verifier says of the answer, standardised by ``verified_at``.
        verified_at: mean and standard deviation of what it says.
        judged: times what a judge says of the answer, standardised by ``judged_at``.
        judged_at: mean and standard deviation of what it says.
    """

    models: tuple[str, ...]
    bias: float
    votes: tuple[float, ...]
    confidence: tuple[float, ...]
    reliability: float
    lift: float
    ease: float
    text_length: float
    answer_length: float
    answer_lengths: tuple[float, float]
    verified: float = 0.0
    verified_at: tuple[float, float] = (0.0, 0.0)
    judged: float = 0.0
    judged_at: tuple[float, float] = (0.0, 0.0)

    def probabilities(
        self, text: TextSignals, answers: Sequence[BoughtAnswer], habits: Mapping[str, ModelHabits]
    ) -> list[float]:
        """How likely each of ``answers`` is right, 0 to 1, in their order; equal answers have one chance.

        Args:
            text: what the text says.
            answers: one of each of ``models``, in any order.
            habits: of each model.
        """
        at = {name: number for number, name in enumerate(self.models)}
        scores: dict[str, float] = {}
        for given in answers:
            if given.answer not in scores:
                scores[given.answer] = self._of_the_text(text, given.answer)
            scores[given.answer] += self._of_one(given, at[given.model], habits[given.model])
        for answer in scores:
            scores[answer] += self._of_the_checks([one for one in answers if one.answer == answer])
        top = max(0.0, *scores.values())
        weights = {answer: math.exp(score - top) for answer, score in scores.items()}
        total = math.exp(-top) + sum(weights.values())
        return [weights[given.answer] / total for given in answers]

    def _of_the_text(self, text: TextSignals, answer: str) -> float:
        return (
            self.bias
            + self.lift * text.lift_of(answer)
            + self.ease * text.ease
            + self.text_length * text.length
            + self.answer_length * standardised(math.log1p(len(answer)), self.answer_lengths)
        )

    def _of_one(self, given: BoughtAnswer, number: int, habits: ModelHabits) -> float:
        score = self.votes[number] + self.reliability * habits.reliability.get(given.answer, 0.0)
        if given.logprob is not None:
            score += self.confidence[number] * standardised(confidence(given.logprob), habits.confidence)
        return score

    def _of_the_checks(self, given: Sequence[BoughtAnswer]) -> float:
        """What the verifier and a judge say, for those who gave one answer in about the same words."""
        verified = [standardised(one.verified, self.verified_at) for one in given if one.verified is not None]
        judged = [standardised(one.judged, self.judged_at) for one in given if one.judged is not None]
        return self.verified * _mean(verified) + self.judged * _mean(judged)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        return {
            "models": list(self.models),
            "bias": self.bias,
            "votes": list(self.votes),
            "confidence": list(self.confidence),
            "reliability": self.reliability,
            "lift": self.lift,
            "ease": self.ease,
            "text_length": self.text_length,
            "answer_length": self.answer_length,
            "answer_lengths": list(self.answer_lengths),
            "verified": self.verified,
            "verified_at": list(self.verified_at),
            "judged": self.judged,
            "judged_at": list(self.judged_at),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` gave."""
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
        }
        return cls(**given)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
