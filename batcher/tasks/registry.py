"""Where tasks come from: the entry-point group ``batcher.tasks``, a folder with task.py, or a task.py."""

from __future__ import annotations

import difflib
import os
import sys
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final

from batcher.errors import TaskError, UnknownTaskError
from batcher.tasks.definition import Task
from batcher.tasks.loading import load_module, user_code

GROUP: Final = "batcher.tasks"


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """One line of ``batcher tasks list``.

    Attributes:
        name: what ``--task`` takes.
        description: one line by the author.
        tier: where it starts; "" if it cannot be loaded.
        floor: its quality floor; None if it cannot be loaded.
        origin: the package that brings it, with version.
        error: why it cannot be loaded, or "".
    """

    name: str
    description: str
    tier: str
    floor: float | None
    origin: str
    error: str = ""


def load_task(ref: str) -> Task:
    """The task of that name, or in that folder or file.

    Args:
        ref: an entry-point name; or the path of a folder that holds task.py, or of a Python file that defines
            ``task``. A name goes before a folder of the same name; write ``./name`` for the folder.

    Raises:
        UnknownTaskError: if there is none (with names that come close).
        TaskError: if its code is broken (with file and line).
    """
    points = _entry_points().get(ref, [])
    if len({point.value for point in points}) > 1:
        origins = " and ".join(_origin(point) for point in points)
        raise TaskError(f"Task {ref!r} is brought by {origins}. Uninstall one, or name a folder: --task PATH")
    if points:
        return _from_entry_point(points[0])
    path = Path(ref).expanduser()
    if ref and (_looks_like_path(ref) or path.exists()):
        return _from_path(path)
    close = difflib.get_close_matches(ref, list(_entry_points()), n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(close)}?" if close else "See: batcher tasks list"
    raise UnknownTaskError(f"There is no task {ref!r}, nor a folder of that name. {hint}")


def list_tasks() -> list[TaskInfo]:
    """All installed tasks by name; a broken one is listed with its error."""
    return [_info(point) for _, points in sorted(_entry_points().items()) for point in points]


def _entry_points() -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, []).append(point)
    return found


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"


def _info(point: EntryPoint) -> TaskInfo:
    try:
        task = _from_entry_point(point)
    except TaskError as error:
        return TaskInfo(point.name, "", "", None, _origin(point), str(error))
    return TaskInfo(point.name, task.description, task.tier, task.floor, _origin(point))


def _from_entry_point(point: EntryPoint) -> Task:
    with user_code(f"Loading task {point.name!r} of {_origin(point)}", _package_folder(point)):
        task = point.load()
    if not isinstance(task, Task):
        raise TaskError(f"The entry point {point.name!r} of {_origin(point)} is no Task but {task!r}.")
    file = getattr(sys.modules[point.module], "__file__", None)
    return replace(task, home=Path(file).resolve().parent if file else None, ref=point.name)


def _package_folder(point: EntryPoint) -> Path | None:
    """Where the package of an entry point lies, so that an error in it can name the line."""
    top = point.module.partition(".")[0]
    for entry in sys.path:
        for candidate in (Path(entry) / top, Path(entry) / f"{top}.py"):
            if candidate.exists():
                return candidate.resolve()
    return None


def _looks_like_path(ref: str) -> bool:
    return ref.endswith(".py") or ref.startswith((".", "~")) or "/" in ref or os.sep in ref


def _from_path(path: Path) -> Task:
    file = (path / "task.py" if path.is_dir() else path).resolve()
    if not file.is_file():
        what = (
            f"The folder {path} holds no task.py" if path.is_dir() else f"There is no file or folder {path}"
        )
        raise UnknownTaskError(f"{what}. Make one with: batcher tasks new DIR")
    task = getattr(load_module(file), "task", None)
    if not isinstance(task, Task):
        raise TaskError(f"{file} defines no `task`. It needs a line like: task = Task(name=..., ...)")
    ref = file.parent if file.name == "task.py" else file
    return replace(task, home=file.parent, ref=str(ref))
