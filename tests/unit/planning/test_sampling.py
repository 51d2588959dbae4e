"""Who judges: the command line before the task, the task before the settings."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from batcher.catalog.models import load_catalog
from batcher.domain import Purpose
from batcher.planning.sampling import plan_sampling
from batcher.settings import Settings
from batcher.settings_tables import QualitySettings
from batcher.tasks import Task, scorers

PROSE = scorers.judged(by="gpt-4.1")


class Said(BaseModel):
    what: str


@pytest.mark.parametrize(
    ("command_line", "own", "settings", "judge"),
    [
        (None, {}, None, None),
        (None, {}, "gpt-4o", "gpt-4o"),
        (None, {"judge": "none"}, "gpt-4o", None),
        (None, {"judge": "gpt-4.1-mini"}, "gpt-4o", "gpt-4.1-mini"),
        ("gpt-4o", {"judge": "gpt-4.1-mini"}, None, "gpt-4o"),
        ("none", {"judge": "gpt-4.1-mini"}, None, None),
        (None, {"scorer": PROSE}, None, "gpt-4.1"),
        (None, {"scorer": PROSE}, "gpt-4o", "gpt-4.1"),
        (None, {"scorer": PROSE, "judge": "gpt-4.1-mini"}, "gpt-4o", "gpt-4.1-mini"),
        ("gpt-4o", {"scorer": PROSE, "judge": "gpt-4.1-mini"}, None, "gpt-4o"),
    ],
)
@pytest.mark.parametrize("purpose", [Purpose.ANSWER, Purpose.GOLDEN])
def test_the_judge_is_the_one_that_was_named_nearest_to_the_job(
    command_line: str | None, own: dict[str, Any], settings: str | None, judge: str | None, purpose: Purpose
) -> None:
    task = Task(name="say", version=1, prompt="Say it.", output=Said, **{"scorer": scorers.exact, **own})
    found = plan_sampling(
        task,
        load_catalog(Settings()),
        lambda _: True,
        QualitySettings(judge=settings),
        purpose=purpose,
        judge=command_line,
    )
    assert found.judge == judge
