"""Which models practitioners' articles of early 2026 choose, and which models of today take their places.

The rules stand in the order in which the articles decide. A measured accuracy overrides every one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Final

from batcher.catalog.privacy import Privacy
from batcher.money import NUSD_PER_USD
from batcher.planning.monthly import Tokens, Volume

LONG_CONTEXT: Final = 200_000
"""Tokens of one request past which the articles ask for a model with a longer context."""
FAST_S: Final = 2.0
"""Seconds under which they ask for a fast model."""
CHEAP_NUSD: Final = NUSD_PER_USD * 5 // 1000
"""Half a cent a request, under which they ask for a small model."""
BATCH_FLOOR: Final = 0.85
"""The floor below which batch enrichment goes to an open model."""
BATCH_PER_DAY: Final = 2_000
"""Documents a day above which it does."""
FLASH_PER_DAY: Final = 5_000
"""Requests a day above which simple work goes to Flash instead of GPT-4o mini."""


class TaskType(StrEnum):
    """What is done to a document."""

    EXTRACTION = "extraction"
    ENRICHMENT = "enrichment"
    CLASSIFICATION = "classification"
    ROUTING = "routing"
    SUMMARISATION = "summarisation"
    LONG_DOCUMENTS = "long-documents"
    CODE = "code"
    REASONING = "reasoning"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Need:
    """What the user asks of a model; None where nothing was said.

    Attributes:
        type: what is done to a document.
        tokens: of a request.
        volume: how many of them.
        floor: the least share of right answers, 0 to 1.
        privacy: where documents may go.
        max_latency_s: seconds that a call may take.
        context: tokens of the longest request; ``tokens.input`` counts if that is more.
        max_cost_nusd: what a request may cost.
        schema: whether the API must enforce the output's schema.
        vision: whether documents are pictures.
    """

    type: TaskType
    tokens: Tokens
    volume: Volume | None = None
    floor: float | None = None
    privacy: Privacy = Privacy.STANDARD
    max_latency_s: float | None = None
    context: int | None = None
    max_cost_nusd: int | None = None
    schema: bool = False
    vision: bool = False

    @property
    def longest_input(self) -> int:
        """Input tokens of the longest request."""
        return max(self.tokens.input, self.context or 0)

    @property
    def per_day(self) -> Fraction:
        """Requests a day; 0 if no volume was named."""
        return self.volume.per_day if self.volume else Fraction(0)


@dataclass(frozen=True, slots=True)
class Present:
    """A model of the catalogue that stands for one of the articles'.

    Attributes:
        model: its name in the catalogue.
        why: why it takes that place; "" if it is the articles' own.
    """

    model: str
    why: str = ""


_SONNET_SAME_PRICE = "a Sonnet at the articles' price; theirs is retired"
_SONNET_NEWER = "the newest Sonnet, at two thirds of the articles' price; theirs is retired"
_NEXT_OPENAI = "OpenAI's present model of that class, should GPT-4o be shut down"

PRESENT_MODELS: Final[dict[str, tuple[Present, ...]]] = {
    "GPT-4o": (Present("gpt-4o"), Present("gpt-6.1-sol", _NEXT_OPENAI)),
    "GPT-4o mini": (
        Present("gpt-4o-mini"),
        Present("gpt-6-luna", "OpenAI's present small model, should GPT-4o mini be shut down"),
    ),
    "Claude Sonnet": (
        Present("claude-sonnet-5-5", _SONNET_NEWER),
        Present("claude-sonnet-4-6", _SONNET_SAME_PRICE),
    ),
    "Claude Haiku": (
        Present(
            "claude-haiku-5-5", "the newest Haiku, at an eighth of the articles' price; theirs is retired"
        ),
        Present("claude-haiku-4-5", "a Haiku near the articles' price; theirs is retired"),
    ),
    "o3 or Claude Opus": (
        Present(
            "claude-opus-5-5", "the newest Opus, which always thinks; o3 and the articles' Opus are gone"
        ),
        Present("gpt-6.1-sol", "OpenAI's dearest here, without reasoning unless you set extra; o3 is gone"),
    ),
    "Gemini 1.5 Pro": (
        Present(
            "gemini-3.5-flash-lite", "the strongest Gemini here, 1M tokens of context; 1.5 Pro is retired"
        ),
        Present("gpt-6.1-sol", "a context of a million tokens, as no Gemini Pro is in the catalogue"),
    ),
    "Gemini Flash": (
        Present("gemini-2.5-flash-lite", "Flash-Lite at 2.0 Flash's own price; 2.0 Flash is retired"),
    ),
    "Llama 3.1 70B on Together": (
        Present("llama-3.1-70b@together"),
        Present("llama-3.3-70b@together", "its successor: same size, host and price"),
    ),
}
"""The articles' models, and those of the catalogue in their places, the first that is there first."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One of the articles' rules.

    Attributes:
        applies: whether it speaks to a need.
        because: the rule in a sentence's beginning.
        models: the articles' models, first choice first.
        families: instead of these: words in names of models, first choice first.
    """

    applies: Callable[[Need], bool]
    because: str
    models: Sequence[str] = ()
    families: Sequence[str] = field(default=())


def _is(*types: TaskType) -> Callable[[Need], bool]:
    return lambda need: need.type in types


def _is_batch_enrichment(need: Need) -> bool:
    is_low = need.floor is not None and need.floor < BATCH_FLOOR
    return need.type is TaskType.ENRICHMENT and is_low and need.per_day > BATCH_PER_DAY


_SIMPLE: Final = (TaskType.CLASSIFICATION, TaskType.ROUTING, TaskType.SUMMARISATION)


RULES: Final = (
    Rule(
        lambda need: need.privacy is not Privacy.STANDARD,
        "documents stay on your own machines: a Llama or Mistral that you host",
        families=("llama", "mistral", "mixtral", "ministral"),
    ),
    Rule(
        lambda need: need.longest_input > LONG_CONTEXT,
        f"more than {LONG_CONTEXT:,} tokens in a request: the longest context",
        ("Gemini 1.5 Pro", "Claude Sonnet"),
    ),
    Rule(_is(TaskType.REASONING), "hard reasoning: a model that thinks", ("o3 or Claude Opus",)),
    Rule(
        lambda need: need.max_latency_s is not None and need.max_latency_s <= FAST_S,
        f"an answer within {FAST_S:g} s: the models that start soonest",
        ("Gemini Flash", "GPT-4o mini", "Claude Haiku"),
    ),
    Rule(
        _is(TaskType.EXTRACTION),
        "structured extraction: a schema that the API enforces (free JSON: 4 % malformed)",
        ("GPT-4o",),
    ),
    Rule(
        _is_batch_enrichment,
        f"batch enrichment with a floor under {100 * BATCH_FLOOR:g} % and more than {BATCH_PER_DAY:,} "
        "documents a day: an open model (83 % and 84 % right there, at a tenth of Sonnet's bill)",
        ("Llama 3.1 70B on Together",),
    ),
    Rule(
        lambda need: need.type in _SIMPLE and need.per_day > FLASH_PER_DAY,
        f"simple work, more than {FLASH_PER_DAY:,} a day",
        ("Gemini Flash", "GPT-4o mini"),
    ),
    Rule(
        lambda need: need.type in _SIMPLE and need.per_day <= FLASH_PER_DAY,
        f"simple work, not more than {FLASH_PER_DAY:,} a day",
        ("GPT-4o mini", "Gemini Flash"),
    ),
    Rule(
        _is(TaskType.LONG_DOCUMENTS),
        "long documents: a model that stays careful over their length",
        ("Claude Sonnet", "Gemini 1.5 Pro"),
    ),
    Rule(
        lambda need: need.max_cost_nusd is not None and need.max_cost_nusd <= CHEAP_NUSD,
        "under half a cent a request: a small model",
        ("GPT-4o mini", "Gemini Flash"),
    ),
    Rule(_is(TaskType.CODE), "code and careful instructions", ("Claude Sonnet",)),
    Rule(lambda _: True, "the safe default", ("Claude Sonnet", "GPT-4o")),
)
"""In the order of decision: own machines, length, reasoning, time; then the type's own rule, which knows
more than the general answers after it; cost, code, default. Limits of cost and length hold whatever rule
speaks."""
