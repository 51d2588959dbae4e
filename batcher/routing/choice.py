"""Which candidate does a job's work, by what is known of them: a pure function, looked at again and again.

A candidate is proven when the evidence that its accuracy lies above the floor reaches the bound that a model
at or under the floor would ever reach with probability alpha at most, however often one looks
(``statistics.sequential``); alpha is shared among the candidates. A model is refuted likewise. Either stays
so until the contrary is shown: evidence that has once reached its bound counts, though it may sink again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from batcher.money import format_usd
from batcher.routing.state import Candidate
from batcher.statistics.sequential import (
    log_evidence_above,
    log_evidence_below,
    lower_bound,
    upper_bound,
)

_EARLIER: Final = 4.0
"""How many answers just at the floor a candidate is credited with while it is guessed who may reach it."""

LEAST_SCORED: Final = 20
"""Fewer scored answers are thin evidence: the articles ask for 20 to 50 real cases. Of so many, a stated
model that was right on less than the floor gives way to one that is known to reach it."""

_LEAST_HOPE: Final = 0.02
"""A candidate that likely misses the floor by more than chance is no longer learned about."""


@dataclass(frozen=True, slots=True)
class Scored:
    """How often a model was right on a task.

    Attributes:
        correct: answers that were correct.
        scored: answers that were looked at.
        by_judge: of these, those that only a judge has looked at.
    """

    correct: int = 0
    scored: int = 0
    by_judge: int = 0

    @property
    def share(self) -> float:
        """Of correct answers; 0 of none."""
        return self.correct / self.scored if self.scored else 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from the evidence.

    Attributes:
        chosen: who does the work.
        reason: why, in one sentence.
        learn: the cheaper candidate that is worth learning about most; None if there is none.
        proven: who is known to reach the floor.
        refuted: who is known to miss it.
    """

    chosen: Candidate
    reason: str
    learn: Candidate | None
    proven: tuple[str, ...]
    refuted: tuple[str, ...]


def decide(
    candidates: Sequence[Candidate],
    base: str,
    scores: Mapping[str, Scored],
    floor: float,
    alpha: float,
    *,
    proven: Collection[str] = (),
    refuted: Collection[str] = (),
    stated_by: str = "the task",
) -> Decision:
    """Choose.

    The cheapest does it of those that are proven and of the stated model, unless that is refuted, or was
    right on less than the floor of enough answers while another is proven. Where none is left, the next
    dearer one does it that is not refuted; where there is none, the one measured best.

    Args:
        candidates: cheapest first; at least one.
        base: the stated model; it may be missing among the candidates.
        scores: what is known of them, by model.
        floor: the least share of correct answers that is good enough, between 0 and 1.
        alpha: how likely a wrong proof may be.
        proven: who was proven before.
        refuted: who was refuted before.
        stated_by: what states the stated model, for people.
    """
    judge = _Judge(floor, alpha, max(1, sum(one.model != base for one in candidates)))
    found = {one.model: scores.get(one.model, Scored()) for one in candidates}
    above = {name for name, score in found.items() if judge.reaches(score)}
    below = {name for name, score in found.items() if judge.misses(score)}
    refuted = (below | (set(refuted) - above)) & found.keys()
    proven = ((above | set(proven)) - refuted) & found.keys()
    keeps = base not in refuted and not (proven and judge.doubts(found.get(base, Scored())))
    chosen = _choose(candidates, base, found, proven, refuted, keeps=keeps)
    reason = _Words(judge, candidates, base, stated_by, found).why(chosen, proven, refuted)
    learn = _worth_learning(candidates, chosen, found, floor, refuted)
    return Decision(chosen, reason, learn, tuple(sorted(proven)), tuple(sorted(refuted)))


@dataclass(frozen=True, slots=True)
class _Judge:
    """Holds scores against the floor; ``tried`` candidates share the chance of a wrong proof."""

    floor: float
    alpha: float
    tried: int

    @property
    def each(self) -> float:
        """One candidate's part of alpha."""
        return self.alpha / self.tried

    def reaches(self, score: Scored) -> bool:
        if not 0 < self.floor < 1:
            return self.floor <= 0
        return log_evidence_above(score.correct, score.scored, self.floor) >= -math.log(self.each)

    def misses(self, score: Scored) -> bool:
        if not 0 < self.floor < 1:
            return self.floor >= 1 and score.correct < score.scored
        return log_evidence_below(score.correct, score.scored, self.floor) >= -math.log(self.alpha)

    def doubts(self, score: Scored) -> bool:
        """Whether enough answers were scored to say that they lie rather below the floor."""
        return score.scored >= LEAST_SCORED and score.share < self.floor


def _choose(
    candidates: Sequence[Candidate],
    base: str,
    scores: Mapping[str, Scored],
    proven: Collection[str],
    refuted: Collection[str],
    *,
    keeps: bool,
) -> Candidate:
    """``keeps``: whether the stated model may still do the work though it is not proven."""
    stated = next((one for one in candidates if one.model == base), None)
    for one in candidates:
        if one.model in proven or (one is stated and keeps):
            return one
    start = candidates.index(stated) + 1 if stated is not None else 0
    dearer = next((one for one in candidates[start:] if one.model not in refuted), None)
    return dearer or max(candidates, key=lambda one: scores[one.model].share)


def _worth_learning(
    candidates: Sequence[Candidate],
    chosen: Candidate,
    scores: Mapping[str, Scored],
    floor: float,
    refuted: Collection[str],
) -> Candidate | None:
    """The cheaper candidate of the greatest saving, weighted by how likely it reaches the floor."""
    best, most = None, 0.0
    for one in candidates:
        saving = chosen.cost_nusd - one.cost_nusd
        hope = chance_above(scores[one.model], floor)
        if one.model not in refuted and saving > 0 and hope >= _LEAST_HOPE and saving * hope > most:
            best, most = one, saving * hope
    return best


def chance_above(score: Scored, floor: float) -> float:
    """About how likely it is that a model's accuracy lies above a floor: a guess, for ordering only."""
    if not 0 < floor < 1:
        return float(floor <= 0)
    trials = score.scored + _EARLIER
    share = (score.correct + _EARLIER * floor) / trials
    spread = math.sqrt(max(floor * (1 - floor), share * (1 - share)) / trials)
    return 0.5 * math.erfc((floor - share) / (spread * math.sqrt(2)))


@dataclass(frozen=True, slots=True)
class _Words:
    """Says why a model was chosen."""

    judge: _Judge
    candidates: Sequence[Candidate]
    base: str
    stated_by: str
    scores: Mapping[str, Scored]

    def why(self, chosen: Candidate, proven: Collection[str], refuted: Collection[str]) -> str:
        name, floor = chosen.model, percent(self.judge.floor)
        if name in proven:
            others = len(self.candidates) - 1
            among = f" of {others + 1} candidates" if others else ""
            cost = format_usd(round(chosen.cost_nusd))
            return (
                f"{name} does the work at about {cost} a document: the cheapest{among} that is known to "
                f"reach {floor} ({self._proof(name)}){self._instead(chosen, refuted)}"
            )
        if name == self.base and name not in refuted:
            return (
                f"{name}, which {self.stated_by} states, does the work until a cheaper model is known to "
                f"reach {floor}{self._nearest(chosen, refuted)}"
            )
        stated = f"{self.base} {self._miss(self.base)}" if self.base in self.scores else "nothing is proven"
        if name not in refuted:
            return f"{name} does the work: it is the next dearer one, because {stated}"
        return (
            f"{name} does the work: no candidate is known to reach {floor}, and it is right most often "
            f"({self._counted(name)})"
        )

    def _proof(self, name: str) -> str:
        score = self.scores[name]
        low = lower_bound(score.correct, score.scored, self.judge.each) if score.scored else 0.0
        if low < self.judge.floor:
            return f"{self._counted(name)}; it was shown earlier"
        sure = percent(1 - self.judge.each)
        return f"{self._counted(name)}, at least {percent(low)} with {sure} confidence"

    def _miss(self, name: str) -> str:
        score = self.scores[name]
        high = upper_bound(score.correct, score.scored, self.judge.alpha) if score.scored else 1.0
        if high >= self.judge.floor:
            return f"was shown earlier to miss {percent(self.judge.floor)}"
        return (
            f"misses {percent(self.judge.floor)} ({self._counted(name)}, at most {percent(high)} with "
            f"{percent(1 - self.judge.alpha)} confidence)"
        )

    def _instead(self, chosen: Candidate, refuted: Collection[str]) -> str:
        """Why a cheaper stated model, which is not known to miss the floor, does not do the work."""
        stated = next((one for one in self.candidates if one.model == self.base), chosen)
        if stated.model == chosen.model or stated.model in refuted or not self._is_before(stated, chosen):
            return ""
        return f"; {self.base}, which {self.stated_by} states, was right on {self._counted(self.base)}"

    def _is_before(self, one: Candidate, other: Candidate) -> bool:
        return self.candidates.index(one) < self.candidates.index(other)

    def _nearest(self, chosen: Candidate, refuted: Collection[str]) -> str:
        """What is known of the cheaper candidate that was scored most."""
        cheaper = [one.model for one in self.candidates if one.cost_nusd < chosen.cost_nusd]
        if not cheaper:
            return "; there is none"
        name = max(cheaper, key=lambda one: self.scores[one].scored)
        if not self.scores[name].scored:
            return "; nothing is known of them yet"
        if name in refuted:
            return f"; {name} {self._miss(name)}"
        return f"; so far {name} was right on {self._counted(name)}"

    def _counted(self, name: str) -> str:
        score = self.scores[name]
        judged = f", {score.by_judge:,} of them by a judge" if score.by_judge else ""
        return f"{percent(score.share)} of {score.scored:,} scored{judged}"


def percent(share: float) -> str:
    """A share for people: ``83.4 %``, ``80 %``."""
    return f"{share * 100:.1f}".removesuffix(".0") + " %"
