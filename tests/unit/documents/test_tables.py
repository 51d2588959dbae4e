from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.documents.csv_rows import CsvTable
from batcher.documents.jsonl import JsonlTable, looks_like_jsonl
from batcher.documents.records import ContentError, Parsed, Rejected, SourceOptions
from batcher.documents.table_files import TableKind, open_table, read_rows, table_kind
from batcher.documents.tables import Columns, NoTextColumnError, RowReader, choose_columns
from tests.support import document_files as files

OPTIONS = SourceOptions(max_file_bytes=1000)


def outcomes(kind: TableKind, data: bytes, options: SourceOptions = OPTIONS) -> dict[str, str]:
    """Source without the table's name -> text or code."""
    table = open_table(kind, io.BufferedReader(io.BytesIO(data)), "t", options)  # type: ignore[arg-type]
    return {
        row.source.removeprefix("t"): row.document.text if isinstance(row, Parsed) else f"!{row.code}"
        for row in read_rows(table, "t")
    }


def jsonl(text: str, **options: object) -> dict[str, str]:
    return outcomes(TableKind.JSONL, text.encode(), SourceOptions(1000, **options))  # type: ignore[arg-type]


def test_rows_are_named_by_id_or_line_number() -> None:
    text = '{"id": "x", "text": "a"}\n\n{"text": "b"}\n{"id": 7, "text": "c"}\n{"id": ["n"], "text": "d"}'
    assert jsonl(text) == {"#x": "a", "#3": "b", "#7": "c", "#5": "d"}


def test_repeated_ids_stay_apart() -> None:
    text = '{"id": 1, "text": "a"}\n{"id": 1, "text": "b"}\n{"id": "1", "text": "c"}'
    assert jsonl(text) == {"#1": "a", "#1~2": "b", "#1~3": "c"}


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        ("{", "!bad_row"),
        ("[1]", "!bad_row"),
        ('"text"', "!bad_row"),
        ("7", "!bad_row"),
        ("null", "!bad_row"),
        ('{"other": 1}', "!bad_row"),
        ('{"text": 5}', "!bad_row"),
        ('{"text": "\\ud800"}', "!bad_row"),
        ('{"text": "\\ud800", "score": NaN}', "!bad_row"),
        ('{"text":' + "[" * 3000, "!bad_row"),
        ('{"text": "x", "y": ' + "[" * 100_000, "!too_large"),
        ('{"text": ""}', "!empty"),
        ('{"text": " \\u200b"}', "!empty"),
        ('{"text": null}', "!empty"),
        ('{"text": "' + "x" * 1001 + '"}', "!too_large"),
        ('{"text": "' + "ü" * 501 + '"}', "!too_large"),
        ('{"text": "' + "ü" * 500 + '"}', "ü" * 500),
        ('{"text": "a\\u0000b"}', "ab"),
        ('{"text": "x", "score": NaN, "m": -Infinity}', "x"),
        ('{"text": "😀", "n": 123456789012345678901234567890}', "😀"),
    ],
)
def test_a_bad_row_costs_only_itself(row: str, outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batcher.documents.jsonl._ROW_OVERHEAD_BYTES", 10_000)
    assert jsonl(f'{{"text": "first"}}\n{row}\n{{"text": "last"}}\n') == {
        "#1": "first",
        "#2": outcome,
        "#3": "last",
    }


def test_bytes_that_are_no_utf8_cost_one_row() -> None:
    assert outcomes(TableKind.JSONL, b'{"text": "a"}\n{"text": "\xff"}\n{"text": "c"}') == {
        "#1": "a",
        "#2": "!bad_row",
        "#3": "c",
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_jsonl_marks_and_line_ends(encoding: str) -> None:
    text = '{"text": "ä"}\r\n{"text": "b"}\r\n\r\n{"text": "c"}'
    assert outcomes(TableKind.JSONL, text.encode(encoding)) == {"#1": "ä", "#2": "b", "#4": "c"}


@given(
    st.lists(
        st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc", "Cf", "Zs", "Zl", "Zp")), min_size=1)
    )
)
def test_any_text_comes_through(texts: list[str]) -> None:
    lines = "\n".join(json.dumps({"text": text}) for text in texts)
    found = outcomes(TableKind.JSONL, lines.encode(), SourceOptions(100_000))
    assert list(found.values()) == (texts or ["!empty"])


def test_column_choice() -> None:
    assert choose_columns(["id", "content", "body"], OPTIONS).text == "content"
    assert choose_columns(["a", "b"], SourceOptions(1, text_column="b")).text == "b"
    assert choose_columns(["text", "id"], OPTIONS).id == "id"
    assert choose_columns(["text", "k"], SourceOptions(1, id_column="k")).id == "k"
    assert choose_columns(["text"], OPTIONS).id is None
    with pytest.raises(NoTextColumnError, match="'titel', 'inhalt'"):
        choose_columns(["titel", "inhalt"], OPTIONS)
    with pytest.raises(NoTextColumnError, match="'key'"):
        choose_columns(["text"], SourceOptions(1, id_column="key"))


def test_jsonl_columns_are_sought_in_the_first_rows() -> None:
    assert jsonl('{"meta": 1}\nbroken\n{"body": "b"}\n') == {"#1": "!bad_row", "#2": "!bad_row", "#3": "b"}
    with pytest.raises(NoTextColumnError, match="'meta', 'other'"):
        jsonl('{"meta": 1}\n{"other": 1}')


def test_which_files_are_tables() -> None:
    assert looks_like_jsonl(b'{"a": 1}\n\n{"a": 2}\n')
    assert not looks_like_jsonl(b'{"a": 1}')
    assert not looks_like_jsonl(b'{\n"a": 1}\n')
    assert not looks_like_jsonl(b"[1]\n[2]\n")
    assert table_kind("x.json", b'{"a": 1}\n{"a": 2}\n') is TableKind.JSONL
    assert table_kind("x.NDJSON", b"{}") is TableKind.JSONL
    assert table_kind("x.tsv", b"a\tb") is TableKind.CSV
    assert table_kind("x", b"PAR1") is TableKind.PARQUET
    for data in (files.jpeg(), files.pdf([]), b"", b" \n", b"\x1f\x8b12"):
        assert table_kind("x.csv", data) is None
    assert table_kind("x.parquet", b"text") is None
    assert table_kind("x.txt", b'{"a": 1}\n{"a": 2}\n') is None


@pytest.mark.parametrize(
    "text",
    [
        "id,text\r\n1,a\r\n2,b\r\n",
        "\ufeffid;text\n1;a\n2;b",
        "text\tid\na\t1\nb\t2\n",
        '"id"|"text"\n1|a\n\n2|b\n',
    ],
)
def test_csv_dialects(text: str) -> None:
    assert outcomes(TableKind.CSV, text.encode()) == {"#1": "a", "#2": "b"}


def test_csv_rows() -> None:
    text = (
        'id,text\n1,"two\nlines, ""quoted"""\n2,too,many\n3\n4,\n5,"nul\0"\n6,fine,,\n7,' + "x" * 1001 + "\n"
    )
    assert outcomes(TableKind.CSV, text.encode()) == {
        "#1": 'two\nlines, "quoted"',
        "#2": "!bad_row",
        "#3": "!bad_row",
        "#4": "!empty",
        "#5": "nul",
        "#6": "fine",
        "#7": "!too_large",
    }


def test_csv_encodings() -> None:
    text = "id,text\n1,Grüße aus München und schöne Tage\n"
    for encoding in ("cp1252", "utf-16", "utf-8-sig"):
        assert list(outcomes(TableKind.CSV, text.encode(encoding)).values()) == [
            "Grüße aus München und schöne Tage"
        ]
    with pytest.raises(ContentError):
        outcomes(TableKind.CSV, b"id,text\n" + bytes(range(256)) * 8)


def test_csv_quote_never_closed() -> None:
    found = outcomes(TableKind.CSV, b'id,text\n1,"open\n' + b"x" * 3_000_000)
    assert set(found.values()) <= {"!bad_row", "!too_large"}
    assert found


def test_csv_without_rows() -> None:
    assert outcomes(TableKind.CSV, b"id,text\n") == {"": "!empty"}


def parquet(**columns: object) -> bytes:
    from pyarrow import table
    from pyarrow.parquet import write_table

    out = io.BytesIO()
    write_table(table(columns), out)
    return out.getvalue()


def test_parquet_rows() -> None:
    data = parquet(id=[1, 2, 2], text=["a", None, "c"], other=[1, 2, 3])
    assert outcomes(TableKind.PARQUET, data) == {"#1": "a", "#2": "!empty", "#2~3": "c"}


def test_parquet_columns_of_other_types() -> None:
    assert outcomes(TableKind.PARQUET, parquet(text=[b"Gr\xc3\xbc\xc3\x9fe"])) == {"#1": "Grüße"}
    with pytest.raises(NoTextColumnError, match="int64"):
        outcomes(TableKind.PARQUET, parquet(text=[1]))


def test_parquet_text_that_is_no_utf8() -> None:
    from pyarrow import StringArray, py_buffer

    broken = StringArray.from_buffers(1, py_buffer(bytes([0, 0, 0, 0, 5, 0, 0, 0])), py_buffer(b"caf\xe9!"))
    assert outcomes(TableKind.PARQUET, parquet(text=broken)) == {"#1": "café!"}


def test_parquet_cut_off() -> None:
    data = parquet(text=["a"])
    with pytest.raises(ContentError) as caught:
        outcomes(TableKind.PARQUET, data[:-10])
    assert caught.value.code == "truncated"


def test_parquet_damaged_within() -> None:
    data = bytearray(parquet(text=[f"row {number} {number**7}" for number in range(5000)]))
    data[10:2000] = bytes(1990)
    found = outcomes(TableKind.PARQUET, bytes(data))
    assert list(found.values())[-1] == "!bad_row"


def test_ids_that_cannot_be_stored() -> None:
    rows = RowReader("t", OPTIONS)
    rows.begin(Columns("text", "id"))
    assert rows.source(1, "a\0b") == "t#ab"
    assert rows.source(2, "x" * 201) == "t#2"
    assert rows.source(3, "\ud800") == "t#?"
    assert rows.source(4, "  ") == "t#4"


@given(st.lists(st.text(max_size=3) | st.integers(0, 5) | st.none(), max_size=60))
def test_sources_are_unique(ids: list[str | int | None]) -> None:
    rows = RowReader("t", OPTIONS)
    rows.begin(Columns("text", "id"))
    made = [rows.source(number, identity) for number, identity in enumerate(ids, 1)]
    assert len(set(made)) == len(made)


def test_streams_are_not_read_ahead() -> None:
    class Stream(io.BytesIO):
        def close(self) -> None:
            """Stays open, so that its position can be asked."""

    stream = Stream(b'{"text": "a"}\n' * 100_000)
    table = JsonlTable(stream, "t", OPTIONS)
    columns = table.columns()
    assert columns is not None
    assert isinstance(next(table.read(columns)), Parsed)
    assert stream.tell() < 1000
    header_only = CsvTable(io.BytesIO(b"a,b\n1,2"), "t", OPTIONS)
    with pytest.raises(NoTextColumnError, match="'a', 'b'"):
        header_only.columns()


def test_rejections_name_the_row() -> None:
    table = JsonlTable(io.BytesIO(b'{"text": "a"}\n{'), "t.jsonl", OPTIONS)
    columns = table.columns()
    assert columns is not None
    rejected = list(table.read(columns))[1]
    assert isinstance(rejected, Rejected)
    assert rejected.source == "t.jsonl#2"
    assert rejected.reason.startswith("Row 2 is not valid JSON")
