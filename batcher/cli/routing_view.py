"""How a job is routed, for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from batcher.cli.output import iso_time, usd
from batcher.domain import JobState, Purpose
from batcher.money import format_usd
from batcher.routing.choice import percent
from batcher.routing.state import Routing

if TYPE_CHECKING:
    from batcher.planning.routed_saving import RoutedSaving
    from batcher.store.jobs import Job


def is_judge(job: Job) -> bool:
    """Whether a job judges the answers of another, which pays for it."""
    return job.purpose is Purpose.JUDGE and job.parent_id is not None


def where_words(job: Job, answered: Mapping[str, int]) -> str:
    """Who does a job's work or did it (``on tier economy``), how it is chosen, or for whom it judges.

    Args:
        job: the job.
        answered: documents by the model that answered them, most first.
    """
    routing = Routing.of(job)
    if routing is not None:
        has_ended = job.state in {JobState.DONE, JobState.CANCELLED}
        name = next(iter(answered), routing.model) if has_ended else routing.model
        return f"routed with a floor of {percent(routing.floor)}, {name}"
    if job.ladder_policy_id is not None:
        return f"on learned ladder {job.ladder_policy_id}"
    judges = f"as judge of job {job.parent_id} " if is_judge(job) else ""
    return f"{judges}on tier {job.tier}" + (f", {job.pinned_model}" if job.pinned_model else "")


def routing_lines(job: Job, saving: RoutedSaving | None) -> list[tuple[str, str]]:
    """Why the model was chosen, what is being learned, what it saved; nothing of a job that is not routed."""
    routing = Routing.of(job)
    if routing is None:
        return []
    return [("routing", routing.reason), ("learning", learning_words(routing)), ("saving", _saving(saving))]


def learning_words(routing: Routing) -> str:
    """What is being learned, and what that may take; "" if nothing is."""
    learning = routing.learning
    if learning is None:
        return ""
    on = ["documents with a known answer, in place of dearer calls"] if learning.known else []
    share = percent(routing.learning_share)
    on += [f"at most {share} of the others, for at most {share} of the spend"] if learning.share else []
    return f"{learning.model}, on {', and on '.join(on)}" if on else ""


def routing_json(job: Job, saving: RoutedSaving | None) -> dict[str, Any] | None:
    """The same as JSON values; None for a job that is not routed."""
    routing = Routing.of(job)
    if routing is None:
        return None
    return {
        "floor": routing.floor,
        "model": routing.model,
        "tier": routing.tier,
        "stated_model": routing.base.model,
        "reason": routing.reason,
        "learning": None if routing.learning is None else routing.learning.model,
        "learning_share": routing.learning_share,
        "privacy": routing.privacy.value,
        "candidates": [
            {"model": one.model, "tier": one.tier, "likely_usd": usd(round(one.cost_nusd))}
            for one in routing.candidates
        ],
        "excluded": {one.model: one.reason for one in routing.excluded},
        "proven": list(routing.proven),
        "refuted": list(routing.refuted),
        "moves": [
            {"at": iso_time(move.at), "model": move.model, "reason": move.reason} for move in routing.moves
        ],
        "saved_usd": None if saving is None else usd(saving.saved_nusd),
        "stated_model_usd": None if saving is None else usd(saving.instead_nusd),
        "paid_usd": None if saving is None else usd(saving.paid_nusd),
    }


def _saving(found: RoutedSaving | None) -> str:
    if found is None or not found.instead_nusd:
        return ""
    parts = [
        f"{format_usd(part)} of it for {what}"
        for part, what in (
            (found.judging_nusd, "judging"),
            (found.unknown_nusd, "calls whose outcome is not known"),
        )
        if part
    ]
    share = percent(round(found.saved_nusd / found.instead_nusd, 3))
    saved = f"{format_usd(found.saved_nusd)} ({share})" if found.saved_nusd > 0 else "nothing"
    return (
        f"{saved}: at the prices of {found.against} these answers would have cost"
        f" {format_usd(found.instead_nusd)}, and {format_usd(found.paid_nusd)} was paid"
        + (f" ({', '.join(parts)})" if parts else "")
    )
