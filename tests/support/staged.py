"""Staged jobs for tests: a task of a few small steps in a folder of its own, submitted as a user would."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from sqlalchemy import select

from batcher.engine.submission import submit
from batcher.planning.order import Order, SubmitRequest, check_request
from batcher.runtime import Runtime
from batcher.store.jobs import Job
from batcher.store.stages import count_documents_of, steps_of
from batcher.store.tables import documents as documents_table
from tests.support.runs import rows as rows_of

TASK = """
from typing import Literal
from pydantic import BaseModel, Field
from batcher.tasks import Stage, Task, scorers

class Params(BaseModel):
    tone: Literal["plain", "terse"] = "plain"

class Facts(BaseModel):
    fact: str = Field(max_length=200)
    number: int = Field(ge=0, le=10**12)

class Verdict(BaseModel):
    label: str = Field(max_length=200)

task = Task(
    name="staged", version=1, params=Params,
    before=(
        Stage(name="extract", prompt="EXTRACT what is said.", output=Facts, max_output_tokens=100),
    ),
    prompt="JUDGE it {{ tone }}.", output=Verdict, scorer={"label": scorers.exact},
    tier="premium", max_output_tokens=120,
)
"""
"""``extract`` on economy, then the verdict on premium. The number makes simulated answers differ."""


def write_task(folder: Path, text: str = TASK) -> Path:
    """Write the task; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.py").write_text(text)
    return folder


def write_table(file: Path, count: int) -> Path:
    """A table of so many small different documents, named by their number."""
    lines = (json.dumps({"id": str(n), "text": f"text number {n:04} of them"}) for n in range(count))
    file.write_text("".join(line + "\n" for line in lines))
    return file


def order_of(runtime: Runtime, task: Path, table: Path, **request: Any) -> Order:
    """The checked request."""
    wanted = SubmitRequest(paths=(str(table),), task=str(task), **request)
    return check_request(wanted, runtime.catalog, runtime.is_usable)


def staged_job(runtime: Runtime, task: Path, table: Path, **request: Any) -> Job:
    """A job whose corpus is in the store, ready to run."""
    order = order_of(runtime, task, table, **request)
    return submit(runtime.store, runtime.ledger, order, max_file_bytes=10**7).job


def without_hand_over(runtime: Runtime) -> Runtime:
    """The same runtime, but its engines leave every answer in the step that gave it."""
    runtime.__dict__["hand_over"] = None
    return runtime


def with_hand_over(runtime: Runtime) -> Runtime:
    """The same runtime as it was before ``without_hand_over``."""
    runtime.__dict__.pop("hand_over", None)
    return runtime


def steps(runtime: Runtime, job: Job) -> list[Job]:
    """The jobs of its steps as they now stand, in order."""
    with runtime.store.read() as connection:
        return steps_of(connection, job.id)


def documents(runtime: Runtime, job: Job) -> dict[str, int]:
    """How many of its documents stand where, those that there are."""
    with runtime.store.read() as connection:
        found = count_documents_of(connection, [job.id])[job.id]
    return {status.value: count for status, count in found.items() if count}


def sources(runtime: Runtime, job_id: int) -> list[str]:
    """The sources of a job's items, each as often as it is there."""
    return sorted(row.source for row in rows_of(runtime, "items") if row.job_id == job_id)


def items_of(runtime: Runtime, job_id: int) -> list[Any]:
    """A job's items, by id."""
    return [row for row in rows_of(runtime, "items") if row.job_id == job_id]


def output_of(runtime: Runtime, item: Any) -> str:
    """The answer of an item that is done, JSON text."""
    return next(str(row.output) for row in rows_of(runtime, "results") if row.id == item.result_id)


def text_of(runtime: Runtime, document_hash: bytes) -> str:
    """The text of a stored document."""
    query = select(documents_table.c.body).where(documents_table.c.hash == document_hash)
    with runtime.store.read() as connection:
        return zlib.decompress(connection.execute(query).scalar_one()).decode()
