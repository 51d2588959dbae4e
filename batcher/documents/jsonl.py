"""JSON Lines: one object a line, read in large blocks, a bad line costing only itself."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import orjson

from batcher.documents.records import Parsed, Rejected, SourceOptions
from batcher.documents.tables import Columns, NoTextColumnError, RowReader, choose_columns

BLOCK_BYTES: Final = 1 << 20
_PEEKED_ROWS: Final = 100
_ROW_OVERHEAD_BYTES: Final = 1 << 20
"""A line may be so much longer than the largest text: other columns, escapes."""

_UTF8_MARK: Final = b"\xef\xbb\xbf"
_WIDE_MARKS: Final = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


def looks_like_jsonl(head: bytes) -> bool:
    """Tells whether a file begins with two lines that are a JSON object each."""
    lines = [line for line in head.removeprefix(_UTF8_MARK).split(b"\n")[:20] if line.strip()]
    return len(lines) >= 2 and all(isinstance(_load(line), dict) for line in lines[:2])


class JsonlTable:
    """One stream of JSON Lines.

    Lines are numbered as an editor does, blank ones included; blank lines are passed over.
    """

    def __init__(self, stream: BinaryIO, name: str, options: SourceOptions) -> None:
        self._options = options
        self._max_line_bytes = options.max_file_bytes + _ROW_OVERHEAD_BYTES
        self._rows = RowReader(name, options)
        self._lines = self._numbered(stream)

    def columns(self) -> Columns | None:
        """Looks at the first rows, up to 100, for the columns; the rows are still given by :meth:`read`.

        Returns:
            The columns, or None if no row so far is an object.

        Raises:
            NoTextColumnError: none of the rows has a usable text column.
        """
        peeked: list[tuple[int, bytes | None]] = []
        keys: dict[str, None] = {}
        missing: NoTextColumnError | None = None
        found: Columns | None = None
        while found is None and len(peeked) < _PEEKED_ROWS:
            numbered = next(self._lines, None)
            if numbered is None:
                break
            peeked.append(numbered)
            row = _load(numbered[1]) if numbered[1] is not None else None
            if isinstance(row, dict):
                keys |= dict.fromkeys(row)
                try:
                    found = choose_columns(keys, self._options)
                except NoTextColumnError as error:
                    missing = error
        self._lines = itertools.chain(peeked, self._lines)
        if found is None and missing is not None:
            raise missing
        return found

    def read(self, columns: Columns) -> Iterator[Parsed | Rejected]:
        """Gives every row's document or rejection, in order."""
        rows, text_key, id_key = self._rows, columns.text, columns.id
        rows.begin(columns)
        loads = orjson.loads
        for number, line in self._lines:
            if line is None:
                yield rows.too_large(number)
                continue
            try:
                row = loads(line)
            except orjson.JSONDecodeError as error:
                if line.isspace():
                    continue
                row = _load(line)
                if row is None:
                    yield rows.bad(number, f"is not valid JSON ({error.msg}).")
                    continue
            if type(row) is not dict:
                yield rows.bad(number, f"is not a JSON object but {_kind_of(row)}.")
            elif text_key in row:
                yield rows.document(number, row[text_key], row.get(id_key) if id_key else None)
            else:
                yield rows.bad(number, f"has no column {text_key!r}.")

    def _numbered(self, stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
        """Gives lines with their numbers; None for one that is too long to hold."""
        limit = self._max_line_bytes
        first = stream.readline(limit)
        for mark, encoding in _WIDE_MARKS.items():
            if first.startswith(mark):
                yield from _wide_lines(first, stream, encoding, limit)
                return
        line = first.removeprefix(_UTF8_MARK)
        number = 0
        readline = stream.readline
        while line:
            number += 1
            if len(line) >= limit and not line.endswith(b"\n"):
                while line and not line.endswith(b"\n"):
                    line = readline(BLOCK_BYTES)
                yield number, None
            else:
                yield number, line
            line = readline(limit)


def _wide_lines(
    first: bytes, stream: BinaryIO, encoding: str, limit: int
) -> Iterator[tuple[int, bytes | None]]:
    """Re-encodes UTF-16 and UTF-32 lines as UTF-8."""
    import codecs

    decoder = codecs.getincrementaldecoder(encoding)("replace")
    pending = ""
    number = 0
    too_long = False
    block = first
    while True:
        pending += decoder.decode(block, final=not block)
        *whole, pending = pending.split("\n") if block else [*pending.split("\n"), ""]
        for line in whole:
            number += 1
            yield number, None if too_long else line.encode()
            too_long = False
        if len(pending) > limit:
            too_long, pending = True, ""
        if not block:
            return
        block = stream.read(BLOCK_BYTES)


def _load(line: bytes) -> Any:
    """Reads a line, also with the NaN and Infinity that Python writes; None if it cannot be read."""
    try:
        return orjson.loads(line.removeprefix(_UTF8_MARK))
    except orjson.JSONDecodeError:
        if b"NaN" not in line and b"Infinity" not in line:
            return None
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _kind_of(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
