"""CSV and TSV: delimiter and encoding found out, quoted line breaks kept, a bad row costs only itself."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import BinaryIO, Final

from batcher.documents.decoding import encoding_of
from batcher.documents.records import Parsed, Rejected, SourceOptions
from batcher.documents.tables import Columns, RowReader, choose_columns

_SAMPLE_BYTES: Final = 1 << 16
_DELIMITERS: Final = ",;\t|"
_ROW_OVERHEAD_BYTES: Final = 1 << 20


class CsvTable:
    """One CSV file with a header line. Rows are numbered from 1, the header not counted."""

    def __init__(self, stream: BinaryIO, name: str, options: SourceOptions) -> None:
        """Reads the header.

        Raises:
            ContentError: ``binary``.
        """
        sample = stream.read(_SAMPLE_BYTES)
        stream.seek(0)
        lines = io.TextIOWrapper(stream, encoding_of(sample), errors="replace", newline="")
        self._options = options
        self._rows = RowReader(name, options)
        limit = options.max_file_bytes + _ROW_OVERHEAD_BYTES
        # The bound is the csv module's own, for the whole process: only ever raised.
        csv.field_size_limit(max(csv.field_size_limit(), limit))
        start = lines.readline(limit)
        lines.seek(0)
        self._reader = csv.reader(lines, delimiter=_delimiter_of(start), strict=False)
        self.header = [cell.strip().lstrip("\ufeff") for cell in next(self._reader, [])]

    def columns(self) -> Columns:
        """Picks the columns.

        Raises:
            NoTextColumnError: the header has no usable text column.
        """
        return choose_columns(self.header, self._options)

    def read(self, columns: Columns) -> Iterator[Parsed | Rejected]:
        """Gives every row's document or rejection, in order."""
        self._rows.begin(columns)
        text_at = self.header.index(columns.text)
        id_at = self.header.index(columns.id) if columns.id is not None else None
        width = len(self.header)
        number = 0
        while True:
            number += 1
            try:
                row = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield self._rows.bad(number, f"cannot be read ({error}).")
                continue
            if not row:
                number -= 1
            elif any(row[width:]) or len(row) <= text_at:
                yield self._rows.bad(
                    number, f"has {len(row)} fields, the header {width}: are quotes missing?"
                )
            else:
                identity = row[id_at] if id_at is not None and id_at < len(row) else None
                yield self._rows.document(number, row[text_at], identity)


def _delimiter_of(header: str) -> str:
    """The one of comma, semicolon, tab and bar that is most frequent outside quotes in the header line."""
    bare = "".join(header.split('"')[::2])
    return max(_DELIMITERS, key=bare.count)
