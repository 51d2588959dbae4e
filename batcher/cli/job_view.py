"""Everything that status, jobs and the closing report say about a job, read in one view of the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from batcher.budget.ledger import Balance
from batcher.budget.spend import Spend, day_balance, job_balance, spend_of_job, total_of
from batcher.cli.accuracy_view import accuracy_json, production_json, sampled_json
from batcher.cli.judging_view import judging_json
from batcher.cli.output import iso_time, usd, usd_or_none
from batcher.cli.routing_view import routing_json
from batcher.cli.stage_view import StageView, read_stages
from batcher.domain import ItemStatus, JobState
from batcher.errors import BatcherError
from batcher.planning.choice import pick_model
from batcher.planning.record import Estimate
from batcher.planning.routed_saving import RoutedSaving, routed_saving
from batcher.quality.estimates import Sampled, read_sampled
from batcher.quality.golden import Accuracy, accuracy
from batcher.quality.judging_state import JudgingState
from batcher.quality.sampling import Sampling
from batcher.routing.state import Routing
from batcher.store.item_counts import ErrorExample, count_errors, example_errors
from batcher.store.jobs import Job, get_job
from batcher.store.leases import active_workers
from batcher.store.results import count_models, count_reused
from batcher.store.stages import count_documents_of, steps_of
from batcher.store.tallies import tallies_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from batcher.planning.ladder_record import Production
    from batcher.runtime import Runtime

EXAMPLES_PER_CLASS: Final = 2
CLASSES_WITH_EXAMPLES: Final = 5
"""How many failures a view shows: enough to see what is wrong, and all of them are in the results."""


@dataclass(frozen=True, slots=True)
class JobView:
    """A job and all its counts.

    Attributes:
        items: by status.
        failed: failed items by class.
        rejected: rejected items by code.
        models: items that each model answered, most first. Reused answers are left out.
        stood_in: those of them that it answered in place of the first choice of their tier.
        examples: a few failed and rejected items, by class or code.
        balance: the job's own account; of one that another pays for, what its calls came to.
        today: the daily cap's account; None before the first call ever.
        accuracy: by its known answers; None if it has none.
        sampled: by what was drawn of its answers; None if nothing was.
        estimate: what it was estimated to cost; None if it never was.
        has_worker: whether a process that lives holds some of its items.
        by_workers: whether workers do the work, and not who submits it.
        saving: what routing saved it; None if it is not routed.
        judging: how far judges are with its answers; None if there is nothing to judge.
        ladder: how the learned ladder that its documents climb does; None if they climb none.
        stages: its steps, if it has several: its counts are of documents then, and its sums of all steps.
    """

    job: Job
    items: dict[ItemStatus, int]
    reused: int
    failed: dict[str, int]
    rejected: dict[str, int]
    models: dict[str, int]
    stood_in: dict[str, int]
    examples: dict[str, list[ErrorExample]]
    spend: Spend
    balance: Balance | None
    today: Balance | None
    accuracy: Accuracy | None
    sampled: Sampled | None
    estimate: Estimate | None
    has_worker: bool
    by_workers: bool = False
    saving: RoutedSaving | None = None
    ladder: Production | None = None
    stages: tuple[StageView, ...] = ()
    judging: JudgingState | None = None

    @property
    def total(self) -> int:
        """All items."""
        return sum(self.items.values())

    @property
    def waiting_reason(self) -> str | None:
        """What the job waits for: while it runs, or until somebody resumes it."""
        return self.job.reason if self.job.state is JobState.PAUSED else self.job.waiting_reason

    @property
    def who_answered(self) -> str:
        """The models in words, and how much each did in place of the first choice of a tier."""
        shown = []
        for name, count in self.models.items():
            stood_in = self.stood_in.get(name, 0)
            part = "" if stood_in == count else f"{stood_in:,} "
            shown.append(f"{name} {count:,}" + (f" ({part}stood in)" if stood_in else ""))
        return ", ".join(shown)

    @property
    def spent_nusd(self) -> int:
        """What the job has cost so far."""
        return self.balance.spent_nusd if self.balance else 0

    @property
    def is_complete(self) -> bool:
        """Whether everything was worked on, so that its cost can be held against the estimate."""
        return self.job.state is JobState.DONE and not self.items[ItemStatus.CANCELLED]

    def to_json(self) -> dict[str, Any]:
        """The view as ``--json`` prints it."""
        job, items = self.job, self.items
        return {
            "job_id": job.id,
            "state": job.state.value,
            "task": job.task,
            "tier": job.tier,
            "model": job.pinned_model,
            "items": {status.value: items[status] for status in ItemStatus},
            "total": self.total,
            "reused": self.reused,
            "failed_by_class": self.failed,
            "rejected_by_reason": self.rejected,
            "models": self.models,
            "stages": [stage.to_json() for stage in self.stages],
            "stood_in": self.stood_in,
            "examples": {name: [asdict(found) for found in some] for name, some in self.examples.items()},
            "cost_usd": usd(self.spent_nusd),
            "estimate": estimate_json(self),
            "reserved_usd": usd(self.balance.reserved_nusd if self.balance else 0),
            "unknown_usd": usd(self.spend.unknown_nusd),
            "max_cost_usd": usd_or_none(self.balance.cap_nusd if self.balance else None),
            "calls": self.spend.calls,
            "input_tokens": self.spend.input_tokens,
            "output_tokens": self.spend.output_tokens,
            "waiting_reason": self.waiting_reason,
            "resume_at": iso_time(job.resume_at),
            "accuracy": accuracy_json(self.accuracy),
            "sampled": sampled_json(self.sampled, Sampling.of(job)),
            "judging": judging_json(self.judging),
            "routing": routing_json(job, self.saving),
            "ladder": production_json(self.ladder),
            "created_at": iso_time(job.created_at),
            "started_at": iso_time(job.started_at),
            "finished_at": iso_time(job.finished_at),
            "paths": list(job.paths),
        }

    def submit_json(self) -> dict[str, Any]:
        """The same, with counts as ``submit --json`` names them."""
        view = self.to_json()
        counts = {
            "items": self.total,
            "reused": self.reused,
            "rejected": self.items[ItemStatus.REJECTED],
            "done": self.items[ItemStatus.DONE],
            "failed": self.items[ItemStatus.FAILED],
            "by_status": view["items"],
        }
        return view | counts


def estimate_json(view: JobView) -> dict[str, Any] | None:
    """What a job was estimated to cost, and how far that was off once nothing is left to do."""
    found = view.estimate
    if found is None:
        return None
    return {
        "likely_usd": usd(found.likely_nusd),
        "low_usd": usd(found.low_nusd),
        "high_usd": usd(found.high_nusd),
        "judging_usd": usd(found.judging_nusd),
        "items": found.items,
        "made_at": iso_time(found.made_at),
        "spent_before_usd": usd(found.spent_nusd),
        "actual_usd": usd(view.spent_nusd),
        "is_final": view.is_complete,
        "difference": found.error(view.spent_nusd) if view.is_complete else None,
    }


def read_job_view(runtime: Runtime, job_id: int) -> JobView:
    """Read it.

    Raises:
        UsageError: if there is no such job.
    """
    with runtime.store.read() as connection:
        return _read(connection, runtime, job_id)


def _read(connection: Connection, runtime: Runtime, job_id: int) -> JobView:
    job = get_job(connection, job_id)
    steps = steps_of(connection, job_id)
    items = count_documents_of(connection, [job_id])[job_id]
    failed = _count_errors(connection, steps, ItemStatus.FAILED) if items[ItemStatus.FAILED] else {}
    rejected = _count_errors(connection, steps, ItemStatus.REJECTED) if items[ItemStatus.REJECTED] else {}
    models: Counter[str] = Counter()
    stood_in: Counter[str] = Counter()
    for step in steps:
        for (tier, model), count in count_models(connection, step.id).items():
            models[model] += count
            if _stood_in(runtime, step, tier, model):
                stood_in[model] += count
    spend = total_of([spend_of_job(connection, step.id) for step in steps], str(job_id))
    balance = job_balance(connection, job)
    return JobView(
        job=job,
        items=items,
        reused=count_reused(connection, job_id),
        failed=failed,
        rejected=rejected,
        models=dict(models.most_common()),
        stood_in=dict(stood_in.most_common()),
        examples={
            name: _examples(connection, steps, status, name)
            for status, classes in ((ItemStatus.FAILED, failed), (ItemStatus.REJECTED, rejected))
            for name in islice(classes, CLASSES_WITH_EXAMPLES)
        },
        spend=spend,
        balance=balance,
        today=day_balance(connection),
        accuracy=accuracy(connection, job_id),
        sampled=read_sampled(connection, job_id),
        estimate=Estimate.of_job(job),
        saving=_saving(connection, runtime, job, balance.spent_nusd if balance else 0, spend.unknown_nusd),
        ladder=_production(connection, job),
        by_workers=runtime.settings.broker_url is not None,
        has_worker=_has_worker(connection, job_id),
        stages=read_stages(connection, steps),
        judging=runtime.judges.state_of(connection, job),
    )


def _production(connection: Connection, job: Job) -> Production | None:
    if job.ladder_policy_id is None:
        return None
    from batcher.planning.ladder_record import read_production
    from batcher.tasks.spec import TaskSpec

    return read_production(connection, job.ladder_policy_id, TaskSpec.from_json(job.spec))


def _has_worker(connection: Connection, job_id: int) -> bool:
    active = active_workers(connection, job_id)
    if not active:
        return False
    from batcher.store.worker_names import is_dead

    return any(not is_dead(worker) for _, worker in active)


def _count_errors(connection: Connection, steps: Sequence[Job], status: ItemStatus) -> dict[str, int]:
    """Failed or rejected items of all steps by class or code, most frequent first."""
    found: Counter[str] = Counter()
    for step in steps:
        found.update(count_errors(connection, step.id, status))
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def _examples(
    connection: Connection, steps: Sequence[Job], status: ItemStatus, name: str
) -> list[ErrorExample]:
    """The first of a class or code, and in which step of several it came up."""
    found = [
        replace(example, error=f"stage {step.step.rpartition('.')[2]}: {example.error}")
        if len(steps) > 1
        else example
        for step in steps
        for example in example_errors(connection, step.id, status, name, EXAMPLES_PER_CLASS)
    ]
    return found[:EXAMPLES_PER_CLASS]


def _saving(
    connection: Connection, runtime: Runtime, job: Job, paid_nusd: int, unknown_nusd: int
) -> RoutedSaving | None:
    routing = Routing.of(job)
    stated = None if routing is None else runtime.catalog.models.get(routing.base.model)
    if stated is None:
        return None
    return routed_saving(tallies_of(connection, job.id), stated, paid_nusd, unknown_nusd)


def _stood_in(runtime: Runtime, job: Job, tier: str, model: str) -> bool:
    """Whether a tier has another first choice, as far as the catalogue and the keys at hand tell.

    The steps of a learned ladder stand in for nobody.
    """
    if job.ladder_policy_id is not None:
        return False
    routing = Routing.of(job)
    if routing is not None and routing.candidate(model) is not None:
        return False
    try:
        return pick_model(runtime.catalog, tier, job.pinned_model, runtime.is_usable).name != model
    except BatcherError:
        return False
