"""Parquet by pyarrow (the extra ``parquet``), a batch of rows at a time."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from batcher.documents.decoding import decode
from batcher.documents.records import ContentError, Parsed, Rejected, SourceOptions
from batcher.documents.tables import Columns, NoTextColumnError, RowReader, choose_columns

MAGIC: Final = b"PAR1"
MISSING_EXTRA: Final = "A Parquet file needs the extra 'parquet': pip install 'batcher[parquet]'"
_BATCH_ROWS: Final = 512


def has_pyarrow() -> bool:
    """Tells whether the extra ``parquet`` is installed, without importing it."""
    return importlib.util.find_spec("pyarrow") is not None


class ParquetTable:
    """One Parquet file. Rows are numbered from 1."""

    def __init__(self, stream: BinaryIO, name: str, options: SourceOptions) -> None:
        """Reads the schema.

        Raises:
            ContentError: ``missing_extra``, or ``truncated`` where the footer cannot be read.
        """
        if not has_pyarrow():
            raise ContentError("missing_extra", MISSING_EXTRA)
        from pyarrow.lib import ArrowException
        from pyarrow.parquet import ParquetFile

        self._options = options
        self._rows = RowReader(name, options)
        try:
            self._file = ParquetFile(stream, pre_buffer=False)
        except (ArrowException, OSError) as error:
            raise ContentError(
                "truncated", f"The Parquet file is cut off or damaged ({_line(error)})."
            ) from error

    def columns(self) -> Columns:
        """Picks the columns.

        Raises:
            NoTextColumnError: there is no usable text column, or it does not hold text.
        """
        schema = self._file.schema_arrow
        columns = choose_columns(schema.names, self._options)
        kind = schema.field(columns.text).type
        if not _holds_text(kind):
            raise NoTextColumnError(f"has a column {columns.text!r}, but of type {kind}, not text.")
        return columns

    def read(self, columns: Columns) -> Iterator[Parsed | Rejected]:
        """Gives every row's document or rejection; a damaged part ends the table with a rejection."""
        from pyarrow.lib import ArrowException

        self._rows.begin(columns)
        wanted = [columns.text] if columns.id is None else [columns.text, columns.id]
        number = 0
        try:
            for batch in self._file.iter_batches(_BATCH_ROWS, columns=wanted, use_threads=False):
                texts = _values(batch.column(columns.text))
                ids = _values(batch.column(columns.id)) if columns.id is not None else [None] * len(texts)
                for text, identity in zip(texts, ids, strict=True):
                    number += 1
                    yield self._rows.document(number, text, identity)
        except (ArrowException, OSError) as error:
            yield self._rows.bad(number + 1, f"and all after it cannot be read: {_line(error)}.")


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _holds_text(kind: Any) -> bool:
    from pyarrow.types import (
        is_binary,
        is_dictionary,
        is_large_binary,
        is_large_string,
        is_string,
        is_string_view,
    )

    if is_dictionary(kind):
        kind = kind.value_type
    return any(
        test(kind) for test in (is_string, is_large_string, is_string_view, is_binary, is_large_binary)
    )


def _values(column: Any) -> list[Any]:
    """A column's values; text that is no valid UTF-8 (nothing checks it on writing) is decoded leniently."""
    from pyarrow.lib import binary

    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        values = column.cast(binary()).to_pylist()
    return [_text_of(value) if isinstance(value, bytes) else value for value in values]


def _text_of(value: bytes) -> str | None:
    try:
        return decode(value)
    except ContentError:
        return None
