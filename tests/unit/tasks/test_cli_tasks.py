from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from batcher.cli.tasks import tasks
from batcher.errors import TaskError, UsageError


def _run(*words: str) -> str:
    result = CliRunner().invoke(tasks, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_list() -> None:
    lines = _run("list").splitlines()
    assert lines[0].split()[:4] == ["NAME", "TIER", "FLOOR", "FROM"]
    enrichment = next(line for line in lines if line.startswith("enrichment "))
    assert lines[0].index("TIER") == enrichment.index("economy")
    assert {row["name"] for row in orjson.loads(_run("list", "--json"))} >= {"enrichment", "extraction"}


@pytest.mark.parametrize("name", ["classification", "enrichment", "extraction", "summarization"])
def test_show(name: str) -> None:
    about = orjson.loads(_run("show", name, "--json"))
    assert about["name"] == name
    assert about["schema"]["type"] == "object"
    text = _run("show", name)
    assert about["prompt"] in text
    assert "economy -> standard -> premium" in text
    assert all(param["name"] in text for param in about["params"])


PARAMETERISED = """
from pydantic import BaseModel
from batcher.tasks import Task


class Params(BaseModel):
    field: str


def answer(params):
    return {"type": "object", "properties": {params.field: {"type": "null"}}}


task = Task(name="t", version=1, prompt="Go.", params=Params, output=answer, scorer=lambda e, o: e == o)
"""


def test_show_a_task_that_needs_parameters_and_gives_no_example(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(PARAMETERISED, encoding="utf-8")
    assert orjson.loads(_run("show", str(tmp_path), "--json"))["schema"] is None
    text = _run("show", str(tmp_path))
    assert "field  required" in text
    assert "no example" in text


def test_new_then_check(tmp_path: Path) -> None:
    folder = str(tmp_path / "mine")
    assert f"batcher tasks check {folder}" in _run("new", folder)
    assert "ready to use" in _run("check", folder)
    assert orjson.loads(_run("show", folder, "--json"))["folder"] == folder
    with pytest.raises(UsageError):
        _run("new", folder)


def test_check_with_parameters() -> None:
    assert "ready to use" in _run("check", "classification", "--param", "labels=a,b")
    with pytest.raises(TaskError, match="has 1 error; see above"):
        _run("check", "classification", "--param", "labels=a")
    with pytest.raises(TaskError):
        _run("show", "no-such-task")
