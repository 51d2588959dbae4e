"""What a document's text says before any model is paid: which answer is likely, and how hard it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self
from zlib import crc32

from batcher.routing.ladder.ngrams import text_pieces

LEAST_LOG_PROBABILITY: Final = math.log(1e-5)
"""No class is held to be less likely than this."""


@dataclass(frozen=True, slots=True)
class TextSignals:
    """What the text alone says.

    Attributes:
        lift: by normal form of an answer: the log of how much likelier the text makes it than it is over all
            golden rows. Empty where the answers are not a few classes.
        ease: how often models are right on such a text, in standard deviations over the golden rows.
        length: of the text, in standard deviations of its logarithm over the golden rows.
        lot: the text's number in a draw by lot, 0 to 1, the same for the same text.
    """

    lift: Mapping[str, float] = field(default_factory=dict)
    ease: float = 0.0
    length: float = 0.0
    lot: float = 0.0

    def lift_of(self, answer: str) -> float:
        """The lift of an answer; one that is none of the classes counts as the least likely of them."""
        return self.lift.get(answer, min(self.lift.values())) if self.lift else 0.0


@dataclass(frozen=True, slots=True)
class TextScorer:
    """Linear in a text's pieces; learned by :mod:`batcher.routing.ladder.text_learning`.

    A piece that a text has weighs 1 over the root of how many pieces it has. Outputs are the classes' scores,
    in the order of ``classes``, and the text's ease last.

    Attributes:
        classes: normal forms of the possible answers; empty where they are not a few.
        priors: the share of each class among the golden rows.
        intercepts: one for each output.
        weights: for each output, by the number of a piece.
        ease: mean and standard deviation of the ease over the golden rows.
        length: mean and standard deviation of the logarithm of 1 + the text's characters.
    """

    classes: tuple[str, ...]
    priors: tuple[float, ...]
    intercepts: tuple[float, ...]
    weights: Mapping[int, tuple[float, ...]] = field(repr=False)
    ease: tuple[float, float]
    length: tuple[float, float]

    def read(self, text: str) -> TextSignals:
        """Score one text, in about a millisecond."""
        *scores, ease = self._outputs(text)
        lift: dict[str, float] = {}
        if self.classes:
            top = max(scores)
            total = top + math.log(sum(math.exp(score - top) for score in scores))
            lift = {
                name: max(score - total, LEAST_LOG_PROBABILITY) - math.log(prior)
                for name, score, prior in zip(self.classes, scores, self.priors, strict=True)
            }
        length = standardised(math.log1p(len(text)), self.length)
        return TextSignals(lift, standardised(ease, self.ease), length, lot_of(text))

    def _outputs(self, text: str) -> Iterable[float]:
        pieces = text_pieces(text)
        sums = [0.0] * len(self.intercepts)
        for piece in sorted(pieces & self.weights.keys()):
            for output, weight in enumerate(self.weights[piece]):
                sums[output] += weight
        root = math.sqrt(max(1, len(pieces)))
        return [start + total / root for start, total in zip(self.intercepts, sums, strict=True)]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        return {
            "classes": list(self.classes),
            "priors": list(self.priors),
            "intercepts": list(self.intercepts),
            "pieces": list(self.weights),
            "weights": [list(weights) for weights in self.weights.values()],
            "ease": list(self.ease),
            "length": list(self.length),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` gave."""
        return cls(
            classes=tuple(stored["classes"]),
            priors=tuple(stored["priors"]),
            intercepts=tuple(stored["intercepts"]),
            weights={
                piece: tuple(weights)
                for piece, weights in zip(stored["pieces"], stored["weights"], strict=True)
            },
            ease=(stored["ease"][0], stored["ease"][1]),
            length=(stored["length"][0], stored["length"][1]),
        )


def lot_of(text: str) -> float:
    """A number from 0 to 1 that is spread evenly over texts."""
    return crc32(text.encode("utf-8", "surrogatepass")) / 2**32


def standardised(value: float, centre_and_spread: tuple[float, float]) -> float:
    """In standard deviations from the mean, at most 4; 0 where the golden rows did not differ."""
    centre, spread = centre_and_spread
    return max(-4.0, min(4.0, (value - centre) / spread)) if spread > 0 else 0.0
