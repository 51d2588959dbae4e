"""One result as a line: what JSON Lines holds, and what the other formats flatten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson

from batcher.domain import ItemStatus
from batcher.money import nusd_to_usd
from batcher.store.database import Store
from batcher.store.jobs import Job
from batcher.store.results import ItemResult, iter_item_results
from batcher.store.stage_results import iter_document_results
from batcher.store.stages import steps_of

ENDED: Final = (ItemStatus.DONE, ItemStatus.FAILED, ItemStatus.REJECTED, ItemStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class ResultLine:
    """One item that ended. ``output`` is the answer, parsed; ``error`` says why there is none."""

    job: Job
    item: ItemResult

    @property
    def output(self) -> Any:
        """The answer, or None."""
        return None if self.item.output is None else orjson.loads(self.item.output)

    def head(self) -> dict[str, Any]:
        """Everything but the answer, in the order of columns."""
        item = self.item
        return {
            "id": item.id,
            "source": item.source,
            "task": self.job.task,
            "model": item.model,
            "tier": item.tier,
            "status": item.status.value,
            "error_class": item.error_class,
            "error": item.error,
            "cost_usd": nusd_to_usd(item.cost_nusd),
            "attempts": item.attempts,
            "reused": item.reused,
        }

    def to_json(self) -> bytes:
        """The line of a JSON Lines file, with its line feed. The answer keeps its own spelling of numbers."""
        values = self.head()
        values["cost_usd"] = float(values["cost_usd"])
        values["output"] = None if self.item.output is None else orjson.Fragment(self.item.output)
        return orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE)


@contextmanager
def open_results(
    store: Store, job: Job, statuses: Sequence[ItemStatus] = ENDED
) -> Iterator[Iterator[ResultLine]]:
    """A job's ended items in order of submission, streamed out of one consistent view.

    Of a staged job its documents: one that got no further than an earlier step shows what became of it there.
    """
    with store.read() as connection:
        steps = steps_of(connection, job.id)
        found = (
            iter_item_results(connection, job.id, statuses)
            if len(steps) == 1
            else iter_document_results(connection, steps, statuses)
        )
        yield (ResultLine(job, item) for item in found)
