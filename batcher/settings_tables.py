"""The tables of ``batcher.toml`` that have fields of their own; ``batcher.settings`` reads them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class ProviderSettings(BaseModel):
    """A ``[providers.NAME]`` table: an endpoint to add, or fields of a built-in one to change."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["openai", "anthropic", "together", "local"] | None = Field(
        None, description="Which SDK speaks to it. Default for a new provider: openai (any compatible API)."
    )
    base_url: str | None = Field(None, description="Where it answers, e.g. http://gpu1:8000/v1")
    api_key_env: str | None = Field(
        None, description="The environment variable that holds the key; '' if the endpoint needs none."
    )
    output_limit_field: Literal["max_tokens", "max_completion_tokens"] | None = Field(
        None, description="How it spells the output limit. Default for a new provider: max_tokens."
    )
    price_percent: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="What your account pays here of the prices; 110 for a region's premium.",
    )


class ModelSettings(BaseModel):
    """A ``[models.NAME]`` table: a model to add, or fields of a built-in one to change.

    Prices are dollars per million tokens.
    """

    model_config = ConfigDict(extra="forbid")

    provider: str | None = Field(None, description="A provider's name.")
    id: str | None = Field(None, description="The vendor's pinned model id.")
    input: float | str | None = Field(None, description="Dollars per million input tokens.")
    output: float | str | None = Field(None, description="Dollars per million output tokens.")
    cached_input: float | str | None = Field(None, description="Dollars per million cached input tokens.")
    cache_write: float | str | None = Field(None, description="Dollars per million tokens written to cache.")
    batch_percent: int | None = Field(None, ge=0, le=100, description="What a Batch API charges of the list.")
    long_from: int | None = Field(None, gt=0, description="Input tokens past which a whole call costs more.")
    long_input: float | str | None = Field(None, description="input, of such a long call.")
    long_output: float | str | None = Field(None, description="output, of such a long call.")
    long_cached_input: float | str | None = Field(None, description="cached_input, of such a long call.")
    long_cache_write: float | str | None = Field(None, description="cache_write, of such a long call.")
    per_request: float | str | None = Field(None, description="Dollars for the call itself.")
    price_percent: int | None = Field(
        None, ge=1, le=1000, description="What you pay of these prices; stronger than the provider's."
    )
    reasoning_beyond_limit: int | None = Field(
        None,
        ge=0,
        description="Most tokens it can think beyond the output limit; 0 if the limit covers them.",
    )
    temperature: bool | None = Field(None, description="Whether its API takes a temperature.")
    context: int | None = Field(None, gt=0, description="Context window, tokens.")
    practical_context: int | None = Field(None, gt=0, description="Longer documents are split here, tokens.")
    max_output: int | None = Field(None, gt=0, description="Most output tokens the model allows.")
    abilities: list[Literal["schema", "vision", "batch", "logprobs"]] | None = Field(
        None, description="What its API can do."
    )
    image_tokens: int | None = Field(None, gt=0, description="Most tokens that one image can cost.")
    rpm: int | None = Field(None, gt=0, description="Requests per minute that your account allows.")
    tpm: int | None = Field(None, gt=0, description="Tokens per minute that your account allows.")
    itpm: int | None = Field(None, gt=0, description="Input tokens per minute, where counted apart.")
    otpm: int | None = Field(None, gt=0, description="Output tokens per minute, where counted apart.")
    rpd: int | None = Field(None, gt=0, description="Requests per day that your account allows.")
    concurrency: int | None = Field(None, gt=0, description="Calls in flight at most.")
    data: str | None = Field(None, description="Where document text goes, in words.")
    source: str | None = Field(None, description="Where the prices were read.")
    as_of: str | None = Field(None, description="When, YYYY-MM-DD.")
    extra: dict[str, Any] | None = Field(None, description="Further request body fields for this model.")


class QualitySettings(BaseModel):
    """The ``[quality]`` table: how answers are drawn for checking, and who judges them.

    As a variable it is ``BATCHER_QUALITY``, a JSON object. A task's own ``sample``, ``judge`` and
    ``scorers.judged(by=...)`` are stronger than these, and ``submit --sample`` and ``--judge`` stronger than
    those.
    """

    model_config = ConfigDict(extra="forbid")

    sample: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="The share of every job's answers that is drawn for checking; 0: none.",
    )
    at_least: int = Field(
        default=20,
        ge=0,
        description="So many first answers of each tier and model are drawn whatever the share.",
    )
    judge: str | None = Field(
        default=None,
        description="The tier or model that judges what was drawn and has no known answer. Unset or `none`:"
        " nobody does, and checking costs nothing.",
    )
    judge_own: bool = Field(default=False, description="Whether a model may judge its own answers.")
    seed: int | None = Field(
        default=None,
        ge=0,
        description="What the drawing begins with, to repeat it; unset: another for each job.",
    )


class RoutingSettings(BaseModel):
    """The ``[routing]`` table: whether the model is chosen by its measured accuracy, and what that may cost.

    As a variable it is ``BATCHER_ROUTING``, a JSON object. ``submit --floor`` turns routing on for one job.
    """

    model_config = ConfigDict(extra="forbid")

    route: bool = Field(
        default=False,
        description="Route every job by its task's floor, unless it names a model.",
    )
    learning_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="The most that learning about cheaper models may take, of a job's documents and of what"
        " it spends; 0: learn nothing.",
    )
    alpha: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="How likely it may be that a model is thought to reach the floor that does not, over all"
        " candidates and however often one looks.",
    )
    look_every: int = Field(
        default=10, ge=1, description="So many newly scored answers make the router look again."
    )
