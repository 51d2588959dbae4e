"""One label out of a list that the user gives: --param labels=a,b,c or labels=@labels.txt (one per line)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, field_validator

from batcher.tasks import Task, scorers


class Params(BaseModel):
    """What the user gives."""

    labels: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(
        min_length=2, max_length=1000, description="the labels to choose from: a,b,c or @FILE, one per line"
    )

    @field_validator("labels")
    @classmethod
    def _once_each(cls, labels: list[str]) -> list[str]:
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"given twice: {', '.join(twice)}")
        return labels


def answer(params: Params) -> dict[str, Any]:
    """JSON Schema of the answer."""
    return {
        "type": "object",
        "properties": {"label": {"type": "string", "enum": params.labels}},
        "required": ["label"],
        "additionalProperties": False,
    }


task = Task(
    name="classification",
    version=1,
    description="One label out of a list: --param labels=a,b,c or labels=@FILE",
    prompt=Path("prompt.md"),
    params=Params,
    output=answer,
    scorer={"label": scorers.exact},
    correct_at=1.0,
    floor=0.9,
    tier="economy",
    ladder=("economy", "standard", "premium"),
    max_output_tokens=100,
    long_documents="merge",
    merge_prompt=Path("merge.md"),
    example={"labels": "billing,delivery,technical problem,praise,other"},
)
