"""What a ladder is calibrated for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from batcher.errors import UsageError
from batcher.money import format_usd


@dataclass(frozen=True, slots=True)
class Goal:
    """What a ladder is calibrated for; exactly one of the two is given.

    Attributes:
        accuracy: the least share of right answers, as cheaply as possible.
        spend_nusd: the most that a document may cost on average, as accurately as possible.
    """

    accuracy: float | None = None
    spend_nusd: float | None = None

    @classmethod
    def of_accuracy(cls, share: float) -> Self:
        """At least this share of right answers, 0 to 1.

        Raises:
            UsageError: for a share that cannot be.
        """
        if not 0 < share <= 1:
            raise UsageError(f"An accuracy lies between 0 and 1, not at {share}")
        return cls(accuracy=share)

    @classmethod
    def of_spend(cls, nusd: float) -> Self:
        """At most so many nano-dollars a document.

        Raises:
            UsageError: for no spend, or one below zero.
        """
        if not nusd > 0:
            raise UsageError("A spend is more than zero: of models that cost nothing any spend is kept")
        return cls(spend_nusd=nusd)

    @property
    def words(self) -> str:
        """As reports say it."""
        if self.accuracy is not None:
            return f"accuracy {self.accuracy:.1%}"
        return f"{format_usd(round(1_000 * (self.spend_nusd or 0)))} per 1,000 documents"
