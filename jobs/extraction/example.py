"""A model to try the extraction task with: --param model=jobs.extraction.example:Invoice."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Invoice(BaseModel):
    """What golden.jsonl of this folder holds. Empty texts stand for what a document does not say."""

    model_config = ConfigDict(extra="forbid")

    vendor: str = Field(max_length=100, description="Who sends the invoice")
    invoice_number: str = Field(max_length=40)
    date: str = Field(max_length=40, description="As written in the document")
    currency: str = Field(max_length=3, description='ISO 4217 code, such as "EUR"')
    total: float = Field(description="The amount to pay, as a number")
    items: list[Annotated[str, Field(max_length=80)]] = Field(max_length=10, description="What is billed")
