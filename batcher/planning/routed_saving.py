"""What routing saved a job: its measured tokens at the stated model's prices, against what the job paid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from batcher.catalog.models import Model
from batcher.store.tallies import Tally

_MTOK: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class RoutedSaving:
    """What a job would have cost on one model, and what it did cost; nano-dollars.

    Attributes:
        against: the model.
        instead_nusd: its answers' tokens at that model's prices.
        paid_nusd: what the job paid for everything: failed calls, repairs, climbs, judging, and calls whose
            outcome is not known.
        judging_nusd: the part of it for judging.
        unknown_nusd: the part of it for the job's own calls whose outcome is not known.
    """

    against: str
    instead_nusd: int
    paid_nusd: int
    judging_nusd: int = 0
    unknown_nusd: int = 0

    @property
    def saved_nusd(self) -> int:
        """Negative if it cost more."""
        return self.instead_nusd - self.paid_nusd


def routed_saving(
    tallies: Mapping[tuple[str, str], Tally], model: Model, paid_nusd: int, unknown_nusd: int = 0
) -> RoutedSaving:
    """The saving of a job.

    An answer counts with the tokens of an average call of the model that gave it: what its repairs and the
    calls of others for it took is no part of what one model would have cost.

    Args:
        tallies: the job's sums, by tier and model.
        model: what would have done the work otherwise, at its present prices.
        paid_nusd: what the job has paid for in all.
        unknown_nusd: the part of it for the job's own calls whose outcome is not known.
    """
    prices, instead = model.prices, 0.0
    for tally in tallies.values():
        if not tally.calls:
            continue
        plain = tally.input_tokens - tally.cached_tokens
        tokens = plain * prices.input_nusd + tally.cached_tokens * min(prices.cached_nusd, prices.input_nusd)
        tokens += tally.output_tokens * prices.output_nusd
        answers = min(tally.answered, tally.calls)
        instead += answers / tally.calls * (tokens / _MTOK + tally.calls * prices.request_nusd)
    own_nusd = sum(tally.cost_nusd for tally in tallies.values()) + unknown_nusd
    return RoutedSaving(model.name, int(instead), paid_nusd, max(0, paid_nusd - own_nusd), unknown_nusd)
