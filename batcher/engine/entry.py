"""A lane's router: who is asked, before anything else is, on which rung a document starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from batcher.domain import Document
from batcher.engine.call import Ask
from batcher.engine.policy import RetryLimits
from batcher.planning.admission import result_key
from batcher.planning.router import router_messages

if TYPE_CHECKING:
    from batcher.engine.binding import Binding
    from batcher.engine.lane import Lane
    from batcher.engine.traffic import Traffic


PATIENCE: Final = RetryLimits(max_attempts=1, max_elapsed_s=30.0)
"""A document can do without a router's answer: only rate limits are waited out, and not for long."""


@dataclass(frozen=True, eq=False)
class EntryRouter:
    """A router bound to its models.

    Attributes:
        lane: its own lane: the same job, its question as the task, the models of its tier.
        rungs: where documents start, by its answer.
    """

    lane: Lane
    rungs: Mapping[str, str]

    def ask(self, document: Document) -> Ask:
        """What it is asked about a document. The answer is kept by question and content."""
        asking = self.lane.spec
        most_tokens = min(asking.params["read_tokens"], max(1, self.lane.first.document_tokens))
        return Ask(result_key(asking, document), 0, router_messages(asking, document, most_tokens))

    def ready(self, traffic: Traffic, lane: Lane) -> list[Binding]:
        """Its models that can be asked now, without waiting until one has recovered.

        Args:
            traffic: knows how they are.
            lane: the document's own: whether one of the models that it works with has recovered is not the
                router's to try.
        """
        working = {binding.key for binding in lane.bindings} - lane.dead.keys()
        return [
            binding
            for binding in self.lane.bindings
            if not traffic.is_shut_out(binding, half=binding.key in working)
        ]

    def rung_of(self, answer: Any) -> str | None:
        """Where a document starts with this answer; None if it names no route."""
        return self.rungs.get(answer) if isinstance(answer, str) else None
