"""Fields out of a document: --param model=file.py:Model (pydantic) or --param schema=fields.schema.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from batcher.tasks import Task, load_model, load_schema, scorers


class Params(BaseModel):
    """One of the two. Neither is part of a result's identity; the schema that is read from it is."""

    model_config = ConfigDict(populate_by_name=True)

    model: str | None = Field(
        None, exclude=True, description="a pydantic model: path/to/file.py:Model or package.module:Model"
    )
    schema_file: str | None = Field(None, alias="schema", exclude=True, description="a JSON Schema file")

    @model_validator(mode="after")
    def _one_of_two(self) -> Params:
        if (self.model is None) == (self.schema_file is None):
            raise ValueError("give one of --param model=FILE.py:MODEL and --param schema=FILE.json")
        if self.schema_file:
            self.schema_file = str(Path(self.schema_file).resolve())
        if self.model and ".py:" in self.model:
            self.model = str(Path(self.model).resolve())
        return self


def fields(params: Params) -> type[BaseModel] | dict[str, Any]:
    """The pydantic model or the JSON Schema of the answer."""
    return load_model(params.model) if params.model else load_schema(params.schema_file or "")


task = Task(
    name="extraction",
    version=1,
    description="Fields out of a document: --param model=FILE.py:MODEL or schema=FILE.json",
    prompt=Path("prompt.md"),
    params=Params,
    output=fields,
    scorer=scorers.by_type,
    correct_at=0.9,  # one field of ten may be wrong
    floor=0.9,
    tier="economy",
    ladder=("economy", "standard", "premium"),
    max_output_tokens=1000,
    long_documents="merge",
    merge_prompt=Path("merge.md"),
    example={"model": "jobs.extraction.example:Invoice"},
)
