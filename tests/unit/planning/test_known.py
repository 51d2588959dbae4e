"""Finding the documents of a golden file, and who is measured on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.documents.records import SourceOptions
from batcher.errors import TaskError, UsageError
from batcher.planning.candidates import share_cap
from batcher.planning.known import KnownDocuments, read_known
from batcher.tasks.golden import load_golden

ROOT = Path(__file__).parents[3]
OPTIONS = SourceOptions(1_000_000)


def known(
    folder: Path, *rows: dict[str, Any], paths: tuple[Path, ...] = (), **options: Any
) -> KnownDocuments:
    path = folder / "golden.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return read_known(load_golden(path), [str(path) for path in paths], SourceOptions(1_000_000, **options))


def answers(found: KnownDocuments) -> dict[str, Any]:
    """The right answer by the text of the document."""
    return {one.document.text: found.lookup(one.source) for one in found.documents}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_row_brings_its_text_itself(tmp_path: Path) -> None:
    found = known(
        tmp_path,
        {"id": "a", "text": "first", "label": "x"},
        {"text": "second", "label": "y"},
        {"id": "a", "text": "third", "label": "x"},
    )
    assert answers(found) == {"first": {"label": "x"}, "second": {"label": "y"}, "third": {"label": "x"}}
    assert all(one.source.startswith(f"{tmp_path}/golden.jsonl#") for one in found.documents)
    assert found.left_out == ()


def test_files_are_found_beside_the_golden_file_then_under_paths(tmp_path: Path) -> None:
    write(tmp_path / "gold" / "docs" / "a.txt", "beside")
    write(tmp_path / "other" / "docs" / "a.txt", "not this one")
    write(tmp_path / "other" / "deep" / "er" / "b.txt", "deep")
    write(tmp_path / "other" / "c.txt", "by its id")
    found = known(
        tmp_path / "gold",
        {"file": "docs/a.txt", "label": "a"},
        {"source": "er/b.txt", "label": "b"},
        {"id": "c.txt", "label": "c"},
        {"file": "gone.txt", "label": "d"},
        paths=(tmp_path / "other",),
    )
    assert answers(found) == {"beside": {"label": "a"}, "deep": {"label": "b"}, "by its id": {"label": "c"}}
    [left] = found.left_out
    assert (left.row.line, left.reason) == (4, "no such document was found")


def test_rows_of_tables_are_found_by_their_id(tmp_path: Path) -> None:
    write(tmp_path / "rows.csv", "id,text\n7,seven\n8,eight\n9,nine\n")
    write(tmp_path / "more.jsonl", '{"id": "z", "text": "zed"}\n{"id": "q", "text": "queue"}\n')
    found = known(
        tmp_path,
        {"file": "rows.csv", "id": 7, "label": "a"},
        {"source": "rows.csv#9", "label": "b"},
        {"id": "z", "label": "c"},
        {"file": "rows.csv", "id": 99, "label": "d"},
        paths=(tmp_path / "more.jsonl",),
    )
    assert answers(found) == {"seven": {"label": "a"}, "nine": {"label": "b"}, "zed": {"label": "c"}}
    assert [left.reason for left in found.left_out] == ["no such row was found in its table"]


def test_what_cannot_be_read_is_left_out_with_its_reason(tmp_path: Path) -> None:
    write(tmp_path / "empty.txt", "")
    write(tmp_path / "full.txt", "full")
    found = known(tmp_path, {"file": "empty.txt", "label": "a"}, {"file": "full.txt", "label": "b"})
    assert answers(found) == {"full": {"label": "b"}}
    assert "empty" in found.left_out[0].reason


def test_two_rows_on_one_document_are_one(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "text")
    found = known(tmp_path, {"file": "a.txt", "label": "a"}, {"file": "./a.txt", "label": "a"})
    assert len(found.documents) == 1
    assert found.left_out == ()


def test_two_rows_on_one_document_elsewhere_are_one_too(tmp_path: Path) -> None:
    write(tmp_path / "docs" / "a.txt", "text")
    rows = [{"file": "docs/a.txt", "label": "a"}, {"file": "docs/a.txt", "label": "a"}]
    (tmp_path / "answers").mkdir()
    found = known(tmp_path / "answers", *rows, paths=(tmp_path / "docs",))
    assert (len(found.documents), len(found.doubles), found.left_out) == (1, 1, ())
    with_id = [{"file": "t.csv", "id": "1", "label": "a"}] * 2
    write(tmp_path / "docs" / "t.csv", "id,text\n1,of a table\n")
    found = known(tmp_path / "answers", *with_id, paths=(tmp_path / "docs",))
    assert (len(found.documents), len(found.doubles), found.left_out) == (1, 1, ())


def test_equal_contents_under_other_names_are_one_document(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "text")
    write(tmp_path / "b.txt", "text")
    rows = [
        {"file": "a.txt", "label": "a"},
        {"file": "b.txt", "label": "a"},
        {"id": "c", "text": "text", "label": "a"},
    ]
    found = known(tmp_path, *rows, {"id": "d", "text": "other", "label": "b"})
    assert answers(found) == {"text": {"label": "a"}, "other": {"label": "b"}}
    assert {line for pair in found.doubles for line in (pair[0].line, pair[1].line)} == {1, 2, 3}


@pytest.mark.parametrize("named", [{"id": "b", "text": "text"}, {"file": "b.txt"}])
def test_contradictory_answers_for_one_document_name_both_rows(tmp_path: Path, named: dict[str, str]) -> None:
    write(tmp_path / "a.txt", "text")
    write(tmp_path / "b.txt", "text")
    first = {"id": "a", "text": "text"} if "text" in named else {"file": "a.txt"}
    other = {"id": "z", "text": "other", "label": "x"}
    with pytest.raises(
        TaskError, match=r"golden\.jsonl, line 3: the same document has another answer in line 1"
    ):
        known(tmp_path, first | {"label": "a"}, other, named | {"label": "b"})


def test_a_limit_draws_rows_and_a_larger_one_only_adds(tmp_path: Path) -> None:
    rows = [{"id": str(n), "text": f"text {n}", "label": "x"} for n in range(200)]
    drawn = [{one.source for one in known(tmp_path, *rows, limit=limit).documents} for limit in (20, 50)]
    assert [len(sources) for sources in drawn] == [20, 50]
    assert drawn[0] < drawn[1]
    first_rows = {f"{tmp_path}/golden.jsonl#{n}" for n in range(50)}
    assert len(drawn[1] & first_rows) < 30


def test_no_document_at_all_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"No row of .* \(line 1: no such document was found\)"):
        known(tmp_path, {"file": "a.txt", "label": "a"}, {"file": "b.txt", "label": "a"})


def test_standard_input_and_missing_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Standard input"):
        known(tmp_path, {"id": "a", "text": "a", "label": "a"}, paths=(Path("-"),))


@pytest.mark.parametrize("option", ["text_column", "id_column"])
def test_a_column_is_refused_where_no_row_is_in_a_table(tmp_path: Path, option: str) -> None:
    """The columns of the golden file itself have fixed names."""
    write(tmp_path / "a.txt", "text")
    rows = [{"file": "a.txt", "label": "a"}, {"id": "b", "text": "its own", "label": "b"}]
    with pytest.raises(UsageError, match=f"--{option.replace('_', '-')}: there is no table"):
        known(tmp_path, *rows, **{option: "name"})
    write(tmp_path / "rows.csv", "name,text\n7,seven\n")
    tables = [*rows, {"source": "rows.csv#7", "label": "c"}]
    column = {"text_column": "text", "id_column": "name"}[option]
    assert len(known(tmp_path, *tables, **{option: column}).documents) >= 2


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("examples/banking77/golden.jsonl", 200),
        ("examples/loan_agreements/golden.jsonl", 20),
        ("jobs/classification/golden.jsonl", None),
        ("jobs/extraction/golden.jsonl", None),
    ],
)
def test_the_golden_files_of_the_project_are_found_whole(path: str, count: int | None) -> None:
    golden = load_golden(ROOT / path)
    found = read_known(golden, [], OPTIONS)
    assert found.left_out == ()
    assert len(found.documents) == (count or len(golden))


@given(
    st.integers(0, 10**12),
    st.dictionaries(st.integers(), st.integers(0, 10**12), min_size=1, max_size=8),
)
def test_shared_caps_never_exceed_the_whole_and_waste_nothing(cap: int, worst: dict[int, int]) -> None:
    shares = share_cap(cap, worst)
    assert shares.keys() == worst.keys()
    assert sum(shares.values()) <= cap
    assert all(0 <= shares[key] <= worst[key] for key in worst)
    if sum(worst.values()) <= cap:
        assert shares == worst
    else:
        assert sum(shares.values()) > cap - len(worst)


def test_the_cheap_get_what_they_need_before_the_dear() -> None:
    assert share_cap(10, {"dear": 100, "cheap": 2, "middle": 6}) == {"cheap": 2, "middle": 4, "dear": 4}
