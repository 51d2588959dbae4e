"""A task whose documents are routed by a cheap model: simple ones to economy, complex ones to premium."""

from __future__ import annotations

from typing import Final

import orjson

from batcher.tasks import Router, Task, scorers
from tests.support.runs import Verdict

LADDER: Final = ("economy", "premium")
ANSWER: Final = orjson.dumps({"label": "river"}).decode()
ROUTER: Final = Router(
    tier="economy",
    prompt="ROUTE it: is this request simple or complex?",
    routes={"simple": "economy", "complex": "premium"},
)


def routed_task(max_output_tokens: int) -> Task:
    """The task, its answers of at most so many tokens."""
    return Task(
        name="verdict",
        version=1,
        prompt="Say what the document is about.",
        output=Verdict,
        scorer={"label": scorers.exact},
        ladder=LADDER,
        max_output_tokens=max_output_tokens,
        router=ROUTER,
    )
