"""Support calls, scored for compliance in two steps: facts are extracted cheaply, the judgement is left to a
strong model, which reads the extracted facts and not the call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from batcher.tasks import Stage, Task, scorers

Quote = Annotated[str, Field(min_length=1, max_length=200)]


class Facts(BaseModel):
    """What was said in the call, as far as the rules are concerned. It judges nothing."""

    model_config = ConfigDict(extra="forbid")

    agent_name: str = Field(min_length=1, max_length=60)
    call_id: str = Field(min_length=1, max_length=20)
    said_recorded: bool = Field(description="Whether the agent said so")
    identity_checked: bool = Field(description="Whether two details of the account were asked for")
    promises: list[Quote] = Field(max_length=4, description="What was promised or guaranteed, quoted")
    pressure: list[Quote] = Field(max_length=4, description="What was said to hurry the caller, quoted")
    secrets_asked: list[Quote] = Field(
        max_length=4, description="Passwords, PINs or full card numbers asked for, quoted"
    )


Violation = Literal["no_recording_notice", "no_identity_check", "guarantee", "pressure", "asked_for_secret"]


class Report(BaseModel):
    """The answer: one call's compliance."""

    model_config = ConfigDict(extra="forbid")

    agent_name: str = Field(min_length=1, max_length=60)
    call_id: str = Field(min_length=1, max_length=20)
    score: float = Field(ge=0, le=1, description="1 without a violation, 0 at worst")
    violations: list[Violation] = Field(max_length=5)
    recommended_action: Literal["none", "coach", "review", "escalate"]


task = Task(
    name="compliance",
    version=1,
    description="Scores support calls for compliance: facts cheaply, the judgement by a strong model.",
    before=(
        Stage(
            name="extract",
            prompt=Path("extract.md"),
            output=Facts,
            tier="economy",
            max_output_tokens=700,
            typical_output_tokens=120,
        ),
    ),
    prompt=Path("score.md"),
    output=Report,
    scorer={
        "agent_name": scorers.normalised,
        "call_id": scorers.exact,
        "score": scorers.numeric(0.1),
        "violations": scorers.set_f1,
        "recommended_action": scorers.exact,
    },
    correct_at=0.8,
    floor=0.8,
    tier="premium",
    max_output_tokens=200,
)
