"""What a job's ``routing`` column holds: the floor, who may do the work, who does it now, and why.

A routed job's documents wait on one queue, the cheapest rung of its ladder, and stay there whichever model
does the work: the column alone says which model that is, on which rung. So a move changes one row and no
item, and what climbed to a rung above is never mistaken for what still waits for its first answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from batcher.catalog.privacy import Privacy

if TYPE_CHECKING:
    from batcher.store.jobs import Job

MOST_MOVES: Final = 50
"""Older moves of a lane are forgotten."""


class Target(NamedTuple):
    """A model and the rung that it works on: whose caps its calls stand under, and where they climb from."""

    model: str
    tier: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may do a job's work.

    Attributes:
        model: its name.
        tier: its rung.
        cost_nusd: what a document likely costs on it, nano-dollars, repairs included.
    """

    model: str
    tier: str
    cost_nusd: float

    @property
    def target(self) -> Target:
        """The same without its cost."""
        return Target(self.model, self.tier)


@dataclass(frozen=True, slots=True)
class Excluded:
    """A model that may not do a job's work, and why."""

    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Learning:
    """The candidate that is being learned about.

    Attributes:
        model: its name.
        tier: its rung.
        known: whether it gets the documents whose right answer is known.
        share: how many of the other documents it may get, as a share; 0 where nobody would judge its answers
            or the money for learning is used up.
    """

    model: str
    tier: str
    known: bool
    share: float

    @property
    def target(self) -> Target:
        """Where its documents go."""
        return Target(self.model, self.tier)


@dataclass(frozen=True, slots=True)
class Move:
    """A choice: which model came into force, when (Unix seconds), and why. The first is that of the start."""

    at: float
    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Routing:
    """How a job's work is routed.

    Attributes:
        floor: the least share of correct answers that is good enough.
        queue: the tier that the job's documents wait on.
        base: the stated model, in force while nothing better is known.
        model: the model in force.
        tier: its rung.
        reason: why, in one sentence.
        candidates: who may do the work, cheapest first.
        excluded: who may not.
        learning: what is being learned; None: nothing.
        proven: candidates that were shown to reach the floor, and were not shown to miss it since.
        refuted: those that were shown to miss it.
        privacy: where documents may go.
        max_latency_s: the most that a usual call may take.
        learning_share: the most that learning may take, of documents and of spend.
        alpha: how likely a wrong proof may be, over all candidates and times.
        look_every: so many newly scored answers make another look worth while.
        is_sized: whether the costs rest on the job's own documents.
        stated_by: what states it, for people: ``the task``, or ``--tier`` with its tier.
        moves: every choice, oldest first.
    """

    floor: float
    queue: str
    base: Target
    model: str
    tier: str
    reason: str
    candidates: tuple[Candidate, ...]
    excluded: tuple[Excluded, ...] = ()
    learning: Learning | None = None
    proven: tuple[str, ...] = ()
    refuted: tuple[str, ...] = ()
    privacy: Privacy = Privacy.STANDARD
    max_latency_s: float | None = None
    learning_share: float = 0.05
    alpha: float = 0.05
    look_every: int = 10
    is_sized: bool = False
    stated_by: str = "the task"
    moves: tuple[Move, ...] = field(default=())

    @property
    def target(self) -> Target:
        """Where documents that wait on the queue go."""
        return Target(self.model, self.tier)

    @property
    def were_in_force(self) -> frozenset[str]:
        """The models whose answers the job asked for in earnest, and not to learn."""
        return frozenset({self.model, *(move.model for move in self.moves)})

    def candidate(self, model: str) -> Candidate | None:
        """The candidate of that name."""
        return next((one for one in self.candidates if one.model == model), None)

    def binds_like(self, other: Routing) -> bool:
        """Whether lanes made by the one also serve the other."""
        return (self.target, self.learning, self.refuted) == (other.target, other.learning, other.refuted)

    def chosen(self, target: Target, reason: str, at: float) -> Routing:
        """The same with a model in force; a move if it was another one before, or none."""
        moves = self.moves
        if not moves or target.model != self.model:
            moves = (*moves, Move(at, target.model, reason))[-MOST_MOVES:]
        return replace(self, model=target.model, tier=target.tier, reason=reason, moves=moves)

    def to_json(self) -> str:
        """As JSON, for the store."""
        return orjson.dumps(asdict(self) | {"base": [*self.base]}).decode()

    @classmethod
    def from_json(cls, stored: str) -> Routing:
        """What ``to_json`` wrote, by this version of batcher or a newer one."""
        read: dict[str, Any] = orjson.loads(stored)
        known = {name: read[name] for name in cls.__dataclass_fields__ if name in read}
        learning = known.get("learning")
        return cls(
            **known
            | {
                "base": Target(*known["base"]),
                "candidates": tuple(Candidate(**one) for one in known["candidates"]),
                "excluded": tuple(Excluded(**one) for one in known.get("excluded", ())),
                "learning": None if learning is None else Learning(**learning),
                "proven": tuple(known.get("proven", ())),
                "refuted": tuple(known.get("refuted", ())),
                "privacy": Privacy(known.get("privacy", Privacy.STANDARD)),
                "moves": tuple(Move(**one) for one in known.get("moves", ())),
            }
        )

    @classmethod
    def of(cls, job: Job) -> Routing | None:
        """How a job is routed, or None."""
        return None if job.routing is None else cls.from_json(job.routing)


def cheapest_first(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Candidates by cost; those of one cost as they came."""
    return tuple(sorted(candidates, key=lambda one: one.cost_nusd))
