"""What a likely figure rests on: what was measured, what is known, or what has to be guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from batcher.catalog.models import Model
from batcher.errors import TaskError
from batcher.planning.answer_length import Length, length_of_known, length_of_schema
from batcher.planning.fit import Fit
from batcher.planning.history import History, Measured
from batcher.simulator.latency import LatencyTable
from batcher.tasks.definition import Task
from batcher.tasks.golden import Golden, load_golden
from batcher.tasks.spec import TaskSpec

KNOWN_ENOUGH: Final = 3
"""Measured answers that are trusted more than anything else."""

_GOLDEN_FILE: Final = "golden.jsonl"
_HALF: Final = 2
_SHORT_SHARE: Final = 0.5
"""Of a usual answer's length: a short one, where nothing tells."""


class Source(StrEnum):
    """Where the length of a usual answer is known from, best first."""

    MEASURED = "measured"
    OTHER_MODELS = "other models"
    GOLDEN = "golden answers"
    HINT = "hint"
    SCHEMA = "schema"
    HALF_LIMIT = "half the limit"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one model's likely cost on one task rests on.

    Attributes:
        output: how long its answers are, and how many measured or known ones that rests on.
        output_from: where that is known from.
        input_factor: measured input tokens over those that ``estimate.input_tokens`` gives; 1 if none were
            measured.
        input_calls: how many calls that rests on; 0 if none were measured.
        image_tokens: what a picture was charged as; None if none was measured.
        cached_share: of the input that was read from the vendor's prompt cache.
        cache_write_share: of the input that was written to it.
        extra_share: what retries and repairs cost, as a share of what the first calls cost.
        climb_share: of the items that climb to the next rung.
        latency_s: what a call took on average; None if none was measured.
    """

    output: Length
    output_from: Source
    input_factor: float = 1.0
    input_calls: int = 0
    image_tokens: float | None = None
    cached_share: float = 0.0
    cache_write_share: float = 0.0
    extra_share: float = 0.0
    climb_share: float = 0.0
    latency_s: float | None = None


@dataclass(eq=False)
class Knowledge:
    """All that is known of a task before it runs.

    Attributes:
        spec: the task.
        history: what was measured of it.
        golden: known answers, the corpus' own before the task's; the first that fit the schema count.
    """

    spec: TaskSpec
    history: History
    golden: Sequence[Golden] = ()
    _known: Length | None = field(init=False)
    _by_schema: Length | None = field(init=False)
    _speeds: LatencyTable = field(init=False, default_factory=LatencyTable)

    def __post_init__(self) -> None:
        lengths = (length_of_known(golden, self.spec.schema) for golden in self.golden)
        self._known = next((length for length in lengths if length is not None), None)
        self._by_schema = length_of_schema(self.spec.schema)

    def of(self, fit: Fit) -> Evidence:
        """The evidence for a model."""
        name = fit.model.name
        same = self.history.same_task.get(name)
        length, source = self._output(fit, same)
        ratio = self.history.inputs.get(name)
        measured = same if same is not None and same.asks >= KNOWN_ENOUGH else None
        latency = self.history.latencies_s.get(name)
        return Evidence(
            output=length,
            output_from=source,
            input_factor=ratio.factor if ratio else 1.0,
            input_calls=ratio.calls if ratio else 0,
            image_tokens=self.history.image_tokens.get(name),
            cached_share=measured.cached_share if measured else 0.0,
            cache_write_share=measured.cache_write_share if measured else 0.0,
            extra_share=measured.extra_share if measured else 0.0,
            climb_share=measured.climb_share if measured else 0.0,
            latency_s=latency,
        )

    def usual_latency_s(self, model: Model, output_tokens: float) -> float:
        """Seconds that a call to a hosted model of its class takes; nobody measured it on this account."""
        speed = self._speeds.speed(model.id)
        return speed.first_token_s + output_tokens / speed.tokens_per_s

    def _output(self, fit: Fit, same: Measured | None) -> tuple[Length, Source]:
        found = self._measured_length(same)
        if found is not None:
            return _within(found[0], fit), found[1]
        if self._known is not None:
            return _within(self._known, fit), Source.GOLDEN
        hint = self.spec.typical_output_tokens
        if hint is not None:
            return _within(Length(hint, hint * _SHORT_SHARE), fit), Source.HINT
        if self._by_schema is not None:
            return _within(self._by_schema, fit), Source.SCHEMA
        half = fit.output_tokens / _HALF
        return Length(half, half * _SHORT_SHARE), Source.HALF_LIMIT

    def _measured_length(self, same: Measured | None) -> tuple[Length, Source] | None:
        if same is not None and same.asks >= KNOWN_ENOUGH:
            return _length(same), Source.MEASURED
        others = _added(self.history.same_task)
        if others is not None and others.asks >= KNOWN_ENOUGH:
            return _length(others), Source.OTHER_MODELS
        return None


def known_answers(golden: Golden | None, task: Task | None) -> list[Golden]:
    """The files of known answers that tell how long answers are: the corpus' own, then the task's.

    Args:
        golden: what was given for the corpus, or None.
        task: the task's code; None if it is not here.
    """
    found = [golden] if golden is not None else []
    own = task.home / _GOLDEN_FILE if task is not None and task.home is not None else None
    if own is not None and own.is_file():
        with suppress(TaskError):  # what is wrong with it is for `batcher tasks check` to say
            found.append(load_golden(own))
    return found


def _length(measured: Measured) -> Length:
    return Length(measured.output_tokens, measured.output_tokens * _SHORT_SHARE, measured.asks)


def _added(by_model: Mapping[str, Measured]) -> Measured | None:
    """What all models measured together."""
    return sum(by_model.values(), Measured()) if by_model else None


def _within(length: Length, fit: Fit) -> Length:
    """No answer is longer than its limit."""
    limit = float(fit.output_tokens)
    return Length(min(length.typical, limit), min(length.least, limit), length.answers)
