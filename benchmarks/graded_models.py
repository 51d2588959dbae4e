"""Simulated models that are right at a stated rate: which documents each gets wrong is drawn from a seed."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from batcher.simulator.faults import Fault
from batcher.simulator.requests import Call

RIGHT: Final = "river"
WRONG: Final = "bridge"
_NUMBER: Final = re.compile(r"Document (\d+)\.")


@dataclass
class GradedModels:
    """What a loopback vendor answers; give ``decide`` to its ``on_call``.

    Attributes:
        accuracies: by the vendor's id of a model, how often it is right.
        seed: of the draws.
        answer_bytes: how long an answer is: four bytes are a token.
        drops: by model, from which call on it is right how often instead.
        calls: how many calls each model got.
    """

    accuracies: Mapping[str, float]
    seed: int
    answer_bytes: int = 0
    drops: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)

    def decide(self, call: Call) -> Fault | None:
        """The answer to a call."""
        found = _NUMBER.search(call.text)
        if found is None or call.model not in self.accuracies:
            return None
        self.calls[call.model] = self.calls.get(call.model, 0) + 1
        return Fault(text=self.answer(call.model, int(found[1])), times=None)

    def answer(self, model: str, number: int) -> str:
        """What a model answers to a document."""
        accuracy = self.accuracies[model]
        since, lower = self.drops.get(model, (0, accuracy))
        if model in self.drops and self.calls.get(model, 0) > since:
            accuracy = lower
        topic = RIGHT if self.draw(model, number) < accuracy else WRONG
        answer = json.dumps({"topic": topic, "title": ""})
        missing = max(0, self.answer_bytes - len(answer))
        return json.dumps({"topic": topic, "title": "x" * missing})

    def draw(self, model: str, number: int) -> float:
        """A number from 0 to 1 for a model and a document."""
        digest = blake2b(f"{self.seed} {model} {number}".encode(), digest_size=8).digest()
        return random.Random(digest).random()
