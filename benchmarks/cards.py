"""What the overnight cases share: a task that makes catalogue cards, and a submission as cron starts it."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from batcher.cli.submit import Way, submit_request
from batcher.planning.order import SubmitRequest
from batcher.runtime import Runtime

_TASK: Final = """
from typing import Literal
from pydantic import BaseModel
from batcher.tasks import Task, scorers

class Card(BaseModel):
    topic: Literal["river", "bridge", "road"]
    title: str

task = Task(
    name="cards", version=1, prompt="Make a catalogue card.", output=Card,
    scorer={{"topic": scorers.exact}}, correct_at=1.0,
    tier={tier!r}, ladder={ladder!r}, max_output_tokens={max_output_tokens},
)
"""


@dataclass(frozen=True)
class Printed:
    """What a start came to: its exit code, its JSON, and the lines that it logged."""

    code: int
    found: dict[str, Any]
    log: list[str]


def write_task(folder: Path, ladder: Sequence[str], max_output_tokens: int) -> Path:
    """Write the task into a folder; it starts on the last rung of its ladder. Returns its own folder."""
    made = folder / "cards"
    made.mkdir(parents=True)
    text = _TASK.format(tier=ladder[-1], ladder=tuple(ladder), max_output_tokens=max_output_tokens)
    (made / "task.py").write_text(text)
    return made


def submitted(runtime: Runtime, request: SubmitRequest, finish_by: str | None = None) -> Printed:
    """Run a request to its end, as ``batcher submit --yes --json`` does."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = submit_request(runtime, request, Way(yes=True, as_json=True, finish_by=finish_by))
    return Printed(code, json.loads(out.getvalue()), err.getvalue().splitlines())
