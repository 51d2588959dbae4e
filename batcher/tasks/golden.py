"""Documents whose right answer is known, and how an item's source finds its answer."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Final

import orjson

from batcher.errors import TaskError
from batcher.tasks.loading import read_text

_TABLES: Final = (".jsonl", ".ndjson", ".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class GoldenRow:
    """One line of a golden file.

    Attributes:
        line: where it stands, from 1.
        id: its ``id`` as text, or "".
        location: its ``source`` or ``file``, or "".
        expected: the right answer, or the fields of it that are known.
        text: the document itself, where it stands in place of a file; else "".
    """

    line: int
    id: str
    location: str
    expected: Any
    text: str = ""


class Golden:
    """The rows of a golden file, found by the source of an item."""

    def __init__(self, path: Path, rows: Iterable[GoldenRow]) -> None:
        """Indexes the rows.

        Raises:
            TaskError: if two rows give different answers for one source, or for the same text.
        """
        self.path = path
        self.rows = tuple(rows)
        self._by_location: dict[str, list[GoldenRow]] = defaultdict(list)
        self._by_name: dict[str, list[GoldenRow]] = defaultdict(list)
        self._by_id: dict[str, list[GoldenRow]] = defaultdict(list)
        by_text: dict[str, GoldenRow] = {}
        for row in self.rows:
            if row.text:
                check_agreement(path, row, by_text.setdefault(row.text, row))
            if row.id:
                self._by_id[row.id].append(row)
            place = row.location or row.id
            if place:
                self._by_name[PurePath(place).name].append(row)
            self._add_location(row)
        self._folders = {PurePath(row.location).parent for row in self.rows if row.location}
        self._found: set[int] = set()

    def _add_location(self, row: GoldenRow) -> None:
        key = _key(row)
        same = self._by_location[key] if key else []
        same.append(row)
        first = same[0]
        if first.expected != row.expected:
            raise TaskError(
                f"{self.path}, line {row.line}: {key!r} has another answer in line {first.line}. Keep one."
            )

    def __len__(self) -> int:
        return len(self.rows)

    def lookup(self, source: str) -> Any | None:
        """The known answer for an item, or None if there is none or more than one row could be meant.

        A source is a path, or ``path#rowid`` for a row of a table. It is matched in full, then by row id or
        by the end of its path ("docs/loan-01.txt"), then by its file name alone, which counts only where all
        golden rows lie in one folder: elsewhere equal names in different folders are different documents.
        """
        rows = self._matching(source)
        self._found.update(row.line for row in rows)
        return rows[0].expected if rows else None

    def matches(self, source: str) -> list[GoldenRow]:
        """The rows that name a source, all with the answer that :meth:`lookup` gives."""
        return list(self._matching(source))

    def unmatched(self) -> list[GoldenRow]:
        """The rows that no source has found since this file was read."""
        return [row for row in self.rows if row.line not in self._found]

    def _matching(self, source: str) -> list[GoldenRow]:
        return self._by_location.get(source) or self._rows_of_table(source) or self._rows_of_file(source)

    def _rows_of_table(self, source: str) -> list[GoldenRow]:
        path, hash_sign, row_id = source.rpartition("#")
        rows = self._by_id.get(row_id, []) if hash_sign else []
        same_table = [row for row in rows if row.location and _is_tail(row.location.rpartition("#")[0], path)]
        same_file = [row for row in rows if row.location and _is_tail(row.location, path)]
        elsewhere = [row for row in rows if not _is_table(row.location)]
        return _agreeing(same_table or same_file or elsewhere)

    def _rows_of_file(self, source: str) -> list[GoldenRow]:
        rows = self._by_name.get(PurePath(source).name, [])
        tails = [row for row in rows if _is_tail(row.location or row.id, source)]
        if tails:
            longest = max(len(PurePath(row.location or row.id).parts) for row in tails)
            return _agreeing([row for row in tails if len(PurePath(row.location or row.id).parts) == longest])
        heads = [row for row in rows if _is_tail(source, row.location)]
        return _agreeing(heads or (rows if len(self._folders) < 2 else []))


def check_agreement(path: Path, one: GoldenRow, other: GoldenRow) -> None:
    """Refuse two rows on one document that say different things of it.

    Raises:
        TaskError: naming both lines.
    """
    if one.expected != other.expected:
        lines = sorted((one.line, other.line))
        raise TaskError(
            f"{path}, line {lines[1]}: the same document has another answer in line {lines[0]}. Keep one."
        )


def _key(row: GoldenRow) -> str:
    """A row's location; with its id where many rows share one table file, or where there is no location."""
    bare = row.id and (not row.location or _is_table(row.location))
    return f"{row.location}#{row.id}" if bare else row.location


def _is_table(location: str) -> bool:
    return location.rpartition("#")[0].lower().endswith(_TABLES) or location.lower().endswith(_TABLES)


def _is_tail(tail: str, path: str) -> bool:
    parts, whole = PurePath(tail).parts, PurePath(path).parts
    parts = parts[1:] if parts[:1] == (".",) else parts
    return bool(parts) and whole[-len(parts) :] == parts


def _agreeing(rows: list[GoldenRow]) -> list[GoldenRow]:
    """These rows if all of them say the same, else none."""
    return rows if all(row.expected == rows[0].expected for row in rows) else []


def load_golden(path: Path | str) -> Golden:
    """Reads a golden file: JSON objects, one per line.

    A row names its document by ``source``, ``file`` or ``id`` (or brings it as ``text``) and holds the answer
    as ``expected`` (the object, or some fields of it), as ``fields`` (the same), or as ``label``.

    Raises:
        TaskError: with the line number, if a row is none of these; or if the file is missing or empty.
    """
    path = Path(path)
    rows = [
        _row(path, number, line)
        for number, line in enumerate(read_text(path).split("\n"), start=1)
        if line.strip()
    ]
    if not rows:
        raise TaskError(f'{path} has no rows. A row looks like {{"file": "docs/a.txt", "expected": {{...}}}}')
    return Golden(path, rows)


def _row(path: Path, number: int, line: str) -> GoldenRow:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise TaskError(f"{path}, line {number}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise TaskError(f"{path}, line {number}: not a JSON object.")
    answers = [key for key in ("expected", "fields", "label") if row.get(key) is not None]
    if len(answers) != 1:
        raise TaskError(f'{path}, line {number}: needs one of "expected", "fields" and "label".')
    if not any(row.get(key) not in (None, "") for key in ("id", "file", "source", "text")):
        raise TaskError(f'{path}, line {number}: needs "file", "source", "id" or "text".')
    answer = row[answers[0]]
    if answer == {}:
        raise TaskError(f'{path}, line {number}: "{answers[0]}" holds no field: there is nothing to score.')
    row_id = row.get("id")
    return GoldenRow(
        line=number,
        id="" if row_id is None else str(row_id),
        location=str(row.get("source") or row.get("file") or ""),
        expected={"label": answer} if answers[0] == "label" else answer,
        text=str(row.get("text") or ""),
    )


def unfit_answers(golden: Golden, schema: Mapping[str, Any]) -> list[str]:
    """Known answers that no answer to this schema can equal: a fault per row, with its line.

    Looks at what a slip of the pen changes: names of fields and members of enumerations. Values of other
    types are left to the scorer, which may read "$1,200" as a number and ``["x"]`` as "x".
    """
    return [
        f"line {row.line}: {fault}"
        for row in golden.rows
        if (fault := next(_slips(row.expected, schema), None)) is not None
    ]


def _slips(expected: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    fields = schema.get("properties", {})
    if not isinstance(expected, dict):
        yield f"the answer is an object with {', '.join(fields)}"
        return
    closed = schema.get("additionalProperties") is False
    for name, value in expected.items():
        if name not in fields:
            if closed:
                yield f"the answer has no field {name!r}{_close(name, fields)}"
            continue
        choices = _choices(fields[name])
        for given in value if isinstance(value, list) else [value]:
            if choices and given not in choices:
                yield f"{given!r} is none of the values of {name}{_close(given, choices)}"


def _choices(schema: Any) -> list[Any]:
    """The members of a field's enumeration, or of its list's; empty where anything goes."""
    if not isinstance(schema, dict):
        return []
    found = schema.get("enum") or _choices(schema.get("items"))
    return list(found)


def _close(word: Any, known: Iterable[Any]) -> str:
    texts = {text.casefold(): text for text in known if isinstance(text, str)}
    close = difflib.get_close_matches(str(word).casefold(), texts, n=1)
    return f" (did you mean {texts[close[0]]!r}?)" if close else ""
