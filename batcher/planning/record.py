"""What a job was estimated to cost, as the job keeps it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import orjson

from batcher.store.jobs import Job

if TYPE_CHECKING:
    from batcher.planning.pricing import Price


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate of a whole job: what was spent when it was made, and what the rest was thought to cost.

    Attributes:
        likely_nusd: the likely figure, nano-dollars.
        low_nusd: with short answers, each valid at the first try.
        high_nusd: the most that the first calls can cost.
        items: documents that the rest was thought to be.
        made_at: Unix seconds.
        spent_nusd: what was spent before, part of all three.
        judging_nusd: what judging was likely to cost, part of the likely figure.
    """

    likely_nusd: int
    low_nusd: int
    high_nusd: int
    items: int
    made_at: float
    spent_nusd: int = 0
    judging_nusd: int = 0

    @classmethod
    def of(cls, price: Price, spent_nusd: int, made_at: float, judging_nusd: int = 0) -> Estimate:
        """The estimate of a job of which so much was spent and the rest, judging too, is priced like this."""
        return cls(
            likely_nusd=spent_nusd + price.likely_nusd,
            low_nusd=spent_nusd + price.low_nusd,
            high_nusd=spent_nusd + price.high_nusd,
            items=price.items,
            made_at=made_at,
            spent_nusd=spent_nusd,
            judging_nusd=judging_nusd,
        )

    @classmethod
    def of_job(cls, job: Job) -> Estimate | None:
        """What the job keeps; None if it was never estimated."""
        if job.estimate is None:
            return None
        stored = orjson.loads(job.estimate)
        return cls(**{name: stored[name] for name in cls.__slots__ if name in stored})

    def to_json(self) -> str:
        """As the job keeps it."""
        return orjson.dumps(asdict(self)).decode()

    def error(self, actual_nusd: int) -> float | None:
        """How far an actual cost is off, as a share of the likely figure; None where nothing was expected."""
        return actual_nusd / self.likely_nusd - 1 if self.likely_nusd else None
