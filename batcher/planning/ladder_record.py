"""How a learned ladder does in production: what was checked of the answers that stood, beside its promise."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import Connection

from batcher.errors import ConfigurationError
from batcher.money import format_usd
from batcher.quality.estimates import Estimate, estimate_together
from batcher.routing.choice import percent
from batcher.routing.ladder.policy import LadderPolicy
from batcher.statistics.sequential import log_evidence_below
from batcher.store.ladders import get_ladder, jobs_on_ladder, ladder_before
from batcher.tasks.spec import TaskSpec

LEAST_SCORED: Final = 10
"""Fewer checked answers tell nothing."""

FALSE_ALARMS: Final = 0.05
"""How likely a ladder that keeps its promise may be said not to, ever, however often one looks."""

_MOST_JOBS: Final = 50
_SURE: Final = 0.999


@dataclass(frozen=True, slots=True)
class Production:
    """What is known of a ladder's answers to new documents.

    Attributes:
        ladder_id: the ladder.
        promised: the share of right answers that it is to keep to.
        jobs: how many of its jobs were looked at: the newest that have something checked.
        estimate: the share of right answers in them; None if nothing was checked. What its own judge says is
            left out, as answers stand on its word.
        falls_short: whether that lies below the promise, and not by chance, however often one looks.
        command: what learns it again.
    """

    ladder_id: int
    promised: float
    jobs: int
    estimate: Estimate | None
    falls_short: bool
    command: str

    @property
    def words(self) -> str:
        """In a sentence or two."""
        if self.estimate is None:
            return f"ladder {self.ladder_id} promises {percent(self.promised)}; nothing was checked so far"
        found = self.estimate
        interval = f"{percent(found.interval.low)} to {percent(found.interval.high)}"
        over = f" over {self.jobs} jobs" if self.jobs > 1 else ""
        told = (
            f"{percent(found.interval.share)} ({interval}, {found.scored:,} scored){over} in production, "
            f"where ladder {self.ladder_id} promises {percent(self.promised)}"
        )
        if not self.falls_short:
            return told
        return f"{told}: it falls short. Learn it again from documents like these: {self.command}"


def read_production(
    connection: Connection, ladder_id: int, spec: TaskSpec, policy: LadderPolicy | None = None
) -> Production:
    """Read it.

    Args:
        connection: any transaction.
        ladder_id: the ladder.
        spec: its task, as it stands.
        policy: the ladder, if it is at hand.

    Raises:
        UsageError: if there is no such ladder.
    """
    if policy is None:
        policy = LadderPolicy.from_json(orjson.loads(get_ladder(connection, ladder_id).policy))
    job_ids = jobs_on_ladder(connection, ladder_id, _MOST_JOBS)
    found = estimate_together(connection, job_ids, but_not_by=policy.judge)
    return Production(
        ladder_id=ladder_id,
        promised=policy.promised,
        jobs=len(job_ids),
        estimate=found,
        falls_short=found is not None and _falls_short(found, policy.promised),
        command=learn_command(spec, policy),
    )


@dataclass(frozen=True, slots=True)
class Former:
    """The ladder whose place another one took.

    Attributes:
        ladder_id: its number.
        target: what it was learned for, in words.
        reached: whether its evidence says that it reaches that.
        command: what learns it again.
    """

    ladder_id: int
    target: str
    reached: bool
    command: str


def read_former(connection: Connection, ladder_id: int, spec: TaskSpec) -> Former | None:
    """The ladder that was in force before this one for the task as it stands.

    None if there is none, or only one that this version of batcher cannot climb.
    """
    stored = ladder_before(connection, spec.fingerprint, ladder_id)
    if stored is None:
        return None
    try:
        policy = LadderPolicy.from_json(orjson.loads(stored.policy))
    except ConfigurationError:
        return None
    return Former(stored.id, policy.target, policy.reached, learn_command(spec, policy))


def learn_command(spec: TaskSpec, policy: LadderPolicy) -> str:
    """What learns a ladder of a task again, from the same models for the same goal."""
    goal, words = policy.goal, ["batcher ladder learn --task", shlex.quote(spec.ref or spec.name)]
    words += [f"-p {shlex.quote(one)}" for one in _assignments(spec)]
    words.append("--golden FILE")
    if goal.accuracy is not None:
        words.append(f"--accuracy {goal.accuracy:g}")
    else:
        words.append(f"--spend {format_usd(round(goal.spend_nusd or 0)).removeprefix('$')}")
    words += map(shlex.quote, policy.options)
    return " ".join(words)


def _assignments(spec: TaskSpec) -> Iterator[str]:
    for name, value in {**spec.params, **spec.locators}.items():
        if value is not None:
            yield f"{name}={_as_given(value)}"


def _as_given(value: Any) -> str:
    """A parameter as the command line takes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str) and "," not in one for one in value):
        return ",".join(value)
    return orjson.dumps(value).decode()


def _falls_short(found: Estimate, promised: float) -> bool:
    """Unevenly drawn answers count for as many as evenly drawn ones would say as much."""
    if found.scored < LEAST_SCORED or promised <= 0:
        return False
    trials = min(float(found.scored), found.effective)
    evidence = log_evidence_below(found.interval.share * trials, trials, min(promised, _SURE))
    return evidence >= -math.log(FALSE_ALARMS)
