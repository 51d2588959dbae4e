"""Whether workers serve the tiers where documents wait, and which command starts those that are missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batcher.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Missing:
    """Workers that are missing.

    Attributes:
        why: who is missing, as the end of a sentence.
        command: what starts one.
    """

    why: str
    command: str

    @property
    def sentence(self) -> str:
        """Both in one."""
        return f"{self.why[0].upper()}{self.why[1:]}. Start one with: {self.command}"


def waiting_tiers(runtime: Runtime, job_ids: Sequence[int]) -> list[str]:
    """The tiers where documents of these jobs, their steps and their judges could be worked on now."""
    from batcher.store.judging import children_of
    from batcher.store.steps import step_ids
    from batcher.store.turns import ready_tiers

    with runtime.store.read() as connection:
        steps = [step for job_id in job_ids for step in step_ids(connection, job_id)]
        steps += [judge.id for job_id in job_ids for judge in children_of(connection, job_id)]
        return ready_tiers(connection, steps, runtime.store.now(connection))


def missing_workers(runtime: Runtime, job_ids: Sequence[int]) -> list[Missing]:
    """Which workers are missing for what waits of these jobs; takes the two seconds that they have to answer.

    Raises:
        DependencyError: if the broker or the store cannot be reached.
    """
    from batcher.dispatch.celery_app import app_of
    from batcher.dispatch.waking import ask_workers

    waiting = waiting_tiers(runtime, job_ids)
    if not waiting:
        return []
    answers = ask_workers(app_of(runtime.settings, runtime.catalog))
    if not answers:
        return [Missing("no worker answers", "batcher worker --beat")]
    served = {tier for one in answers for tier in one.get("tiers", ())}
    return [_missing_on(runtime, tier) for tier in waiting if tier not in served]


def _missing_on(runtime: Runtime, tier: str) -> Missing:
    from batcher.planning.naming import tiers_with_queue

    why = f"no worker serves tier {tier}"
    if tier not in tiers_with_queue(runtime.catalog):
        why += ", which is not under [tiers] in batcher.toml any more: add it first"
    return Missing(why, f"batcher worker --tier {tier}")
