"""From paths to a stream of parsed and rejected documents: the one door into this package."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from typing import BinaryIO, Final

from batcher.documents.isolation import ParserPool, Ticket
from batcher.documents.jsonl import BLOCK_BYTES, JsonlTable
from batcher.documents.parsing import ParseTask, parse_file, parse_isolated
from batcher.documents.paths import (
    STDIN,
    FoundFile,
    check_paths,
    find_files,
    is_glob,
    open_regular,
    source_name,
    unreadable,
)
from batcher.documents.records import (
    ContentError,
    Parsed,
    Rejected,
    SourceOptions,
    document_of_images,
    document_of_text,
)
from batcher.documents.table_files import TableKind, may_be_table, open_table, read_rows, table_kind
from batcher.documents.tables import NoTextColumnError
from batcher.domain import Document
from batcher.errors import UsageError

__all__ = [
    "Parsed",
    "Rejected",
    "SourceOptions",
    "check_columns",
    "document_of_images",
    "document_of_text",
    "read_corpus",
]

_HEAD_BYTES: Final = 1 << 16
_MAX_WAITING: Final = 64
_MAX_WAITING_BYTES: Final = 128 << 20

Outcome = Parsed | Rejected


def read_corpus(
    paths: Sequence[str], options: SourceOptions, stdin: BinaryIO | None = None
) -> Generator[Outcome, None, None]:
    """Reads documents from files, folders, globs, tables and standard input, in a fixed order.

    Nothing is held but what is under way: at most 64 documents or 128 MiB. HTML, PDF and Office files are
    parsed in child processes, started when the first comes and stopped when the generator ends or is closed.

    Args:
        paths: what the user named; ``-`` is JSON Lines on standard input.
        options: limits and columns.
        stdin: the stream for ``-``, binary.

    Returns:
        A generator of outcomes; close it if you leave it early.

    Raises:
        UsageError: at once, for a path that does not exist, a glob that matches nothing, or a table named
            by the user that has no text column; while reading, for the columns of standard input.
        DependencyError: while reading, if parser processes cannot be started.
    """
    check_paths(paths)
    if STDIN in paths and stdin is None:
        raise UsageError("- was given, but there is no standard input.")
    for path in paths:
        _check_named_table(path, options)
    return _limited(_read(paths, options, stdin), options.limit)


def _limited(outcomes: Generator[Outcome, None, None], limit: int | None) -> Generator[Outcome, None, None]:
    left = limit
    try:
        if left is not None and left <= 0:
            return
        for outcome in outcomes:
            yield outcome
            if left is not None and type(outcome) is Parsed:
                left -= 1
                if left == 0:
                    return
    finally:
        outcomes.close()


def _read(
    paths: Sequence[str], options: SourceOptions, stdin: BinaryIO | None
) -> Generator[Outcome, None, None]:
    pool = ParserPool()
    line = _Line(pool)
    try:
        for item in _items(paths, options, stdin):
            if type(item) is not ParseTask and not line:
                yield item  # type: ignore[misc]  # mypy does not narrow by `type(...) is not`
                continue
            line.append(item)
            while line.must_give():
                yield line.give()
        while line:
            yield line.give()
    finally:
        pool.close()


class _Line:
    """Outcomes waiting for those before them, so that they leave in the order in which they came."""

    def __init__(self, pool: ParserPool) -> None:
        self._pool = pool
        self._waiting: deque[tuple[str, str, Outcome | Ticket, int]] = deque()
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def append(self, item: Outcome | ParseTask) -> None:
        """Queues an outcome, or a task, which is given to the parser processes at once."""
        if isinstance(item, ParseTask):
            ticket = self._pool.submit(parse_isolated, item.kind, item.content, item.mime)
            size = len(item.content)
            self._waiting.append((item.source, item.kind.value, ticket, size))
        else:
            size = 1024
            if isinstance(item, Parsed):
                size += len(item.document.text) + sum(len(image.data) for image in item.document.images)
            self._waiting.append((item.source, "", item, size))
        self._bytes += size

    def must_give(self) -> bool:
        """Whether the first is ready, or so much waits that the reader must wait for it."""
        if not self._waiting:
            return False
        first = self._waiting[0][2]
        if not isinstance(first, Ticket) or first.done():
            return True
        return len(self._waiting) >= _MAX_WAITING or self._bytes >= _MAX_WAITING_BYTES

    def give(self) -> Outcome:
        """Takes the first out, waiting for its parser if need be."""
        source, kind, first, size = self._waiting.popleft()
        self._bytes -= size
        if not isinstance(first, Ticket):
            return first
        try:
            result = self._pool.result(first)
        except ContentError as error:
            result = error
        if isinstance(result, Document):
            return Parsed(source, result, kind)
        return Rejected(source, result.code, result.reason)


def _items(
    paths: Sequence[str], options: SourceOptions, stdin: BinaryIO | None
) -> Iterator[Outcome | ParseTask]:
    for found in find_files(paths):
        if isinstance(found, FoundFile):
            yield from _read_file(found, options)
        elif found is not None:
            yield found
        elif stdin is not None:
            yield from _read_stdin(stdin, options)


def _read_stdin(stdin: BinaryIO, options: SourceOptions) -> Iterator[Outcome]:
    try:
        yield from read_rows(JsonlTable(stdin, STDIN, options), STDIN)
    except NoTextColumnError as error:
        raise UsageError(f"The JSONL on standard input {error}") from error


def _read_file(found: FoundFile, options: SourceOptions) -> Iterator[Outcome | ParseTask]:
    try:
        with open_regular(found.path) as stream:
            head = stream.read(_HEAD_BYTES)
            kind = table_kind(found.path, head)
            if kind is None and _is_golden(found.path, options):
                return
            document = None if kind is not None else _read_document(found, head, stream, options)
        if document is not None:
            yield document
        elif kind is not None:
            yield from _read_table(found, kind, options)
    except OSError as error:
        yield _rejected(found, unreadable(error))
    except ContentError as error:
        yield _rejected(found, error)


def _rejected(found: FoundFile, error: ContentError) -> Rejected:
    return Rejected(found.source, error.code, error.reason)


def _read_document(
    found: FoundFile, head: bytes, stream: io.FileIO, options: SourceOptions
) -> Outcome | ParseTask:
    limit = options.max_file_bytes
    size = max(os.fstat(stream.fileno()).st_size, len(head))
    data = head
    while len(head) == _HEAD_BYTES and size <= limit:
        more = stream.read(limit + 1 - len(data))
        data += more
        size = max(size, len(data))
        if not more:
            break
    if size > limit:
        raise ContentError("too_large", f"The file has {size:,} bytes; at most {limit:,} are taken.")
    return parse_file(found.source, found.path, data)


def _read_table(found: FoundFile, kind: TableKind, options: SourceOptions) -> Iterator[Outcome | ParseTask]:
    """Reads a table's rows; one that was not asked for and has no text column is a document of its own."""
    is_golden = _is_golden(found.path, options)
    as_text = not found.named and options.text_column is None and kind is not TableKind.PARQUET
    with open_regular(found.path) as raw, io.BufferedReader(raw, BLOCK_BYTES) as stream:
        try:
            table = open_table(kind, stream, found.source, options)
            rows = read_rows(table, found.source, needs_rows=as_text)
            # Rows of known answers that bring no text name a document that lies elsewhere.
            yield from (row for row in rows if type(row) is Parsed) if is_golden else rows
            return
        except NoTextColumnError as error:
            if is_golden:
                return
            if not as_text:
                yield Rejected(found.source, "no_text_column", f"The table {error}")
                return
    with open_regular(found.path) as stream:
        yield _read_document(found, stream.read(_HEAD_BYTES), stream, options)


def _is_golden(path: str, options: SourceOptions) -> bool:
    """Whether a file is the one of the known answers; names are compared first, links followed then."""
    golden = options.golden
    if golden is None or os.path.basename(path) != os.path.basename(golden):  # noqa: PTH119
        return False
    return os.path.realpath(path) == golden


def check_columns(paths: Sequence[str], text_column: str | None, id_column: str | None) -> None:
    """Refuse columns that are named where there is no table.

    Raises:
        UsageError: if none of the paths is, or may hold, one.
    """
    given = {"--text-column": text_column, "--id-column": id_column}
    named = [flag for flag, column in given.items() if column is not None]
    if named and not any(map(_may_hold_table, paths)):
        raise UsageError(
            f"{' and '.join(named)}: there is no table (JSONL, CSV, Parquet) whose column that could be. "
            "Leave it out"
        )


def _may_hold_table(path: str) -> bool:
    if path == STDIN or is_glob(path) or os.path.isdir(path) or may_be_table(path):  # noqa: PTH112
        return True
    try:
        with open_regular(path) as stream:
            return table_kind(path, stream.read(_HEAD_BYTES)) is not None
    except (OSError, ContentError):
        return False


def _check_named_table(path: str, options: SourceOptions) -> None:
    """Finds out at once that a table the user named cannot be used.

    Raises:
        UsageError: no text column, or the extra for its format is missing.
    """
    if path == STDIN or is_glob(path) or not may_be_table(path):
        return
    try:
        with open_regular(path) as raw, io.BufferedReader(raw, BLOCK_BYTES) as stream:
            kind = table_kind(path, stream.peek(_HEAD_BYTES))
            if kind is not None:
                table = open_table(kind, stream, path, options)
                table.columns()
    except NoTextColumnError as error:
        if not _is_golden(path, options):
            raise UsageError(f"{source_name(path)} {error}") from error
    except ContentError as error:
        if error.code == "missing_extra":
            raise UsageError(error.reason) from error
    except OSError:
        return  # told as a rejection when its turn comes
