"""Documents whose right answer is known: found from the rows of a golden file, and read."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import PurePath
from typing import Any

from batcher.documents.corpus import Parsed, Rejected, SourceOptions, check_columns, read_corpus
from batcher.documents.paths import STDIN, FoundFile, find_files, source_name
from batcher.documents.table_files import may_be_table
from batcher.documents.tables import Columns, RowReader
from batcher.errors import UsageError
from batcher.tasks.golden import Golden, GoldenRow, check_agreement


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row without a document that can be worked on, and why."""

    row: GoldenRow
    reason: str


@dataclass(frozen=True, slots=True)
class KnownDocuments:
    """The documents of a golden file, each with its right answer.

    Attributes:
        documents: in an order that is random but always the same: the first hundred are a fair sample.
        left_out: rows without a document.
        answers: by the source of a document.
        doubles: rows whose document another row has too, with the same answer, each beside that row.
    """

    documents: tuple[Parsed, ...]
    left_out: tuple[LeftOut, ...]
    answers: Mapping[str, Any] = field(repr=False)
    doubles: tuple[tuple[GoldenRow, GoldenRow], ...] = ()

    def lookup(self, source: str) -> Any | None:
        """The right answer for a source, or None."""
        return self.answers.get(source)


def read_known(golden: Golden, paths: Sequence[str], options: SourceOptions) -> KnownDocuments:
    """Read the documents that a golden file is about.

    A row with a ``text`` is its own document. Any other names a file, or a row of a table, which is looked
    for beside the golden file, then under each of the paths. All of it is held in memory: known answers are
    made by people, and few.

    Args:
        golden: the rows.
        paths: files and folders to look in too.
        options: how files are read; its limit is how many rows are taken, by a draw that is always the same
            and to which a larger limit only adds.

    Raises:
        UsageError: if a path does not exist, a table that a row names has no text column, columns are named
            and no row's document is in a table, or no document is left.
        TaskError: if two rows give different answers for one document.
    """
    if STDIN in paths:
        raise UsageError("Standard input cannot be read once for each model. Name files or folders")
    files = _find(golden, [os.path.abspath(path) for path in paths])  # noqa: PTH100 - keeps any bytes
    rows = sorted(golden.rows, key=_draw)
    located = [row for row in rows if row.text or row.line in files]
    of_files = [files[row.line] for row in located if not row.text]
    check_columns(of_files, options.text_column, options.id_column)
    chosen = located if options.limit is None else located[: options.limit]
    outcomes = _Reader(golden, replace(options, limit=None)).read(chosen, files)
    left_out = [
        LeftOut(row, "no such document was found") for row in rows if not row.text and row.line not in files
    ]
    row_of: dict[bytes, GoldenRow] = {}
    documents: list[Parsed] = []
    doubles: list[tuple[GoldenRow, GoldenRow]] = []
    for row in chosen:
        outcome = outcomes.get(row.line)
        if not isinstance(outcome, Parsed):
            left_out.append(LeftOut(row, outcome.reason if outcome else "no such row was found in its table"))
        elif row_of.setdefault(outcome.document.hash, row) is row:
            documents.append(outcome)
        else:
            doubles.append((row, row_of[outcome.document.hash]))
            check_agreement(golden.path, *doubles[-1])
    left_out.sort(key=lambda left: left.row.line)
    if not documents:
        first = left_out[0]
        raise UsageError(
            f"No row of {golden.path} has a document that can be read (line {first.row.line}: "
            f"{first.reason.rstrip('.')}). Name the folder that holds them"
        )
    answers = {one.source: row_of[one.document.hash].expected for one in documents}
    return KnownDocuments(tuple(documents), tuple(left_out), answers, tuple(doubles))


def _draw(row: GoldenRow) -> bytes:
    named = f"{row.location}\0{row.id}\0{row.text}"
    return blake2b(named.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _find(golden: Golden, paths: Sequence[str]) -> dict[int, str]:
    """The absolute path of the file that holds each row's document, by line; without rows with a text."""
    folders = [str(golden.path.resolve().parent), *filter(os.path.isdir, paths)]
    files = {}
    for row in golden.rows:
        if not row.text and (path := _beside(row, folders)) is not None:
            files[row.line] = path
    missing = [row for row in golden.rows if not row.text and row.line not in files]
    if missing and paths:
        files |= _under(golden, missing, paths)
    return files


def _beside(row: GoldenRow, folders: Sequence[str]) -> str | None:
    """The file at a row's own path in one of the folders; that of a table, where it names a table's row."""
    place = row.location or row.id
    table, is_row, _ = place.rpartition("#")
    names = [place, table] if is_row else [place]
    for folder in folders:
        for name in names:
            path = os.path.normpath(os.path.join(folder, name))  # noqa: PTH118 - keeps any bytes
            if os.path.isfile(path):  # noqa: PTH113
                return path
    return None


def _under(golden: Golden, missing: Sequence[GoldenRow], paths: Sequence[str]) -> dict[int, str]:
    """The files under the paths that rows name by the end of their path or by their name alone."""
    lines = {row.line for row in missing}
    bare = [row for row in missing if not row.location]
    tables: dict[str, list[GoldenRow]] = defaultdict(list)
    for row in missing:
        tables[PurePath(row.location.partition("#")[0]).name].append(row)
    files: dict[int, str] = {}
    for found in find_files(paths):
        if not isinstance(found, FoundFile):
            continue
        for match in golden.matches(found.source):
            if match.line in lines:
                files.setdefault(match.line, found.path)
        if may_be_table(found.path):
            named = tables.get(PurePath(found.path).name, []) + (bare if found.named else [])
            for other in named:
                files.setdefault(other.line, found.path)
    return files


class _Reader:
    """Reads the files that rows are in, each once."""

    def __init__(self, golden: Golden, options: SourceOptions) -> None:
        self._golden = golden
        self._options = options
        self._outcomes: dict[int, Parsed | Rejected] = {}

    def read(self, rows: Sequence[GoldenRow], files: Mapping[int, str]) -> Mapping[int, Parsed | Rejected]:
        """What became of each row's document, by line; rows that their table does not hold are left out."""
        own = RowReader(str(self._golden.path.resolve()), self._options)
        own.begin(Columns("text", "id"))
        lines: dict[str, list[GoldenRow]] = defaultdict(list)
        for row in rows:
            if row.text:
                self._outcomes[row.line] = own.document(row.line, row.text, row.id or None)
            else:
                lines[source_name(files[row.line])].append(row)
        paths = list(dict.fromkeys(files[row.line] for row in rows if not row.text))
        if paths:
            with closing(read_corpus(paths, self._options)) as corpus:
                for entry in corpus:
                    for row in self._rows_of(entry.source, lines):
                        self._outcomes.setdefault(row.line, entry)
        return self._outcomes

    def _rows_of(self, source: str, lines: Mapping[str, Sequence[GoldenRow]]) -> Sequence[GoldenRow]:
        if source in lines:
            return lines[source]
        of_table = lines.get(source.rpartition("#")[0], [])
        return [row for row in self._golden.matches(source) if row in of_table]
