"""The formats: cells that no spreadsheet runs, types that stay, files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.domain import ItemStatus, JobState
from batcher.errors import UsageError
from batcher.export.files import choose_format, open_whole
from batcher.export.lines import ResultLine
from batcher.export.writers import ROW_GROUP, write_csv, write_jsonl, write_parquet
from batcher.store.jobs import Job
from batcher.store.results import ItemResult

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "count": {"type": "integer"},
        "share": {"type": "number"},
        "good": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "parts": {"type": "array", "items": {"type": "object"}},
    },
}
ANSWER = {
    "title": "Rivers",
    "count": 3.0,
    "share": -0.25,
    "good": True,
    "tags": ["a", "b"],
    "parts": [{"x": 1}],
}
JOB = Job(
    id=7,
    task="cards",
    paths=("docs",),
    source_options="{}",
    spec="{}",
    tier="economy",
    pinned_model=None,
    ladder=(),
    accepts=(),
    refresh=False,
    state=JobState.DONE,
    reason=None,
    resume_at=None,
    max_cost_nusd=None,
    estimate=None,
    waiting_reason=None,
    created_at=0.0,
    started_at=None,
    finished_at=None,
)


def line(
    number: int = 1, answer: Any = ANSWER, source: str = "docs/a.txt", cost_nusd: int = 150
) -> ResultLine:
    done = answer is not None
    item = ItemResult(
        id=number,
        source=source,
        status=ItemStatus.DONE if done else ItemStatus.FAILED,
        tier="economy",
        model="m" if done else None,
        output=json.dumps(answer) if done else None,
        error_class=None if done else "refused",
        error=None if done else "-no",
        cost_nusd=cost_nusd,
        attempts=1,
        reused=False,
    )
    return ResultLine(JOB, item)


def csv_rows(lines: list[ResultLine], schema: dict[str, Any] = SCHEMA) -> list[dict[str, str]]:
    target = io.BytesIO()
    assert write_csv(lines, schema, target) == len(lines)
    return list(csv.DictReader(io.StringIO(target.getvalue().decode(), newline="")))


def test_jsonl_keeps_the_answer_as_it_was_stored() -> None:
    target = io.BytesIO()
    assert write_jsonl([line(), line(2, None)], SCHEMA, target) == 2
    first, second = (json.loads(text) for text in target.getvalue().splitlines())
    assert first["output"] == ANSWER
    assert first["cost_usd"] == 1.5e-07
    assert second["output"] is None
    assert (second["error_class"], second["error"]) == ("refused", "-no")


def test_csv_cells() -> None:
    first, second = csv_rows([line(), line(2, None, source="=cmd|' /C calc'!A0")])
    assert first["output.count"] == "3.0"
    assert first["output.share"] == "-0.25"
    assert first["output.good"] == "true"
    assert first["output.tags"] == '["a","b"]'
    assert first["output.parts"] == '[{"x":1}]'
    assert first["cost_usd"] == "0.000000150"
    assert second["source"] == "'=cmd|' /C calc'!A0"
    assert second["error"] == "'-no"
    assert second["output.title"] == ""


@given(st.text())
def test_no_text_is_a_formula_and_all_other_text_survives(text: str) -> None:
    [row] = csv_rows([line(answer={"title": text})])
    cell = row["output.title"]
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert cell.removeprefix("'") == text.replace("\0", "\ufffd").removeprefix("'")


def test_csv_without_results_has_a_header() -> None:
    target = io.BytesIO()
    assert write_csv([], SCHEMA, target) == 0
    header = target.getvalue().decode().strip().split(",")
    assert header[:3] == ["id", "source", "task"]
    assert header[-1] == "output.parts"


def parquet_table(lines: Iterator[ResultLine] | list[ResultLine], schema: dict[str, Any] = SCHEMA) -> Any:
    from pyarrow import parquet

    target = io.BytesIO()
    write_parquet(lines, schema, target)
    target.seek(0)
    return parquet.ParquetFile(target)


def test_parquet_types_and_values() -> None:
    [first, second] = parquet_table([line(), line(2, None)]).read().to_pylist()
    assert first["output.count"] == 3
    assert isinstance(first["output.count"], int)
    assert first["output.tags"] == ["a", "b"]
    assert first["output.parts"] == '[{"x":1}]'
    assert first["cost_usd"] == 1.5e-07
    assert second["output.tags"] is None
    assert second["status"] == "failed"


def test_parquet_is_streamed_in_row_groups() -> None:
    table = parquet_table(line(number) for number in range(ROW_GROUP + 1))
    assert table.num_row_groups == 2
    assert table.metadata.num_rows == ROW_GROUP + 1


def test_parquet_without_results_has_its_columns() -> None:
    table = parquet_table([])
    assert table.metadata.num_rows == 0
    assert "output.title" in table.schema_arrow.names


def test_a_number_too_large_for_parquet_is_told() -> None:
    with pytest.raises(UsageError, match="--format jsonl"):
        parquet_table([line(answer={"count": 2**70})])


@pytest.mark.parametrize(
    ("named", "path", "chosen"),
    [
        (None, None, "jsonl"),
        (None, "a.csv", "csv"),
        (None, "a.PARQUET", "parquet"),
        (None, "a.ndjson", "jsonl"),
        (None, "results", "jsonl"),
        ("csv", "a.parquet", "csv"),
    ],
)
def test_formats(named: str | None, path: str | None, chosen: str) -> None:
    assert choose_format(named, Path(path) if path else None) == chosen


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("old")
    with contextlib.suppress(RuntimeError), open_whole(target) as stream:
        stream.write(b"half")
        stream.flush()
        assert target.read_text() == "old"
        raise RuntimeError
    assert target.read_text() == "old"
    with open_whole(target) as stream:
        stream.write(b"new")
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask


def test_a_link_stays_a_link_and_a_device_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").write_text("old")
    link = tmp_path / "link.jsonl"
    link.symlink_to("real.jsonl")
    with open_whole(link) as stream:
        stream.write(b"new")
    assert link.is_symlink()
    assert (tmp_path / "real.jsonl").read_text() == "new"
    with open_whole(Path(os.devnull)) as stream:
        stream.write(b"gone")
    assert not Path(os.devnull).is_file()


def test_folders_and_missing_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"), open_whole(tmp_path):
        pass
    away = tmp_path / "away"
    with (
        pytest.raises(UsageError, match=r"There is no folder .*away\. Make it"),
        open_whole(away / "out.csv"),
    ):
        pass
