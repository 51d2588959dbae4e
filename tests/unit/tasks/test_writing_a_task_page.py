"""The task that docs/writing-a-task.md shows is one that works, and its tables are complete."""

from __future__ import annotations

import re
from pathlib import Path

from batcher.tasks import Task, scorers
from batcher.tasks.checking import check_task

PAGE = (Path(__file__).parents[3] / "docs" / "writing-a-task.md").read_text(encoding="utf-8")


def _block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found.group(1)


def test_the_task_on_the_page_works(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(_block("python"), encoding="utf-8")
    (tmp_path / "prompt.md").write_text(
        "Read the incident report and fill in the fields.\n", encoding="utf-8"
    )
    (tmp_path / "golden.jsonl").write_text(_block("json"), encoding="utf-8")
    assert check_task(str(tmp_path)) == []


def test_every_field_and_every_scorer_is_on_the_page() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"`(\w+)", row.split("|")[1])}
    fields = Task.__dataclass_fields__.keys() - {"home", "ref"}
    named = {"exact", "normalised", "numeric", "set_f1", "list_f1", "word_f1", "by_type"}
    assert (fields | named) - told == set()
    assert all(callable(getattr(scorers, name)) for name in named)
