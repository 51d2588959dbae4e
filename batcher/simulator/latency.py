"""How long simulated models take: drawn from a table, lognormal, from a seed."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from random import Random
from typing import Any, Final

_MOST_KNOWN: Final = 1_024


@dataclass(frozen=True, slots=True)
class Speed:
    """A model's medians and their spread.

    Attributes:
        first_token_s: seconds to the first token.
        tokens_per_s: after it.
        sigma: of the logarithm of both.
    """

    first_token_s: float
    tokens_per_s: float
    sigma: float


class LatencyTable:
    """The speeds of ``latency.toml``, by pattern of model id.

    Args:
        seed: the same seed and calls give the same times.
    """

    def __init__(self, seed: int = 0) -> None:
        text = resources.files("batcher.simulator").joinpath("latency.toml").read_text("utf-8")
        table = tomllib.loads(text)
        self._default = _speed(table["default"], table["default"])
        self._patterns = [(row["pattern"], _speed(row, table["default"])) for row in table["models"]]
        self._known: dict[str, Speed] = {}
        self._draw = Random(f"latency {seed}")

    def speed(self, model: str) -> Speed:
        """The speed of a model: the first pattern that fits, or the default."""
        found = self._known.get(model)
        if found is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            name = model.lower()
            fitting = (speed for pattern, speed in self._patterns if fnmatchcase(name, pattern))
            found = self._known[model] = next(fitting, self._default)
        return found

    def draw_s(self, model: str, output_tokens: int) -> float:
        """Seconds from a request's arrival to the end of its answer."""
        speed = self.speed(model)
        first = speed.first_token_s * math.exp(speed.sigma * self._draw.gauss(0, 1))
        rate = speed.tokens_per_s * math.exp(speed.sigma * self._draw.gauss(0, 1))
        return first + output_tokens / rate


def _speed(row: dict[str, Any], default: dict[str, Any]) -> Speed:
    return Speed(row["first_token_ms"] / 1000, row["tokens_per_s"], row.get("sigma", default["sigma"]))
