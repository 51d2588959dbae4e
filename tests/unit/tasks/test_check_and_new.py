from __future__ import annotations

import json
from pathlib import Path

import pytest

from batcher.errors import TaskError, UsageError
from batcher.tasks.checking import check_task, try_scorer
from batcher.tasks.golden import load_golden
from batcher.tasks.registry import load_task
from batcher.tasks.scaffold import new_task


def test_a_new_task_has_nothing_to_find(tmp_path: Path) -> None:
    file = new_task(tmp_path / "deep" / "Incident Reports 2")
    assert file.name == "task.py"
    assert check_task(str(file.parent)) == []
    assert load_task(str(file.parent)).name == "incident-reports"
    assert load_task(str(new_task(tmp_path / "x", "other"))).name == "other"


def test_a_new_task_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "prompt.md").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"prompt\.md exists"):
        new_task(tmp_path, "t")
    assert [file.name for file in tmp_path.iterdir()] == ["prompt.md"]
    for name in ("Über", "9", "a b", "x" * 49):
        with pytest.raises(UsageError, match="is no task name"):
            new_task(tmp_path / "y", name)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be written"):
        new_task(tmp_path / "file" / "task", "t")


@pytest.mark.parametrize(
    ("file", "old", "new", "level", "message"),
    [
        ("task.py", "max_length=120, ", "", "warning", "title has no bound"),
        ("task.py", "max_output_tokens=256", "max_output_tokens=20", "warning", "max_output_tokens is 20"),
        ("task.py", "scorers.word_f1", "lambda e, o: 0.5", "error", "gives the right answer itself 0.75"),
        (
            "task.py",
            '{"title":',
            '{"titel":',
            "error",
            "'t': its scorer names fields that the answer does not",
        ),
        ("task.py", "scorers.word_f1", "lambda e, o: float('nan')", "error", "returned nan; it must"),
        ("task.py", "scorers.word_f1", "lambda e, o: 1 / 0", "error", "line 1: The scorer of task"),
        (
            "task.py",
            "    tier=",
            "    verifier=lambda text, answer: 1 / 0,\n    tier=",
            "error",
            "The verifier of task",
        ),
        (
            "task.py",
            "    tier=",
            "    verifier=lambda text, answer: 'sure',\n    tier=",
            "error",
            "returned 'sure'; it must return a number from 0 to 1",
        ),
        (
            "task.py",
            "    tier=",
            "    verifier=lambda text, answer: answer['title'] not in text,\n    tier=",
            "warning",
            "the verifier gives the right answer only 0",
        ),
        (
            "task.py",
            "    tier=",
            "    verifier=0.5,\n    tier=",
            "error",
            "its verifier is 0.5, not a function",
        ),
        ("task.py", 'Path("prompt.md")', 'Path("gone.md")', "error", "gone.md cannot be read"),
        ("task.py", "class Answer(BaseModel)", "class Answer(Oops)", "error", "NameError"),
        ("prompt.md", "Read", "{{ oops }} Read", "error", "oops"),
        (
            "golden.jsonl",
            '"title"',
            '"titel"',
            "error",
            "line 1: the expected answer does not fit the schema",
        ),
        ("golden.jsonl", "{", "", "error", "line 1: not JSON"),
    ],
)
def test_mistakes_are_found(tmp_path: Path, file: str, old: str, new: str, level: str, message: str) -> None:
    folder = new_task(tmp_path / "t").parent
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    findings = check_task(str(folder))
    assert any(finding.level == level and message in finding.message for finding in findings), findings


def test_a_row_may_know_some_of_the_fields(tmp_path: Path) -> None:
    folder = new_task(tmp_path / "t").parent
    (folder / "golden.jsonl").write_text(
        '{"text": "x", "expected": {"title": ["A title"]}}\n', encoding="utf-8"
    )
    assert check_task(str(folder)) == []


def test_a_missing_golden_file_is_a_warning(tmp_path: Path) -> None:
    folder = new_task(tmp_path / "t").parent
    (folder / "golden.jsonl").unlink()
    assert [finding.level for finding in check_task(str(folder))] == ["warning"]


def test_golden_rows_are_not_held_against_other_parameters() -> None:
    assert check_task("classification", {"labels": "x,y"}) == []
    assert [finding.level for finding in check_task("classification", {"labels": "x"})] == ["error"]


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        ("lambda e, o: 1 / 0", "line 1: The scorer of task 'cards'"),
        ("lambda e, o: float('nan')", "returned nan"),
        ("lambda e, o: 1.0 if e == o else int(o['n'])", "line 1: .*'one'"),
    ],
)
def test_a_scorer_that_fails_is_tried_on_known_answers_alone(
    tmp_path: Path, scorer: str, message: str
) -> None:
    task = load_task(str(_cards(tmp_path, scorer)))
    golden = load_golden(tmp_path / "golden.jsonl")
    with pytest.raises(TaskError, match=message):
        try_scorer(task, golden)


def test_right_answers_that_would_not_count_are_named(tmp_path: Path) -> None:
    task = load_task(str(_cards(tmp_path, "lambda e, o: 0.5")))
    assert try_scorer(task, load_golden(tmp_path / "golden.jsonl")) == ["line 1: 0.5", "line 2: 0.5"]


def _cards(folder: Path, scorer: str) -> Path:
    """A task with a function of its own as scorer, and two known answers."""
    (folder / "task.py").write_text(
        "from pydantic import BaseModel\n"
        "from batcher.tasks import Task\n"
        "class A(BaseModel):\n    n: str\n"
        f"task = Task(name='cards', version=1, prompt='Say n.', output=A, scorer={scorer})\n"
    )
    rows = [{"text": word, "expected": {"n": word}} for word in ("zero", "one")]
    (folder / "golden.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder
