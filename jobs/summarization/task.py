"""A short summary, with the points that matter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from batcher.tasks import Task, scorers


class Summary(BaseModel):
    """The answer."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field(min_length=1, max_length=100, description="A headline")
    summary: str = Field(min_length=1, max_length=800, description="One paragraph of two to five sentences")
    key_points: list[Annotated[str, Field(min_length=1, max_length=150)]] = Field(
        min_length=1, max_length=5, description="What a reader must know, most important first"
    )


task = Task(
    name="summarization",
    version=1,
    description="A headline, a one-paragraph summary and up to five key points.",
    prompt=Path("prompt.md"),
    merge_prompt=Path("merge.md"),
    output=Summary,
    scorer={"summary": scorers.word_f1, "key_points": scorers.word_f1},
    correct_at=0.4,  # shared words say little about a good summary: a smoke test, use a judge for more
    floor=0.8,
    tier="economy",
    ladder=("economy", "standard", "premium"),
    max_output_tokens=500,
    long_documents="merge",
)
