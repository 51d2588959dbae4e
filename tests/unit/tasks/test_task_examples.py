"""The corpora under examples/ and the commands in their READMEs fit the tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from batcher.tasks.answers import AnswerParser
from batcher.tasks.golden import load_golden
from batcher.tasks.registry import load_task

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize(("name", "documents"), [("loan_agreements", 20), ("banking77", 200)])
def test_every_document_has_its_answer_and_a_licence(name: str, documents: int) -> None:
    golden = load_golden(EXAMPLES / name / "golden.jsonl")
    files = sorted((EXAMPLES / name / "docs").iterdir())
    assert len(files) == len(golden) == documents
    assert all(golden.lookup(str(file)) is not None for file in files)
    assert list((EXAMPLES / name).glob("LICENSE*"))


def test_the_known_loan_fields_fit_the_schema_and_score_1() -> None:
    task = load_task("extraction")
    folder = EXAMPLES / "loan_agreements"
    spec = task.spec({"schema": str(folder / "fields.schema.json")})
    parser = AnswerParser(spec)
    for row in load_golden(folder / "golden.jsonl").rows:
        answer = {name: values[0] for name, values in row.expected.items()}
        assert parser._validator.is_valid(answer)
        assert task.score(row.expected, answer).value == 1
        assert task.score(row.expected, {**answer, "Date": "never"}).value >= task.correct_at
        assert task.score(row.expected, {**answer, "Date": "", "Interest": ""}).value < task.correct_at


def test_all_77_intents_are_there() -> None:
    folder = EXAMPLES / "banking77"
    spec = load_task("classification").spec({"labels": f"@{folder / 'labels.txt'}"})
    labels = spec.schema["properties"]["label"]["enum"]
    assert len(labels) == 77
    assert {row.expected["label"] for row in load_golden(folder / "golden.jsonl").rows} == set(labels)


@pytest.mark.parametrize("name", ["loan_agreements", "banking77"])
def test_paths_in_the_readme_exist(name: str) -> None:
    words = (
        (EXAMPLES / name / "README.md")
        .read_text(encoding="utf-8")
        .replace("=", " ")
        .replace("@", " ")
        .split()
    )
    paths = [word for word in words if word.startswith("examples/")]
    assert paths
    assert [path for path in paths if not (EXAMPLES.parent / path).exists()] == []
