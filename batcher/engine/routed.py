"""The models behind a routed job's lanes: which one answers first, and who stands in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from batcher.catalog.models import Catalog, Model
from batcher.catalog.privacy import Place, Privacy
from batcher.errors import ConfigurationError
from batcher.planning.choice import Usable, only_allowed, usable_models
from batcher.routing.state import Routing, Target
from batcher.store.jobs import Job


@dataclass(frozen=True, slots=True)
class Staff:
    """The models of a lane, first choice first, and the rung that they work on."""

    tier: str
    models: tuple[Model, ...]


@dataclass(frozen=True)
class Staffing:
    """Finds the models of lanes.

    Args:
        catalog: models and tiers.
        is_usable: whether a model's provider has what it needs.
        place_of: where a model answers; None: nobody can tell, and private documents go nowhere.
    """

    catalog: Catalog
    is_usable: Usable
    place_of: Callable[[Model], Place] | None = None

    def of(self, job: Job, queue: str, *, learns: bool = False) -> Staff:
        """The models for documents that wait on a queue.

        On the queue of a routed job the model in force comes first, then the others of its rung that were not
        shown to miss the floor, then the stated one. To learn, the candidate comes first, then the model in
        force. Above that queue a rung's own models work, as in a job that is not routed.

        Raises:
            ConfigurationError: if none can be used, or documents may not go where they are.
        """
        routing = Routing.of(job)
        if routing is None:
            return Staff(queue, usable_models(self.catalog, queue, job.pinned_model, self.is_usable))
        allowed = self._allowed(routing)
        if queue != routing.queue:
            found = [model for model in self.catalog.tier(queue) if allowed(model)]
            return Staff(queue, self._checked(found, job, routing))
        if learns and routing.learning is not None:
            names, tier = [routing.learning.model, routing.model], routing.learning.tier
        else:
            names, tier = self._in_force(routing), routing.tier
        models = [self.catalog.models[name] for name in dict.fromkeys(names) if name in self.catalog.models]
        return Staff(tier, self._checked([model for model in models if allowed(model)], job, routing))

    def _in_force(self, routing: Routing) -> list[str]:
        target: Target = routing.target
        others = [name for name in self.catalog.tiers.get(target.tier, ()) if name not in routing.refuted]
        return [target.model, *others, routing.base.model]

    def _allowed(self, routing: Routing) -> Usable:
        if self.place_of is None and routing.privacy is not Privacy.STANDARD:
            return lambda _: False
        return only_allowed(self.is_usable, self.place_of or (lambda _: Place.VENDOR), routing.privacy)

    def _checked(self, models: list[Model], job: Job, routing: Routing) -> tuple[Model, ...]:
        if models:
            return tuple(models)
        raise ConfigurationError(
            f"No model that job {job.id} may use can be called here: its privacy is {routing.privacy}, and a"
            " model needs its key. See: batcher models list"
        )
