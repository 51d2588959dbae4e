"""The steps of a staged job, each with its own counts and cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batcher.budget.spend import Spend, spend_of_job
from batcher.cli.output import usd
from batcher.domain import ItemStatus
from batcher.money import format_usd
from batcher.store.item_counts import count_items
from batcher.store.results import count_models

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from batcher.store.jobs import Job


@dataclass(frozen=True, slots=True)
class StageView:
    """One step.

    Attributes:
        name: the stage's, or the task's for the last step.
        job: its own job; the staged one for the last step.
        items: by status.
        models: items that each model answered; reused answers are left out.
        spend: what its calls came to.
    """

    name: str
    job: Job
    items: dict[ItemStatus, int]
    models: dict[str, int]
    spend: Spend

    @property
    def words(self) -> str:
        """The step for people."""
        counts = ", ".join(f"{count:,} {status}" for status, count in self.items.items() if count)
        models = ", ".join(f"{name} {count:,}" for name, count in self.models.items())
        by = f", {models}" if models else ""
        cost = format_usd(self.spend.booked_nusd)
        return f"{self.name}: {counts or 'nothing yet'}; {cost} on tier {self.job.tier}{by}"

    def to_json(self) -> dict[str, Any]:
        """The step as ``--json`` prints it."""
        return {
            "stage": self.name,
            "job_id": self.job.id,
            "tier": self.job.tier,
            "model": self.job.pinned_model,
            "state": self.job.state.value,
            "items": {status.value: count for status, count in self.items.items()},
            "models": self.models,
            "calls": self.spend.calls,
            "input_tokens": self.spend.input_tokens,
            "output_tokens": self.spend.output_tokens,
            "cost_usd": usd(self.spend.booked_nusd),
        }


def read_stages(connection: Connection, steps: Sequence[Job]) -> tuple[StageView, ...]:
    """The steps of a staged job, in order; empty for a job of one step.

    Args:
        connection: any transaction.
        steps: what ``steps_of`` gave.
    """
    return tuple(_read(connection, step) for step in steps) if len(steps) > 1 else ()


def _read(connection: Connection, step: Job) -> StageView:
    models: dict[str, int] = {}
    for (_, model), count in count_models(connection, step.id).items():
        models[model] = models.get(model, 0) + count
    return StageView(
        name=step.step.rpartition(".")[2],
        job=step,
        items=count_items(connection, step.id),
        models=models,
        spend=spend_of_job(connection, step.id),
    )


def stage_lines(stages: Sequence[StageView]) -> list[tuple[str, str]]:
    """A line for each step of a report."""
    return [("stage", stage.words) for stage in stages]
