"""Where a document starts: rules that an author writes, and a cheap model that is asked beforehand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from batcher.errors import TaskError

KINDS: Final = ("text", "html", "pdf", "office", "image")
"""What a source may be, as it is recognised by its content; a row of a table is text."""

_LANGUAGE: Final = re.compile(r"[a-z]{2,3}")
_LABEL: Final = re.compile(r"\w[\w-]{0,39}")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A document that meets all of these conditions starts on ``tier``. Of several rules the first counts.

    Attributes:
        tier: a rung of the ladder, not below the tier that the task states.
        min_tokens: it is at least so long, as plans and splitting count (see docs/writing-a-task.md).
        max_tokens: it is at most so long.
        kind: what its source is: ``text``, ``html``, ``pdf``, ``office`` or ``image``.
        language: in which language it is written, ISO 639-1. Needs the extra ``language``.
        has_images: whether it goes to the model as pictures: a picture, or pages without text.
        matches: a regular expression that is found somewhere in its text.

    Raises:
        TaskError: if it has no condition, or one that nothing can meet.
    """

    tier: str
    min_tokens: int | None = None
    max_tokens: int | None = None
    kind: str | None = None
    language: str | None = None
    has_images: bool | None = None
    matches: str | None = None

    def __post_init__(self) -> None:
        for wrong in self._faults():
            raise TaskError(f"A rule for tier {self.tier!r}: {wrong}.")

    def _faults(self) -> list[str]:
        lengths = [tokens for tokens in (self.min_tokens, self.max_tokens) if tokens is not None]
        faults = {
            "it has no condition, so it fits every document: state the tier in the task": not self.conditions,
            f"its kind must be one of {', '.join(KINDS)}": self.kind is not None and self.kind not in KINDS,
            f"its language {self.language!r} is no code as of ISO 639-1, such as 'de'": (
                self.language is not None and not _LANGUAGE.fullmatch(self.language)
            ),
            "min_tokens and max_tokens must not be negative": any(tokens < 0 for tokens in lengths),
            "no document is longer than max_tokens and shorter than min_tokens": (
                len(lengths) == 2 and lengths[0] > lengths[1]
            ),
        }
        found = [fault for fault, present in faults.items() if present]
        return [*found, *_pattern_faults(self.matches)]

    @property
    def conditions(self) -> dict[str, Any]:
        """What a document must meet, by name."""
        names = [one.name for one in fields(self) if one.name != "tier"]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def covers(self, other: Rule) -> bool:
        """Whether it surely fits every document that the other rule fits."""
        others = other.conditions
        return all(
            name in others and _is_wider(name, own, others[name]) for name, own in self.conditions.items()
        )

    def describe(self) -> str:
        """The rule in words: "at least 6,000 tokens, kind pdf -> premium"."""
        return f"{', '.join(_words(name, value) for name, value in self.conditions.items())} -> {self.tier}"

    def to_json(self) -> dict[str, Any]:
        """Tier and conditions; what is not asked for is left out."""
        return {"tier": self.tier, **self.conditions}


def _is_wider(name: str, own: Any, other: Any) -> bool:
    if name in ("min_tokens", "max_tokens"):
        return bool(own <= other if name == "min_tokens" else own >= other)
    return bool(own == other)


def _pattern_faults(matches: str | None) -> list[str]:
    if matches is None:
        return []
    try:
        pattern(matches)
    except re.error as error:
        return [f"matches {matches!r} is no regular expression: {error}"]
    return []


@lru_cache(maxsize=256)
def pattern(matches: str) -> re.Pattern[str]:
    """A rule's regular expression.

    Raises:
        re.error: if it is none.
    """
    return re.compile(matches)


def _words(name: str, value: Any) -> str:
    if name == "has_images":
        return "pictures" if value else "no pictures"
    if name == "matches":
        return f"matches {value!r}"
    return {
        "min_tokens": "at least {:,} tokens",
        "max_tokens": "at most {:,} tokens",
        "kind": "kind {}",
        "language": "language {}",
    }[name].format(value)


@dataclass(frozen=True, kw_only=True)
class Router:
    """A cheap model that is asked first what kind of document it is, and by that, where it starts.

    It is asked about documents of text for which no rule decides. If it fails, or answers none of the labels,
    the document starts on the tier that the task states.

    Attributes:
        tier: whose model is asked.
        prompt: what it is asked, in Jinja with the task's parameters: a ``Path`` relative to task.py, or the
            text itself. That it must answer with one of the labels is added.
        routes: the tier that a document starts on, by label; the label is one word.
        max_output_tokens: the output limit of the call: enough for one label.
        read_tokens: how much of a document it reads, from the beginning, about.
    """

    tier: str
    prompt: Path | str = field(repr=False)
    routes: Mapping[str, str]
    max_output_tokens: int = 8
    read_tokens: int = 1_000

    def faults(self) -> list[str]:
        """What is wrong with it, whatever the task."""
        labels = [str(label).casefold() for label in self.routes]
        faults = {
            "its router has fewer than two routes": len(labels) < 2,
            "two labels of its router differ only in case": len(set(labels)) < len(labels),
            "a label of its router must be one word": not all(_LABEL.fullmatch(label) for label in labels),
            "its router's max_output_tokens is not positive": self.max_output_tokens <= 0,
            "its router's read_tokens is not positive": self.read_tokens <= 0,
        }
        return [fault for fault, present in faults.items() if present]


@dataclass(frozen=True)
class RouterSpec:
    """A router as a job stores it, its prompt rendered. See :class:`Router`."""

    tier: str
    instructions: str = field(repr=False)
    routes: dict[str, str]
    max_output_tokens: int
    read_tokens: int


def entry_faults(rules: Sequence[Any], router: Any, tier: str, ladder: Sequence[str]) -> list[str]:
    """What is wrong with the rules and the router of a task whose documents start on a tier of a ladder."""
    if not all(isinstance(rule, Rule) for rule in rules):
        return ["entry must hold Rule(...) objects"]
    if router is not None and not isinstance(router, Router):
        return ["router must be a Router(...)"]
    above = list(ladder)[list(ladder).index(tier) :] if tier in ladder else [tier]
    told = [("a rule", rule.tier) for rule in rules]
    if router is not None:
        told += [("its router", rung) for rung in router.routes.values()]
    wrong = [
        f"{who} starts documents on {rung!r}, and its ladder from {tier!r} up is {', '.join(above)}"
        for who, rung in told
        if rung not in above
    ]
    return [*wrong, *(router.faults() if router is not None else [])]


def rung_for(tier: str, ladder: Sequence[str], usable: Sequence[str]) -> str:
    """The rung that stands for a tier that a rule or a route names.

    Args:
        tier: the tier.
        ladder: the rungs from where the job starts, cheapest first, whether they have a model to use or not.
        usable: those that have one, the job's own tier first.

    Returns:
        The first usable rung from ``tier`` up; the last below it if there is none; the job's own tier if it
        starts above ``tier``, or off the ladder.
    """
    if tier not in ladder:
        return usable[0]
    place = ladder.index(tier)
    above = [rung for rung in ladder[place:] if rung in usable]
    below = [rung for rung in ladder[:place] if rung in usable]
    return above[0] if above else below[-1] if below else usable[0]


def rules_of_json(stored: Sequence[Mapping[str, Any]]) -> tuple[Rule, ...]:
    """The rules that ``Rule.to_json`` wrote.

    Raises:
        TypeError: if a rule has a condition that this version does not know.
    """
    return tuple(Rule(**rule) for rule in stored)
