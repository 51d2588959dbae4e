from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from batcher.errors import TaskError
from batcher.tasks.golden import Golden, load_golden, unfit_answers


def _golden(folder: Path, *rows: dict[str, Any]) -> Golden:
    path = folder / "golden.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps(row) for row in rows) + b"\n")
    return load_golden(path)


LOANS = (
    {"id": "loan-01", "file": "docs/loan-01.txt", "fields": {"City": ["Frederick"]}},
    {"id": "loan-02", "file": "docs/loan-02.txt", "fields": {"City": ["Marquette"]}},
)


@pytest.mark.parametrize(
    "source",
    [
        "docs/loan-01.txt",
        "./docs/loan-01.txt",
        "/data/corpora/docs/loan-01.txt",
        "loan-01.txt",
        "/elsewhere/loan-01.txt",
        "/data/loans.jsonl#loan-01",
    ],
)
def test_a_file_is_found_by_path_end_of_path_name_and_id(tmp_path: Path, source: str) -> None:
    assert _golden(tmp_path, *LOANS).lookup(source) == {"City": ["Frederick"]}


@pytest.mark.parametrize(
    "source", ["loan-03.txt", "docs/loan-0", "1.txt", "x/oan-01.txt", "", "/", "#", "a#b", "loan-01"]
)
def test_nothing_else_is_found(tmp_path: Path, source: str) -> None:
    assert _golden(tmp_path, *LOANS).lookup(source) is None


def test_rows_of_a_table_are_found_by_id(tmp_path: Path) -> None:
    golden = _golden(tmp_path, {"id": 17, "expected": {"a": 1}}, {"id": "18", "label": "b"})
    assert golden.lookup("/data/corpus.jsonl#17") == {"a": 1}
    assert golden.lookup("corpus.csv#18") == {"label": "b"}
    assert golden.lookup("corpus.csv#1") is None


def test_a_row_may_name_its_table(tmp_path: Path) -> None:
    golden = _golden(
        tmp_path,
        {"source": "a.jsonl#1", "expected": {"n": 1}},
        {"source": "b.jsonl#1", "expected": {"n": 2}},
        {"file": "c.jsonl", "id": 1, "expected": {"n": 3}},
        {"file": "c.jsonl", "id": 2, "expected": {"n": 4}},
    )
    assert golden.lookup("a.jsonl#1") == {"n": 1}
    assert golden.lookup("/data/b.jsonl#1") == {"n": 2}
    assert golden.lookup("/data/c.jsonl#1") == {"n": 3}
    assert golden.lookup("/data/c.jsonl#2") == {"n": 4}
    assert golden.lookup("/data/d.jsonl#1") is None
    assert golden.lookup("/data/c.jsonl") is None


def test_equal_names_in_different_folders_are_different_documents(tmp_path: Path) -> None:
    golden = _golden(
        tmp_path,
        {"file": "a/readme.txt", "expected": {"n": 1}},
        {"file": "b/readme.txt", "expected": {"n": 2}},
        {"file": "b/only.txt", "expected": {"n": 3}},
    )
    assert golden.lookup("/x/a/readme.txt") == {"n": 1}
    assert golden.lookup("/x/b/readme.txt") == {"n": 2}
    assert golden.lookup("/x/c/readme.txt") is None
    assert golden.lookup("readme.txt") is None
    assert golden.lookup("/x/c/only.txt") is None


def test_the_longest_matching_path_wins(tmp_path: Path) -> None:
    golden = _golden(
        tmp_path, {"file": "x.txt", "expected": {"n": 1}}, {"file": "deep/x.txt", "expected": {"n": 2}}
    )
    assert golden.lookup("/very/deep/x.txt") == {"n": 2}
    assert golden.lookup("/other/x.txt") == {"n": 1}


def test_a_file_name_with_a_hash_sign_is_a_file(tmp_path: Path) -> None:
    golden = _golden(tmp_path, {"file": "docs/c#1.txt", "expected": {"n": 1}})
    assert golden.lookup("/x/docs/c#1.txt") == {"n": 1}


def test_the_same_answer_twice_is_no_contradiction(tmp_path: Path) -> None:
    golden = _golden(tmp_path, {"id": 1, "label": "a"}, {"id": 1, "label": "a"})
    assert golden.lookup("t.jsonl#1") == {"label": "a"}


def test_text_rows_need_no_name(tmp_path: Path) -> None:
    golden = _golden(tmp_path, {"text": "hello", "expected": {"n": 1}}, {"text": "bye", "expected": {"n": 2}})
    assert [row.text for row in golden.rows] == ["hello", "bye"]
    assert len(golden) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: not a JSON object"),
        ('{"id": 1}', 'line 2: needs one of "expected"'),
        ('{"id": 1, "expected": null}', 'line 2: needs one of "expected"'),
        ('{"id": 1, "expected": {}}', 'line 2: "expected" holds no field'),
        ('{"id": 1, "expected": {}, "label": "a"}', 'line 2: needs one of "expected"'),
        ('{"expected": {}}', 'line 2: needs "file"'),
        ('{"id": "", "label": "a"}', 'line 2: needs "file"'),
        ('{"id": 0, "label": "other"}', "line 2: '#0' has another answer in line 1"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "golden.jsonl"
    path.write_text('{"id": 0, "label": "a"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(TaskError) as caught:
        load_golden(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_empty_missing_and_undecodable_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "golden.jsonl"
    with pytest.raises(TaskError, match="cannot be read"):
        load_golden(path)
    path.write_text("\n\n", encoding="utf-8")
    with pytest.raises(TaskError, match="no rows"):
        load_golden(path)
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(TaskError, match="not UTF-8"):
        load_golden(path)


def test_a_line_separator_within_a_text_is_no_new_line(tmp_path: Path) -> None:
    path = tmp_path / "golden.jsonl"
    path.write_text('\ufeff{"text": "a\u2028b\x85c", "label": "x"}\r\n', encoding="utf-8")
    assert load_golden(path).rows[0].text == "a\u2028b\x85c"


def test_rows_that_no_source_has_found_are_known(tmp_path: Path) -> None:
    golden = _golden(
        tmp_path,
        {"id": "loan-01", "file": "docs/loan-01.txt", "fields": {"City": ["Frederick"]}},
        {"id": "twin", "file": "docs/loan-01.txt", "fields": {"City": ["Frederick"]}},
        {"id": "typo", "label": "x"},
        {"file": "docs/loan-02.txt", "fields": {"City": ["Marquette"]}},
    )
    assert len(golden.unmatched()) == 4
    golden.lookup("docs/loan-01.txt")
    golden.lookup("docs/loan-03.txt")
    assert [row.line for row in golden.unmatched()] == [3, 4]


LABELS = {
    "type": "object",
    "properties": {"label": {"enum": ["billing", "delivery"]}, "tags": {"items": {"enum": ["a", "b"]}}},
    "additionalProperties": False,
}
CITY = {"type": "object", "properties": {"City": {"type": "string"}, "Sum": {"type": "number"}}}


@pytest.mark.parametrize(
    ("row", "schema", "fault"),
    [
        ({"label": "billing"}, LABELS, ""),
        ({"fields": {"label": ["delivery"], "tags": ["a", "b"]}}, LABELS, ""),
        ({"label": "biling"}, LABELS, "'biling' is none of the values of label (did you mean 'billing'?)"),
        ({"label": "Billing"}, LABELS, "'Billing' is none of the values of label (did you mean 'billing'?)"),
        ({"fields": {"tags": ["a", "z"]}}, LABELS, "'z' is none of the values of tags"),
        (
            {"expected": {"lable": "billing"}},
            LABELS,
            "the answer has no field 'lable' (did you mean 'label'?)",
        ),
        ({"expected": "billing"}, LABELS, "the answer is an object with label, tags"),
        ({"fields": {"City": ["Marquette"], "Sum": ["$1,200"], "More": 1}}, CITY, ""),
    ],
)
def test_answers_that_nothing_can_equal_are_named(
    tmp_path: Path, row: dict[str, Any], schema: dict[str, Any], fault: str
) -> None:
    found = unfit_answers(_golden(tmp_path, {"id": 1} | row), schema)
    assert found == ([f"line 1: {fault}"] if fault else [])
