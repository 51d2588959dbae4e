"""A lane: one job's work on one tier, bound to the model that does it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from batcher.catalog.models import Catalog, Model
from batcher.domain import Document, Image, Purpose
from batcher.engine.binding import Binding
from batcher.planning.choice import usable_models
from batcher.providers.base import Provider
from batcher.providers.factory import schema_bytes_as_sent
from batcher.store.database import Store
from batcher.store.jobs import Job
from batcher.store.leases import QueuedItem
from batcher.store.tables import document_images
from batcher.tasks.answers import AnswerParser
from batcher.tasks.spec import TaskSpec

if TYPE_CHECKING:
    from batcher.tasks.definition import Task

IDENTICAL_ERRORS_LIMIT: Final = 3
"""The same request error this many times in a row on a lane that has had no success stops the lane."""

IDENTICAL_ERRORS_LIMIT_AFTER_SUCCESS: Final = 10
"""And on one whose requests have worked: then it is the documents that differ, and three in a row come by
chance (at 8 % of such answers, within a hundred documents)."""


@dataclass(eq=False)
class Lane:
    """Everything that the items of one job and tier share.

    Attributes:
        bindings: the models that may do the work: the first does, the others stand in when it is down.
        dead: why a model takes no more calls, by key: its account, or requests that it always refuses.
    """

    job: Job
    spec: TaskSpec
    tier: str
    bindings: tuple[Binding, ...]
    parser: AnswerParser
    dead: dict[str, str] = field(default_factory=dict)
    _last_error: str = field(default="", repr=False)
    _repeated: int = 0
    _has_worked: bool = False

    @property
    def first(self) -> Binding:
        """The model that does the work while nothing is wrong."""
        return self.bindings[0]

    @property
    def stopped(self) -> str | None:
        """Why the lane takes no more work, or None while one of its models can do it."""
        return "; ".join(self.dead.values()) if len(self.dead) == len(self.bindings) else None

    @property
    def purpose(self) -> Purpose:
        """What its calls are paid for: what its job is for, or an escalation above the tier it began on."""
        climbed = self.job.purpose is Purpose.ANSWER and self.tier != self.job.tier
        return Purpose.ESCALATION if climbed else self.job.purpose

    def stop(self, binding: Binding, reason: str) -> None:
        """Send nothing more to a model: no call can succeed until somebody acts."""
        self.dead[binding.key] = reason

    def next_rung(self) -> str | None:
        """The tier above this one on the job's ladder, or None."""
        ladder = list(self.job.ladder)
        if self.job.pinned_model is not None or self.tier not in ladder:
            return None
        above = ladder[ladder.index(self.tier) + 1 :]
        return above[0] if above else None

    def note_request_error(self, error: str) -> bool:
        """Count a request error; whether it came so often in a row that the lane must stop."""
        self._repeated = self._repeated + 1 if error == self._last_error else 1
        self._last_error = error
        limit = IDENTICAL_ERRORS_LIMIT_AFTER_SUCCESS if self._has_worked else IDENTICAL_ERRORS_LIMIT
        return self._repeated >= limit

    def note_success(self) -> None:
        """Forget earlier request errors."""
        self._repeated = 0
        self._has_worked = True


class NoLaneError(Exception):
    """A lane has to be made first, which may take seconds.

    Attributes:
        job: whose.
        tier: on which.
    """

    def __init__(self, job: Job, tier: str) -> None:
        super().__init__(f"job {job.id} on {tier}")
        self.job = job
        self.tier = tier


class LaneFactory:
    """Makes lanes and keeps them for the life of an engine.

    Args:
        catalog: models and tiers.
        get_provider: the pooled client of a provider, by name.
        account_of: a name for the account behind a provider, by the provider's name.
        is_usable: whether a model's provider has what it needs (a key, or needs none).
        load_task: the task's code for its own validators, or None where it cannot be loaded.
        timeout_s: wall-clock limit of one call.
    """

    def __init__(
        self,
        catalog: Catalog,
        get_provider: Callable[[str], Provider],
        account_of: Callable[[str], str],
        is_usable: Callable[[Model], bool],
        load_task: Callable[[TaskSpec], Task | None],
        timeout_s: float,
    ) -> None:
        self._catalog = catalog
        self._get_provider = get_provider
        self._account_of = account_of
        self._is_usable = is_usable
        self._load_task = load_task
        self._timeout_s = timeout_s
        self._lanes: dict[tuple[int, str], Lane] = {}

    def lane(self, job: Job, tier: str) -> Lane:
        """The lane of a job on a tier.

        Raises:
            ConfigurationError: if no model of the tier can be used.
        """
        known = self._lanes.get((job.id, tier))
        if known is None:
            known = self._lanes[job.id, tier] = self._make(job, tier)
        return known

    def made(self, job: Job, tier: str) -> Lane:
        """``lane``, but quick.

        Raises:
            NoLaneError: if it has to be made first.
        """
        known = self._lanes.get((job.id, tier))
        if known is None:
            raise NoLaneError(job, tier)
        return known

    def forget(self, job_id: int) -> None:
        """Drop a job's lanes, with what stopped them."""
        for key in [key for key in self._lanes if key[0] == job_id]:
            del self._lanes[key]

    def _make(self, job: Job, tier: str) -> Lane:
        spec = TaskSpec.from_json(job.spec)
        models = usable_models(self._catalog, tier, job.pinned_model, self._is_usable)
        bindings = tuple(self._bind(spec, model) for model in models)
        return Lane(job, spec, tier, bindings, AnswerParser(spec, self._load_task(spec)))

    def _bind(self, spec: TaskSpec, model: Model) -> Binding:
        info = self._catalog.providers[model.provider]
        return Binding(
            spec=spec,
            model=model,
            provider=self._get_provider(model.provider),
            kind=info.kind,
            account=self._account_of(model.provider),
            timeout_s=self._timeout_s,
            schema_bytes=schema_bytes_as_sent(info, spec.schema) if "schema" in model.abilities else 0,
        )


def load_document(item: QueuedItem, images: Sequence[Image]) -> Document:
    """The document of a leased item."""
    text = zlib.decompress(item.body).decode()
    return Document(hash=item.document_hash, text=text, images=tuple(images))


def read_images(store: Store, document_hash: bytes) -> tuple[Image, ...]:
    """The pages or the picture of a document of images."""
    query = (
        select(document_images)
        .where(document_images.c.hash == document_hash)
        .order_by(document_images.c.page)
    )
    with store.read() as connection:
        return tuple(Image(row.mime, row.data, row.width, row.height) for row in connection.execute(query))
