"""Who may judge a job's answers, and how far they are with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from batcher.catalog.models import Catalog, Model
from batcher.catalog.privacy import Place
from batcher.errors import CatalogError, ConfigurationError, UsageError
from batcher.planning.choice import PlaceOf, Usable, only_allowed
from batcher.planning.sampling import judge_models
from batcher.quality.judging_state import JudgingState, read_judging
from batcher.quality.sampling import Sampling
from batcher.routing.state import Routing
from batcher.store.jobs import Job
from batcher.tasks.spec import TaskSpec

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Judges:
    """The judges that jobs have here.

    Attributes:
        catalog: tiers and models.
        is_usable: whether a model can be called.
        place_of: where a model answers, for jobs whose documents may not go everywhere.
    """

    catalog: Catalog
    is_usable: Usable
    place_of: PlaceOf = lambda _: Place.VENDOR

    def usable_for(self, job: Job) -> Usable:
        """Which models may read the job's documents."""
        routing = Routing.of(job)
        return only_allowed(self.is_usable, self.place_of, None if routing is None else routing.privacy)

    def models_for(self, job: Job, judge: str) -> tuple[Model, ...]:
        """The models that a job's judge stands for, a tier or a model; first choice first.

        Raises:
            CatalogError: if there is no such tier or model.
            ConfigurationError: if none can be used.
        """
        return judge_models(self.catalog, judge, self.usable_for(job))

    def state_of(self, connection: Connection, job: Job) -> JudgingState | None:
        """How far the judging of a job's answers is, and why it waits if no judge can be asked from here."""
        sampling = Sampling.of(job)
        judge = None if sampling is None else sampling.judge
        is_judged = TaskSpec.from_json(job.spec).judged
        found = read_judging(connection, job.id, has_judge=judge is not None, judged=is_judged)
        if found is None or judge is None or not found.unasked:
            return found
        try:
            self.models_for(job, judge)
        except (CatalogError, ConfigurationError, UsageError) as error:
            return replace(found, reason=str(error), cannot_ask=True)
        return found
