"""What a document is about, and for whom: topics, keywords, entities, level, audience, language, summary."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from batcher.tasks import Task, scorers

Name = Annotated[str, Field(min_length=1, max_length=40)]
Names = Annotated[list[Name], Field(max_length=4)]


class Entities(BaseModel):
    """What the document names, by kind. An empty list for a kind that it does not name."""

    model_config = ConfigDict(extra="forbid")

    people: Names
    organisations: Names
    places: Names
    dates: Names
    products: Names


class Enrichment(BaseModel):
    """The answer. Every text and list is bounded, so that the longest answer fits the output limit."""

    model_config = ConfigDict(extra="forbid")

    language: str = Field(min_length=2, max_length=3, description='ISO 639-1 code, such as "en"')
    topics: list[Name] = Field(min_length=1, max_length=4, description="What it is about, main one first")
    keywords: list[Name] = Field(min_length=1, max_length=6, description="Search words from the text")
    entities: Entities
    reading_level: Literal["elementary", "middle_school", "high_school", "university", "expert"]
    target_audience: str = Field(min_length=1, max_length=60, description="Who it is written for")
    summary: str = Field(
        min_length=1, max_length=500, description="One paragraph, in the document's language"
    )


task = Task(
    name="enrichment",
    version=1,
    description="Topics, keywords, entities, reading level, audience, language and a summary.",
    prompt=Path("prompt.md"),
    merge_prompt=Path("merge.md"),
    output=Enrichment,
    scorer={
        "language": scorers.exact,
        "topics": scorers.word_f1,
        "keywords": scorers.word_f1,
        "entities": dict.fromkeys(Entities.model_fields, scorers.set_f1),
        "reading_level": scorers.exact,
        "target_audience": scorers.word_f1,
        "summary": scorers.word_f1,
    },
    correct_at=0.5,  # wording is free: half of what a person wrote counts as right
    floor=0.8,
    tier="economy",
    ladder=("economy", "standard", "premium"),
    max_output_tokens=600,
    long_documents="merge",
)
