"""GPUs of one's own against an API: how many it takes, what they cost, and from which volume they pay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from batcher.planning.monthly import DAYS_PER_MONTH

SECONDS_PER_MONTH: Final = DAYS_PER_MONTH * 86_400
"""2,628,000, which are 730 hours."""

RULE_OF_THUMB: Final = 100_000
"""Requests a month below which the API wins, as practitioners' articles of early 2026 put it."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU that serves the model.

    Attributes:
        month_nusd: what it costs a month, whether it works or not.
        tokens_per_s: what it gets through, input and output together.
        busy_share: the share of the month that it works, above 0 and at most 1.
    """

    month_nusd: int
    tokens_per_s: Fraction
    busy_share: Fraction = Fraction(1)

    @property
    def tokens_per_month(self) -> Fraction:
        """The most tokens that it gets through."""
        return self.tokens_per_s * self.busy_share * SECONDS_PER_MONTH


@dataclass(frozen=True, slots=True)
class SelfHosting:
    """One volume, once on an API and once on GPUs of one's own.

    Attributes:
        requests: a month.
        tokens_per_request: input and output together.
        request_nusd: what the API charges for a request.
        gpu: the machines.
    """

    requests: Fraction
    tokens_per_request: int
    request_nusd: Fraction
    gpu: Gpu

    @property
    def api_nusd(self) -> Fraction:
        """What the API costs a month."""
        return self.requests * self.request_nusd

    @property
    def gpus(self) -> int:
        """How many it takes: tokens per month / throughput / seconds per month, rounded up; at least one."""
        return max(1, math.ceil(self.requests * self.tokens_per_request / self.gpu.tokens_per_month))

    @property
    def own_nusd(self) -> int:
        """What these cost a month."""
        return self.gpus * self.gpu.month_nusd

    @property
    def own_is_cheaper(self) -> bool:
        """Whether the GPUs cost less."""
        return self.own_nusd < self.api_nusd

    @property
    def breaks_even_at(self) -> int | None:
        """The requests a month from which one GPU costs no more than the API; None if it never does.

        It never does where the API asks less for all that a GPU gets through than the GPU costs: then more
        of them, with more to do, lose as well.
        """
        rented = self._rent_in_requests()
        return None if rented is None or rented > self._most_per_gpu() else math.ceil(rented)

    @property
    def pays_for_good_from(self) -> int | None:
        """The requests a month above which the API is never the cheaper one again; None if there are none.

        Just after the volume at which another GPU is needed, that one has little to do, and the API may be
        the cheaper one for a while. With k GPUs that happens while k rents exceed what the API asks for what
        k - 1 get through.
        """
        rented = self._rent_in_requests()
        if rented is None or rented >= self._most_per_gpu():
            return None
        most = self._most_per_gpu()
        last = math.ceil(most / (most - rented)) - 1
        return math.ceil(max(1, last) * rented)

    def _rent_in_requests(self) -> Fraction | None:
        """How many of the API's requests a GPU's month would buy; None if these are free."""
        return Fraction(self.gpu.month_nusd) / self.request_nusd if self.request_nusd else None

    def _most_per_gpu(self) -> Fraction:
        return self.gpu.tokens_per_month / self.tokens_per_request
