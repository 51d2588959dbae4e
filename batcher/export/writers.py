"""The three formats, each from a stream of lines to a binary stream, in bounded memory."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from itertools import islice
from typing import Any, BinaryIO, Final

from batcher.errors import ConfigurationError, UsageError
from batcher.export.columns import Column, Kind, answer_columns, as_json
from batcher.export.lines import ResultLine

ROW_GROUP: Final = 5_000
"""Rows per Parquet row group: some megabytes of answers in memory at a time."""

_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins so for a formula (OWASP, CSV injection)."""

Writer = Callable[[Iterable[ResultLine], Mapping[str, Any], BinaryIO], int]


def write_jsonl(lines: Iterable[ResultLine], schema: Mapping[str, Any], target: BinaryIO) -> int:  # noqa: ARG001
    """JSON Lines, the answer as a JSON value. Returns how many lines."""
    count = 0
    for line in lines:
        target.write(line.to_json())
        count += 1
    return count


def write_csv(lines: Iterable[ResultLine], schema: Mapping[str, Any], target: BinaryIO) -> int:
    """CSV with a header, UTF-8, RFC 4180. Lists and objects stand as JSON. Returns how many rows.

    Texts that a spreadsheet would run as a formula get a ``'`` in front; numbers stay numbers.
    """
    columns = answer_columns(schema)
    text = io.TextIOWrapper(target, encoding="utf-8", newline="")
    try:
        writer = csv.writer(text)
        count = 0
        for line in lines:
            head = line.head()
            if count == 0:
                _write_header(writer, head, columns)
            answer = line.output
            writer.writerow(
                [_cell(value) for value in head.values()] + [_cell(c.value(answer)) for c in columns]
            )
            count += 1
        if count == 0:
            _write_header(writer, dict.fromkeys(_HEAD_TYPES), columns)
        text.flush()
    finally:
        text.detach()
    return count


def write_parquet(lines: Iterable[ResultLine], schema: Mapping[str, Any], target: BinaryIO) -> int:
    """Parquet, zstd, in row groups. Lists of simple values stay lists. Returns how many rows.

    Raises:
        ConfigurationError: if the extra is not installed.
        UsageError: if a value does not fit its column.
    """
    try:
        parquet: Any = import_module("pyarrow.parquet")
        pa: Any = import_module("pyarrow")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "Parquet needs one more package. Run: pip install 'batcher[parquet]'"
        ) from error
    columns = answer_columns(schema)
    names = [*_HEAD_TYPES, *(column.name for column in columns)]
    types = [*(getattr(pa, kind)() for kind in _HEAD_TYPES.values())]
    types += [_arrow_type(pa, column) for column in columns]
    arrow_schema = pa.schema(list(zip(names, types, strict=True)))
    count = 0
    stream = iter(lines)
    with parquet.ParquetWriter(target, arrow_schema, compression="zstd") as writer:
        while rows := [_parquet_row(line, columns) for line in islice(stream, ROW_GROUP)]:
            writer.write_table(_table(pa, rows, arrow_schema))
            count += len(rows)
    return count


WRITERS: Final[dict[str, Writer]] = {"jsonl": write_jsonl, "csv": write_csv, "parquet": write_parquet}

_HEAD_TYPES: Final = {
    "id": "int64",
    "source": "string",
    "task": "string",
    "model": "string",
    "tier": "string",
    "status": "string",
    "error_class": "string",
    "error": "string",
    "cost_usd": "float64",
    "attempts": "int64",
    "reused": "bool_",
}
"""The columns before the answer's, and their pyarrow types."""

_ARROW_TYPES: Final = {
    Kind.TEXT: "string",
    Kind.INTEGER: "int64",
    Kind.NUMBER: "float64",
    Kind.BOOLEAN: "bool_",
    Kind.JSON: "string",
}


def _write_header(writer: Any, head: Mapping[str, Any], columns: Sequence[Column]) -> None:
    writer.writerow([_cell(name) for name in (*head, *(column.name for column in columns))])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        # NUL ends a cell, or the file, for half of the programs that read CSV.
        text = value.replace("\0", "\ufffd")
        return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, dict)):
        return as_json(value)
    return format(value, "f") if not isinstance(value, (int, float)) else repr(value)


def _parquet_row(line: ResultLine, columns: Sequence[Column]) -> dict[str, Any]:
    head, answer = line.head(), line.output
    head["cost_usd"] = float(head["cost_usd"])
    return head | {column.name: _parquet_value(column, column.value(answer)) for column in columns}


def _parquet_value(column: Column, value: Any) -> Any:
    if value is None:
        return None
    if column.kind is Kind.JSON:
        return as_json(value)
    if column.kind is Kind.INTEGER:
        # JSON Schema counts 3.0 as an integer.
        return [_whole(part) for part in value] if column.is_list else _whole(value)
    return value


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _arrow_type(pyarrow: Any, column: Column) -> Any:
    simple = getattr(pyarrow, _ARROW_TYPES[column.kind])()
    return pyarrow.list_(simple) if column.is_list else simple


def _table(pyarrow: Any, rows: list[dict[str, Any]], schema: Any) -> Any:
    try:
        return pyarrow.Table.from_pylist(rows, schema=schema)
    except (pyarrow.ArrowException, OverflowError, TypeError) as error:
        raise UsageError(f"An answer does not fit a Parquet column: {error}. Use --format jsonl") from error
