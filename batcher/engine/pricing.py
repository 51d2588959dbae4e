"""What a job's pending items will cost: the most that their first calls can, and a likely figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Row, case, func, select

from batcher.catalog.models import Catalog, Model
from batcher.catalog.tokens import SCHEMA_TEMPLATE_TOKENS, TEMPLATE_TOKENS, estimate_tokens
from batcher.domain import Document, ItemStatus, Usage
from batcher.engine.lane import pick_model
from batcher.engine.submission import Usable
from batcher.errors import ConfigurationError
from batcher.money import cost_nusd, worst_case_nusd
from batcher.providers.factory import schema_bytes_as_sent
from batcher.store.jobs import Job
from batcher.store.tables import documents, items
from batcher.tasks.rendering import document_messages, text_overhead_bytes
from batcher.tasks.spec import TaskSpec

BYTES_PER_TOKEN: Final = 4
"""Of English prose; vendors' own rule of thumb."""

LIKELY_OUTPUT_SHARE: Final = 2
"""An answer is taken to be half as long as its limit, until a task's own history says better."""


@dataclass(frozen=True, slots=True)
class Price:
    """What the pending items cost, nano-dollars.

    Attributes:
        items: how many wait.
        calls: their first calls; more than items where documents are split.
        likely_nusd: at a usual answer's length.
        worst_nusd: what is reserved for these calls; repairs, retries and climbs come on top, under the caps.
    """

    items: int = 0
    calls: int = 0
    likely_nusd: int = 0
    worst_nusd: int = 0

    def __add__(self, other: Price) -> Price:
        return Price(
            self.items + other.items,
            self.calls + other.calls,
            self.likely_nusd + other.likely_nusd,
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
        try:
            model = pick_model(catalog, tier, job.pinned_model, is_usable)
        except ConfigurationError:
            continue
        total += _price_tier(connection, job, tier, model, spec, catalog)
    return total


def _price_tier(
    connection: Connection, job: Job, tier: str, model: Model, spec: TaskSpec, catalog: Catalog
) -> Price:
    """One tier's items; ``Binding.item_reservation_nusd`` in one query, and a test holds the two together."""
    schema_bytes = 0
    if "schema" in model.abilities:
        schema_bytes = schema_bytes_as_sent(catalog.providers[model.provider], spec.schema)
    texts = [message.text for message in document_messages(spec, Document(b"", ""), part=(999, 999))]
    overhead_bytes = text_overhead_bytes(spec)
    overhead_tokens = sum(map(estimate_tokens, texts)) + schema_bytes // BYTES_PER_TOKEN
    output_tokens = min(spec.max_output_tokens, model.max_output)
    room = min(model.practical_context, model.context - output_tokens) - overhead_tokens
    size = _size(connection, job.id, tier, max(1, room))
    count, calls = int(size.items), int(size.calls)
    schema_bound = calls * schema_bytes + count * SCHEMA_TEMPLATE_TOKENS if schema_bytes else 0
    part_answers = int(size.parts) * output_tokens * BYTES_PER_TOKEN
    images = int(size.images) * model.image_tokens
    input_bound = int(size.text_bytes) + calls * overhead_bytes + part_answers + schema_bound + images
    input_bound += count * TEMPLATE_TOKENS
    likely = Usage(
        input_tokens=int(size.text_bytes) // BYTES_PER_TOKEN + calls * overhead_tokens + images,
        output_tokens=calls * output_tokens // LIKELY_OUTPUT_SHARE,
    )
    worst_nusd = worst_case_nusd(input_bound, calls * output_tokens, model.prices)
    return Price(count, calls, min(cost_nusd(likely, model.prices), worst_nusd), worst_nusd)


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
