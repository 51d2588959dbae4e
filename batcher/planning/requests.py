"""What a call is likely to carry, in tokens; a reservation's bound is ``Fit``'s business."""

from __future__ import annotations

from typing import Final

from batcher.catalog.models import Catalog, Model
from batcher.planning.fit import BYTES_PER_TOKEN, Fit
from batcher.providers.factory import schema_bytes_as_sent
from batcher.tasks.spec import TaskSpec

TEXT_DIVISOR: Final = 1.2
"""``estimate_tokens`` of a text over the tokens that vendors count, where nothing was measured: 1.25 on
English contracts, 1.13 on receipts, 1.22 on batcher's own instructions (against o200k). With the 12 tokens
below it meets what nine models (Llama 3, Qwen 2.5, GPT-4o and its mini) were billed for 3,116 recorded exam
questions within 6 % for each model and exam (all measured on 2026-11-20)."""

TEMPLATE_TOKENS: Final = 12
"""What a chat template puts around a system prompt and a question: 11 at OpenAI, 16 at Llama's hosts (the
difference between recorded usage and the texts' own tokens, on the same questions)."""


def fit_of(spec: TaskSpec, model: Model, catalog: Catalog) -> Fit:
    """A task on a model of the catalogue."""
    enforced = "schema" in model.abilities
    schema_bytes = schema_bytes_as_sent(catalog.providers[model.provider], spec.schema) if enforced else 0
    return Fit(spec, model, schema_bytes)


def expected_input_tokens(fit: Fit, tokens: float, calls: int = 1) -> float:
    """About how many input tokens calls are billed for, apart from their pictures.

    Args:
        fit: the task on a model.
        tokens: of the texts between the instructions, as ``estimate_tokens`` counts.
        calls: how many calls carry them together.
    """
    schema = fit.schema_bytes // BYTES_PER_TOKEN
    told = fit.overhead_tokens - schema
    return (tokens + calls * told) / TEXT_DIVISOR + calls * (schema + TEMPLATE_TOKENS)
