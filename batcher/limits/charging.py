"""What a request is booked at: known when it leaves, corrected when its answer is there."""

from __future__ import annotations

from typing import Final

from batcher.limits.quotas import Charge

_WEIGHT: Final = 0.1
"""Of the latest answer in the running mean of output tokens."""


class Charging:
    """Turns tokens into amounts by dimension, for one key.

    Args:
        charges_output_limit: the vendor charges the output limit of a request to its tokens per minute, and
            gives nothing back (OpenAI: "the maximum of max_tokens and the estimated number of tokens").
    """

    __slots__ = ("_charges_output_limit", "_mean_output")

    def __init__(self, *, charges_output_limit: bool) -> None:
        self._charges_output_limit = charges_output_limit
        self._mean_output: float | None = None

    def before(self, input_tokens: int, output_limit: int) -> Charge:
        """What to book for a request that leaves: until an answer is known, its output limit."""
        input_tokens, output_limit = max(input_tokens, 0), max(output_limit, 0)
        mean = self._mean_output
        output = output_limit if mean is None else min(mean, output_limit)
        counted = output_limit if self._charges_output_limit else output
        total = input_tokens + counted
        return (1, 1, total, total, input_tokens, output)

    def after(self, input_tokens: int, output_tokens: int, output_limit: int) -> Charge:
        """What to book in its place when the answer is there; it may be more."""
        input_tokens, output_tokens = max(input_tokens, 0), max(output_tokens, 0)
        mean = self._mean_output
        self._mean_output = output_tokens if mean is None else mean + _WEIGHT * (output_tokens - mean)
        counted = max(output_limit, output_tokens) if self._charges_output_limit else output_tokens
        total = input_tokens + counted
        return (1, 1, total, total, input_tokens, output_tokens)
