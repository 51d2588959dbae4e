"""On which rung a document starts before anything is asked: the first of the task's rules that fits it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from batcher.catalog.models import Catalog
from batcher.catalog.tokens import estimate_tokens
from batcher.documents.language import check_languages, language_of
from batcher.documents.records import Parsed
from batcher.domain import Purpose
from batcher.errors import ConfigurationError
from batcher.planning.choice import Usable, pick_model
from batcher.store.jobs import Job
from batcher.tasks.entry import Rule, pattern, rung_for
from batcher.tasks.spec import TaskSpec


class Traits:
    """What rules ask of a document; each is found out once, and only if a rule asks.

    Args:
        entry: the document.
    """

    def __init__(self, entry: Parsed) -> None:
        self.document = entry.document
        self.kind = entry.kind

    @cached_property
    def tokens(self) -> int:
        """How long its text is."""
        return estimate_tokens(self.document.text)

    @cached_property
    def language(self) -> str | None:
        """In which language it is written; None if that does not show."""
        return language_of(self.document.text)


_MEETS: Final[Mapping[str, Callable[[Traits, Any], bool]]] = {
    "kind": lambda traits, kind: traits.kind == kind,
    "has_images": lambda traits, wanted: bool(traits.document.images) is wanted,
    "min_tokens": lambda traits, tokens: traits.tokens >= tokens,
    "max_tokens": lambda traits, tokens: traits.tokens <= tokens,
    "matches": lambda traits, matches: pattern(matches).search(traits.document.text) is not None,
    "language": lambda traits, language: traits.language == language,
}
"""Whether a document meets a condition, by the condition's name; what costs least is asked first."""


def fits(rule: Rule, traits: Traits) -> bool:
    """Whether a document meets all conditions of a rule."""
    conditions = rule.conditions
    return all(meets(traits, conditions[name]) for name, meets in _MEETS.items() if name in conditions)


@dataclass(frozen=True)
class EntryRules:
    """A task's rules, and the rungs that they lead to.

    Attributes:
        rules: in order.
        texts: by the tier that a rule names, the rung on which a document of text then starts.
        pictures: the same for documents of pictures; None where no model sees them.
    """

    rules: tuple[Rule, ...]
    texts: Mapping[str, str]
    pictures: Mapping[str, str | None]

    def rung_of(self, entry: Parsed) -> str | None:
        """Where a document starts; None if no rule fits it, or nothing sees its pictures."""
        traits = Traits(entry)
        first = next((rule for rule in self.rules if fits(rule, traits)), None)
        if first is None:
            return None
        return self.pictures[first.tier] if entry.document.images else self.texts[first.tier]

    def moved(self) -> dict[str, str]:
        """The tiers that rules name and that another rung stands for, each with that rung."""
        return {tier: rung for tier, rung in self.texts.items() if rung != tier}


def entry_rules(
    catalog: Catalog, spec: TaskSpec, ladder: Sequence[str], pinned_model: str | None, is_usable: Usable
) -> EntryRules | None:
    """A task's rules on the rungs that have a model to use; None if it has none, or a model is pinned.

    Args:
        catalog: models and tiers.
        spec: the task, or its first step.
        ladder: the rungs that have a model to use, the job's own tier first.
        pinned_model: the only model that is to be asked.
        is_usable: whether a model can be called.

    Raises:
        ConfigurationError: if a rule asks for what cannot be found out on this machine.
    """
    if not spec.entry or pinned_model is not None or not ladder:
        return None
    if any(rule.language is not None for rule in spec.entry):
        check_languages()
    seeing = [rung for rung in ladder if _sees(catalog, rung, is_usable)]
    texts = {rule.tier: rung_for(rule.tier, spec.ladder, ladder) for rule in spec.entry}
    return EntryRules(
        rules=spec.entry,
        texts=texts,
        pictures={tier: _first_seeing(rung, ladder, seeing) for tier, rung in texts.items()},
    )


def entry_rules_of(job: Job, catalog: Catalog, is_usable: Usable) -> EntryRules | None:
    """The same of a job that is there; None of one whose documents another way leads to their models."""
    if not may_choose_entry(job):
        return None
    spec = TaskSpec.from_json(job.spec)
    return entry_rules(catalog, spec, job.ladder or (job.tier,), job.pinned_model, is_usable)


def may_choose_entry(job: Job) -> bool:
    """Whether rules and a router decide where a job's documents start.

    They do not where a model is pinned, evidence chooses it (``--floor``) or a learned ladder is climbed.
    """
    others = (job.pinned_model, job.routing, job.ladder_policy_id)
    return job.purpose is Purpose.ANSWER and all(other is None for other in others)


def _first_seeing(rung: str, ladder: Sequence[str], seeing: Sequence[str]) -> str | None:
    """The first rung from one up whose model sees pictures; else the last below it."""
    above = [one for one in ladder[ladder.index(rung) :] if one in seeing]
    return above[0] if above else next(iter(reversed(seeing)), None)


def _sees(catalog: Catalog, rung: str, is_usable: Usable) -> bool:
    try:
        return "vision" in pick_model(catalog, rung, None, is_usable).abilities
    except ConfigurationError:
        return False
