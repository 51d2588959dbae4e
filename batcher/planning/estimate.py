"""What documents cost on a model: at least, likely, and at the worst that is reserved for them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Final

from batcher.domain import Prices
from batcher.money import worst_case_nusd
from batcher.planning.evidence import Evidence
from batcher.planning.fit import Fit
from batcher.planning.requests import expected_input_tokens
from batcher.planning.sizes import Size
from batcher.tasks.rendering import REPAIR_OVERHEAD_BYTES

PART_FILL: Final = 0.9
"""How full the parts of a long document are: they end where a paragraph, a line or a sentence does."""

_LOW_INPUT_GUESSED: Final = 0.85
_LOW_INPUT_MEASURED: Final = 0.97
"""Of the likely input: vendors' tokenizers differ by up to a third on one text, measured ones hardly."""

_MTOK: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Costs:
    """What documents ask of a model and cost on it. Money in nano-dollars; tokens and calls are likely ones.

    Attributes:
        items: documents that it answers.
        split: of these, how many are too long for one call.
        too_long: documents that are too long, of a task that does not split them: they cost nothing.
        unseen: documents of pictures that the model does not see.
        calls: first calls; more than items where documents are split.
        input_tokens: of all likely calls.
        output_tokens: of all likely calls.
        longest_answer_tokens: output limits of all likely calls: some vendors count these against limits.
        low_nusd: with short answers, each right at the first try.
        first_likely_nusd: the likely cost of the first calls alone.
        likely_nusd: with the repairs and retries that were usual so far, without climbs.
        first_nusd: what is reserved for the first calls: the most that they can cost.
        worst_nusd: the same, and a repair of every answer.
    """

    items: int = 0
    split: int = 0
    too_long: int = 0
    unseen: int = 0
    calls: int = 0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    longest_answer_tokens: float = 0.0
    low_nusd: float = 0.0
    first_likely_nusd: float = 0.0
    likely_nusd: float = 0.0
    first_nusd: int = 0
    worst_nusd: int = 0

    @property
    def high_nusd(self) -> int:
        """The most that first calls can cost; never below the likely figure."""
        return max(self.first_nusd, math.ceil(self.likely_nusd))


def estimate(fit: Fit, sizes: Iterable[Size], evidence: Evidence) -> Costs:
    """What documents cost on a model.

    Args:
        fit: the task on the model.
        sizes: the documents.
        evidence: what is known of the model on this task.
    """
    estimator = _Estimator(fit, evidence)
    return sum_of(map(estimator.of, sizes))


def sum_of(costs: Iterable[Costs]) -> Costs:
    """What all of it costs together."""
    return Costs(*map(sum, zip(*map(_FIGURES, costs), strict=True)))


_FIGURES: Final = attrgetter(*(field.name for field in fields(Costs)))


class _Estimator:
    def __init__(self, fit: Fit, evidence: Evidence) -> None:
        self._fit = fit
        self._evidence = evidence
        self._sees = "vision" in fit.model.abilities
        self._splits = fit.spec.long_documents == "merge"
        self._image_tokens = (
            float(fit.model.image_tokens) if evidence.image_tokens is None else evidence.image_tokens
        )

    def of(self, size: Size) -> Costs:
        """What the documents of one size cost."""
        room, items = self._fit.document_tokens, size.items
        if size.images and not self._sees:
            return Costs(unseen=items)
        reserved = items * self._fit.first_calls_nusd(size.text_bytes, size.images)
        if size.images or size.text_bytes <= room or size.tokens <= room:
            return self._priced(size, 1, size.tokens, reserved)
        if not self._splits:
            return Costs(too_long=items, first_nusd=reserved, worst_nusd=reserved)
        parts = math.ceil(size.tokens / max(1.0, PART_FILL * room))
        answers = parts * self._evidence.output.typical
        return self._priced(size, parts + 1, size.tokens + answers, reserved)

    def _priced(self, size: Size, calls: int, tokens: float, reserved_nusd: int) -> Costs:
        fit, evidence, items = self._fit, self._evidence, size.items
        texts = evidence.input_factor * expected_input_tokens(fit, tokens, calls)
        input_tokens = texts + size.images * self._image_tokens
        output_tokens = calls * evidence.output.typical
        first = self._cost_nusd(input_tokens / calls, output_tokens / calls, calls)
        least = _LOW_INPUT_MEASURED if evidence.input_calls else _LOW_INPUT_GUESSED
        low = self._cost_nusd(least * input_tokens / calls, evidence.output.least, calls)
        more = 1 + evidence.extra_share
        repairs = worst_case_nusd(calls * REPAIR_OVERHEAD_BYTES, 0, fit.model.prices)
        return Costs(
            items=items,
            split=items if calls > 1 else 0,
            calls=items * calls,
            input_tokens=items * input_tokens * more,
            output_tokens=items * output_tokens * more,
            longest_answer_tokens=items * calls * fit.output_tokens * more,
            low_nusd=items * low,
            first_likely_nusd=items * first,
            likely_nusd=items * first * more,
            first_nusd=reserved_nusd,
            worst_nusd=2 * reserved_nusd + items * repairs,
        )

    def _cost_nusd(self, input_tokens: float, output_tokens: float, calls: int) -> float:
        """What calls of these tokens each cost, with the usual share of them from the vendor's cache."""
        prices = self._fit.model.prices.charged(math.ceil(input_tokens))
        total = input_tokens * self._input_nusd(prices) + output_tokens * prices.output_nusd
        return calls * (total / _MTOK + prices.request_nusd)

    def _input_nusd(self, prices: Prices) -> float:
        """The mean price of an input token, nano-dollars per million."""
        cached, written = self._evidence.cached_share, self._evidence.cache_write_share
        plain = max(0.0, 1 - cached - written)
        return plain * prices.input_nusd + cached * prices.cached_nusd + written * prices.cache_write_nusd
