"""Which files are tables of rows, and one way to read them all."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import PurePath
from typing import BinaryIO, Final, Protocol

from batcher.documents.csv_rows import CsvTable
from batcher.documents.jsonl import JsonlTable, looks_like_jsonl
from batcher.documents.parquet import MAGIC, ParquetTable
from batcher.documents.recognition import has_binary_signature
from batcher.documents.records import Parsed, Rejected, SourceOptions
from batcher.documents.tables import COMMON_TEXT_COLUMNS, Columns, NoTextColumnError


class TableKind(StrEnum):
    """The table formats."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


class Table(Protocol):
    """A table that is open."""

    def columns(self) -> Columns | None:
        """Picks the columns; None where no row shows them. Raises NoTextColumnError."""

    def read(self, columns: Columns) -> Iterator[Parsed | Rejected]:
        """Gives every row's document or rejection, in order."""


_KIND_OF_SUFFIX: Final = {
    ".jsonl": TableKind.JSONL,
    ".ndjson": TableKind.JSONL,
    ".jsonlines": TableKind.JSONL,
    ".csv": TableKind.CSV,
    ".tsv": TableKind.CSV,
    ".parquet": TableKind.PARQUET,
    ".pq": TableKind.PARQUET,
}
_MAYBE_JSONL: Final = ".json"


def may_be_table(path: str) -> bool:
    """Tells from the name alone whether a file is worth a look."""
    suffix = PurePath(path).suffix.lower()
    return suffix in _KIND_OF_SUFFIX or suffix == _MAYBE_JSONL


def table_kind(path: str, head: bytes) -> TableKind | None:
    """Tells what table a file is, by its first bytes and its suffix; None for a document.

    Args:
        path: its path.
        head: its first bytes, some thousands if there are as many.
    """
    if head.startswith(MAGIC):
        return TableKind.PARQUET
    suffix = PurePath(path).suffix.lower()
    if suffix == _MAYBE_JSONL:
        return TableKind.JSONL if looks_like_jsonl(head) else None
    kind = _KIND_OF_SUFFIX.get(suffix)
    if kind is TableKind.PARQUET or not head.strip() or has_binary_signature(head):
        return None
    return kind


def open_table(kind: TableKind, stream: BinaryIO, source: str, options: SourceOptions) -> Table:
    """Opens a table.

    Args:
        kind: its format.
        stream: buffered, seekable, at its beginning.
        source: how the table is named to the user; rows are named after it.
        options: columns and limits.

    Raises:
        ContentError: it cannot be read at all.
    """
    if kind is TableKind.JSONL:
        return JsonlTable(stream, source, options)
    if kind is TableKind.CSV:
        return CsvTable(stream, source, options)
    return ParquetTable(stream, source, options)


def read_rows(table: Table, source: str, *, needs_rows: bool = False) -> Iterator[Parsed | Rejected]:
    """Gives a table's rows, or one rejection for a table without any.

    Args:
        table: an open table.
        source: its name.
        needs_rows: whether a table in which no row can be made out is no table.

    Raises:
        NoTextColumnError: before the first row.
    """
    columns = table.columns()
    if columns is None:
        if needs_rows:
            raise NoTextColumnError("has no row that is an object.")
        columns = Columns(COMMON_TEXT_COLUMNS[0], None)
    empty = True
    for row in table.read(columns):
        empty = False
        yield row
    if empty:
        yield Rejected(source, "empty", "The table has no rows.")
