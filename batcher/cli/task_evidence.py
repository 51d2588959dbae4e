"""What the store measured of a task, for commands that give advice; they write nothing."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from batcher.errors import UnknownTaskError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batcher.planning.history import History
    from batcher.runtime import Runtime
    from batcher.tasks.spec import TaskSpec


def read_spec(ref: str | None, params: Sequence[str], kinds: Sequence[str] = ()) -> TaskSpec | None:
    """The task that ``--task`` names, its parameters filled in; None if none was named.

    Args:
        ref: a task's name or path.
        params: assignments, ``K=V``.
        kinds: names of kinds of work, for whoever takes one for a task.

    Raises:
        UsageError: if there are parameters and no task, or the name is that of a kind of work.
        TaskError: if there is no such task, or a parameter is missing or wrong.
    """
    from batcher.tasks.params import parse_assignments
    from batcher.tasks.registry import load_task

    if ref is None:
        if params:
            raise UsageError("--param goes with --task")
        return None
    try:
        task = load_task(ref)
    except UnknownTaskError as error:
        if ref in kinds:
            raise UsageError(f"{error}. {ref!r} is a kind of work; say it without --task") from error
        raise
    return task.spec(parse_assignments(params))


def read_task_history(runtime: Runtime, spec: TaskSpec | None) -> History:
    """What past runs measured of a task; writes nothing, and makes no store where there is none."""
    from batcher.planning.history import History, read_history
    from batcher.store.schema import open_to_read

    store = None if spec is None else open_to_read(runtime.settings.store_url())
    if store is None or spec is None:
        return History()
    with closing(store), store.read() as connection:
        return read_history(connection, spec, runtime.catalog)
