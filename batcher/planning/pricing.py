"""What a job's pending items will cost: a likely figure, and the most that they can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Row, case, func, select

from batcher.catalog.models import Catalog
from batcher.catalog.tokens import SCHEMA_TEMPLATE_TOKENS, TEMPLATE_TOKENS
from batcher.domain import ItemStatus, Usage
from batcher.errors import ConfigurationError
from batcher.money import cost_nusd, worst_case_nusd
from batcher.planning.choice import Usable, pick_model
from batcher.planning.fit import BYTES_PER_TOKEN, Fit
from batcher.providers.factory import schema_bytes_as_sent
from batcher.store.jobs import Job
from batcher.store.tables import documents, items
from batcher.tasks.rendering import REPAIR_OVERHEAD_BYTES
from batcher.tasks.spec import TaskSpec

LIKELY_OUTPUT_SHARE: Final = 2
"""An answer is taken to be half as long as its limit, until a task's own history says better."""


@dataclass(frozen=True, slots=True)
class Price:
    """What the pending items cost, nano-dollars.

    Attributes:
        items: how many wait.
        calls: their first calls; more than items where documents are split.
        likely_nusd: at a usual answer's length, each valid at the first try.
        first_nusd: what is reserved for the first calls.
        worst_nusd: if every call must be repaired, on every rung of the ladder. Calls whose outcome stays
            unknown come on top; what they can cost is bounded by the caps alone.
    """

    items: int = 0
    calls: int = 0
    likely_nusd: int = 0
    first_nusd: int = 0
    worst_nusd: int = 0

    def __add__(self, other: Price) -> Price:
        return Price(
            self.items + other.items,
            self.calls + other.calls,
            self.likely_nusd + other.likely_nusd,
            self.first_nusd + other.first_nusd,
            self.worst_nusd + other.worst_nusd,
        )


def price_pending(connection: Connection, job: Job, catalog: Catalog, is_usable: Usable) -> Price:
    """Price a job's pending items; those of a tier without a usable model are left out."""
    spec = TaskSpec.from_json(job.spec)
    tiers = connection.execute(
        select(items.c.tier)
        .where(items.c.job_id == job.id, items.c.status == ItemStatus.PENDING.value)
        .distinct()
    ).scalars()
    total = Price()
    for tier in tiers.all():
        first = _fit(job, tier, spec, catalog, is_usable)
        if first is None:
            continue
        above = [_fit(job, rung, spec, catalog, is_usable) for rung in _rungs_above(job, tier)]
        total += _price_tier(connection, job, tier, [first, *(fit for fit in above if fit is not None)])
    return total


def _rungs_above(job: Job, tier: str) -> list[str]:
    """The tiers that an item of this tier may climb to."""
    ladder = list(job.ladder)
    return ladder[ladder.index(tier) + 1 :] if tier in ladder and job.pinned_model is None else []


def _fit(job: Job, tier: str, spec: TaskSpec, catalog: Catalog, is_usable: Usable) -> Fit | None:
    try:
        model = pick_model(catalog, tier, job.pinned_model, is_usable)
    except ConfigurationError:
        return None
    enforced = "schema" in model.abilities
    schema_bytes = schema_bytes_as_sent(catalog.providers[model.provider], spec.schema) if enforced else 0
    return Fit(spec, model, schema_bytes)


def _price_tier(connection: Connection, job: Job, tier: str, fits: list[Fit]) -> Price:
    """One tier's items, on its own model first and then on each rung above."""
    sizes = [_size(connection, job.id, tier, max(1, fit.document_tokens)) for fit in fits]
    first, size = fits[0], sizes[0]
    count, calls = int(size.items), int(size.calls)
    images = int(size.images) * first.model.image_tokens
    likely = Usage(
        input_tokens=int(size.text_bytes) // BYTES_PER_TOKEN + calls * first.overhead_tokens + images,
        output_tokens=calls * first.output_tokens // LIKELY_OUTPUT_SHARE,
    )
    firsts = [_first_calls_nusd(fit, size) for fit, size in zip(fits, sizes, strict=True)]
    repairs = sum(_repairs_nusd(fit, size) for fit, size in zip(fits, sizes, strict=True))
    return Price(
        count, calls, min(cost_nusd(likely, first.model.prices), firsts[0]), firsts[0], sum(firsts) + repairs
    )


def _first_calls_nusd(fit: Fit, size: Row[tuple[int, int, int, int, int]]) -> int:
    """``Fit.item_reservation_nusd`` of all items in one sum; a test holds the two together."""
    count, calls = int(size.items), int(size.calls)
    schema_bound = calls * fit.schema_bytes + count * SCHEMA_TEMPLATE_TOKENS if fit.schema_bytes else 0
    part_answers = int(size.parts) * fit.output_tokens * BYTES_PER_TOKEN
    images = int(size.images) * fit.model.image_tokens
    input_bound = int(size.text_bytes) + calls * fit.overhead_bytes + part_answers + schema_bound + images
    return worst_case_nusd(input_bound + count * TEMPLATE_TOKENS, calls * fit.output_tokens, fit.model.prices)


def _repairs_nusd(fit: Fit, size: Row[tuple[int, int, int, int, int]]) -> int:
    """One repair for each first call: the same again, with the broken answer and what is wrong with it."""
    told = worst_case_nusd(int(size.calls) * REPAIR_OVERHEAD_BYTES, 0, fit.model.prices)
    return _first_calls_nusd(fit, size) + told


def _size(connection: Connection, job_id: int, tier: str, room: int) -> Row[tuple[int, int, int, int, int]]:
    """Items, bytes, images, parts of split documents, and calls."""
    parts = 1 + documents.c.text_bytes // room
    return connection.execute(
        select(
            func.count().label("items"),
            func.coalesce(func.sum(documents.c.text_bytes), 0).label("text_bytes"),
            func.coalesce(func.sum(documents.c.image_count), 0).label("images"),
            func.coalesce(func.sum(case((parts > 1, parts), else_=0)), 0).label("parts"),
            func.coalesce(func.sum(case((parts > 1, parts + 1), else_=1)), 0).label("calls"),
        )
        .select_from(items)
        .join(documents, documents.c.hash == items.c.document_hash)
        .where(items.c.job_id == job_id, items.c.tier == tier, items.c.status == ItemStatus.PENDING.value)
    ).one()
