"""What a task author imports: ``Task``, the scorers, and loaders for models and schemas.

This is the one door between batcher and ``jobs/`` or a user's own task. Importing it costs pydantic and
nothing heavier.
"""

from __future__ import annotations

from batcher.errors import TaskError
from batcher.tasks import scorers
from batcher.tasks.definition import Task
from batcher.tasks.entry import Router, Rule
from batcher.tasks.loading import load_model, load_schema
from batcher.tasks.scorers import Score, Scorer
from batcher.tasks.stages import Stage

__all__ = [
    "Router",
    "Rule",
    "Score",
    "Scorer",
    "Stage",
    "Task",
    "TaskError",
    "load_model",
    "load_schema",
    "scorers",
]
