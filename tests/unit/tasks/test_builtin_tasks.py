from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from batcher.errors import TaskError
from batcher.tasks.answers import AnswerParser, InvalidAnswerError
from batcher.tasks.checking import check_task
from batcher.tasks.golden import load_golden
from batcher.tasks.registry import load_task

NAMES = ["classification", "enrichment", "extraction", "summarization"]


@pytest.mark.parametrize("name", NAMES)
def test_a_built_in_task_has_nothing_to_find(name: str) -> None:
    assert check_task(name) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_built_in_task_can_be_read_at_a_glance(name: str) -> None:
    home = load_task(name).home
    assert home is not None
    assert len((home / "task.py").read_text(encoding="utf-8").splitlines()) < 75
    assert {"task.py", "prompt.md", "golden.jsonl", "__init__.py"} <= {file.name for file in home.iterdir()}


@pytest.mark.parametrize("name", NAMES)
def test_every_field_of_a_built_in_answer_is_required(name: str) -> None:
    task = load_task(name)
    schema = task.spec(task.example).schema
    assert set(schema["required"]) == set(schema["properties"])
    assert "$ref" not in orjson.dumps(schema).decode()


def test_an_empty_answer_scores_below_correct() -> None:
    for name in NAMES:
        task = load_task(name)
        assert task.home is not None
        for row in load_golden(task.home / "golden.jsonl").rows:
            assert task.score(row.expected, row.expected).value >= task.correct_at
            assert task.score(row.expected, {}).value < task.correct_at


def test_a_golden_answer_of_another_row_is_not_correct() -> None:
    for name in NAMES:
        task = load_task(name)
        assert task.home is not None
        rows = load_golden(task.home / "golden.jsonl").rows
        wrong = [
            task.score(a.expected, b.expected).value for a in rows for b in rows if a.expected != b.expected
        ]
        assert wrong
        assert max(wrong) < task.correct_at


def test_labels_come_from_words_or_a_file_and_make_the_same_task(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("a b\nc\n", encoding="utf-8")
    task = load_task("classification")
    spec = task.spec({"labels": "a b,c"})
    assert spec.schema["properties"]["label"]["enum"] == ["a b", "c"]
    assert task.spec({"labels": f"@{tmp_path / 'labels.txt'}"}).fingerprint == spec.fingerprint
    assert task.spec({"labels": "c,a b"}).fingerprint != spec.fingerprint
    with pytest.raises(InvalidAnswerError, match="not one of"):
        AnswerParser(spec, task).parse('{"label": "C"}')
    for wrong, message in (("a", "at least 2"), ("a,b,a", "given twice: a")):
        with pytest.raises(TaskError, match=message):
            task.spec({"labels": wrong})
    with pytest.raises(TaskError, match=r"labels=\.\.\. is missing"):
        task.spec()


MODEL = """
from pydantic import BaseModel, Field, field_validator

class Bill(BaseModel):
    total: float = Field(description="The sum")

    @field_validator("total")
    @classmethod
    def positive(cls, total):
        if total <= 0:
            raise ValueError("a total is positive")
        return total
"""


def test_extraction_takes_a_model_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models.py").write_text(MODEL, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    task = load_task("extraction")
    spec = task.spec({"model": "models.py:Bill"})
    assert list(spec.schema["properties"]) == ["total"]
    assert spec.params == {}
    assert spec.locators["model"] == f"{tmp_path / 'models.py'}:Bill"
    monkeypatch.chdir("/")
    parser = AnswerParser(type(spec).from_json(spec.to_json()), task)
    assert parser.parse('{"total": 3}') == {"total": 3}
    with pytest.raises(InvalidAnswerError, match="a total is positive"):
        parser.parse('{"total": -3}')
    (tmp_path / "models.py").unlink()
    assert AnswerParser(spec, task).parse('{"total": -3}') == {"total": -3}, "the stored schema decides"


def test_where_a_schema_lies_does_not_matter(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    for name in ("one.json", "two.json"):
        (tmp_path / name).write_bytes(orjson.dumps(schema))
    task = load_task("extraction")
    one, two = (task.spec({"schema": str(tmp_path / name)}) for name in ("one.json", "two.json"))
    assert one.schema == schema
    assert one.fingerprint == two.fingerprint


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "give one of --param model"),
        ({"model": "a.py:A", "schema": "b.json"}, "give one of --param model"),
        ({"model": "nothing"}, "names no model"),
        ({"model": "/no/such.py:A"}, "There is no file"),
        ({"model": "no_such_module:A"}, "There is no module 'no_such_module'"),
        ({"model": "pathlib:Path"}, "no pydantic model 'Path'"),
        ({"schema": "/no/such.json"}, "cannot be read"),
        ({"schema": __file__}, "is not JSON"),
    ],
)
def test_extraction_says_what_is_wrong(params: dict[str, str], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        load_task("extraction").spec(params)
