"""What the tests of planning share: a task, a catalogue with round prices, and evidence."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic import BaseModel, Field

from batcher.catalog.models import Catalog, Limits, Model, load_catalog
from batcher.domain import Prices
from batcher.planning.answer_length import Length
from batcher.planning.evidence import Evidence, Source
from batcher.settings import Settings
from batcher.tasks import Task, scorers

MODEL = "gpt-4o-mini"


class Answer(BaseModel):
    title: str = Field(max_length=80, description="A title")


def make_task(**changes: Any) -> Task:
    """A task that splits long documents, on the tiers economy and standard."""
    given: dict[str, Any] = {
        "name": "cards",
        "version": 1,
        "prompt": "Make a card.",
        "output": Answer,
        "scorer": scorers.exact,
        "tier": "economy",
        "ladder": ("economy", "standard"),
        "max_output_tokens": 100,
        "long_documents": "merge",
    }
    return Task(**given | changes)


def make_model(catalog: Catalog, **changes: Any) -> Model:
    """GPT-4o mini at $1 and $10 per million tokens, without limits."""
    prices = Prices(input_nusd=10**9, output_nusd=10**10, cached_nusd=5 * 10**8, cache_write_nusd=2 * 10**9)
    given: dict[str, Any] = {"prices": prices, "limits": Limits(rpm=None, tpm=None)}
    return dataclasses.replace(catalog.model(MODEL), **given | changes)


def make_catalog(**changes: Any) -> Catalog:
    """The built-in one with ``make_model`` in it, alone on tier economy."""
    catalog = load_catalog(Settings.model_construct())
    return dataclasses.replace(
        catalog,
        models={**catalog.models, MODEL: make_model(catalog, **changes)},
        tiers={**catalog.tiers, "economy": (MODEL,)},
    )


def make_evidence(**changes: Any) -> Evidence:
    """Answers of 20 tokens, short ones of 10; nothing measured."""
    given: dict[str, Any] = {"output": Length(20, 10), "output_from": Source.HINT}
    return Evidence(**given | changes)
