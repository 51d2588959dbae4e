"""What all tables share: which column is the text, how rows are named, and how a row becomes a document."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from batcher.documents.decoding import is_blank
from batcher.documents.records import Parsed, Rejected, SourceOptions, document_of_text

COMMON_TEXT_COLUMNS: Final = ("text", "content", "body", "document")
DEFAULT_ID_COLUMN: Final = "id"
_MAX_ID_CHARS: Final = 200
_MAX_COLUMNS_SHOWN: Final = 30


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns to read: the text, and the id where there is one."""

    text: str
    id: str | None


class NoTextColumnError(Exception):
    """A table has no column to take the text from. The message lists the columns found."""


def choose_columns(available: Iterable[str], options: SourceOptions) -> Columns:
    """Picks the text and the id column.

    Raises:
        NoTextColumnError: neither the column asked for nor, without one, a common name is there.
    """
    names = list(available)
    wanted = (options.text_column,) if options.text_column is not None else COMMON_TEXT_COLUMNS
    text = next((name for name in wanted if name in names), None)
    if text is None:
        raise NoTextColumnError(_no_column("text", wanted, names, "--text-column"))
    if options.id_column is not None and options.id_column not in names:
        raise NoTextColumnError(_no_column("id", (options.id_column,), names, "--id-column"))
    identity = options.id_column or (DEFAULT_ID_COLUMN if DEFAULT_ID_COLUMN in names else None)
    return Columns(text, identity if identity != text else None)


def _no_column(role: str, wanted: Iterable[str], names: list[str], flag: str) -> str:
    found = ", ".join(repr(name[:60]) for name in names[:_MAX_COLUMNS_SHOWN])
    more = f" and {len(names) - _MAX_COLUMNS_SHOWN} more" if len(names) > _MAX_COLUMNS_SHOWN else ""
    sought = " or ".join(repr(name) for name in wanted)
    return f"has no {role} column {sought}. Its columns are: {found or 'none'}{more}. Name one with {flag}."


class RowReader:
    """Turns the rows of one table into documents, each under a source of its own."""

    def __init__(self, table: str, options: SourceOptions) -> None:
        self._prefix = f"{table}#"
        self._max_text_bytes = options.max_file_bytes
        self._names = _SeenNames()
        self._named_by_id = False

    def begin(self, columns: Columns) -> None:
        """Told once, before the first row, which columns are read."""
        self._named_by_id = columns.id is not None

    def source(self, row: int, identity: Any = None) -> str:
        """Names a row by its id, or by its number (1-based) where it has none that can be used.

        An id that came before gets the row number behind it: ``path#7~1203``.
        """
        if not self._named_by_id:
            return f"{self._prefix}{row}"
        name = _id_text(identity) or str(row)
        while not self._names.add(name):
            name = f"{name}~{row}"
        return self._prefix + name

    def document(self, row: int, text: Any, identity: Any = None) -> Parsed | Rejected:
        """Makes a row's document.

        Args:
            row: its number, 1-based.
            text: the value of the text column.
            identity: the value of the id column, None without one.

        Returns:
            The document; or the rejection ``empty``, ``bad_row`` (no text, or text that is no valid
            Unicode) or ``too_large``.
        """
        source = self.source(row, identity)
        if type(text) is not str:
            if text is None:
                return Rejected(source, "empty", f"Row {row} has no text.")
            return Rejected(source, "bad_row", f"The text of row {row} is of type {type(text).__name__}.")
        if "\0" in text:
            text = text.replace("\0", "")
        if is_blank(text):
            return Rejected(source, "empty", f"The text of row {row} is empty.")
        if len(text) * 4 > self._max_text_bytes and len(text.encode(errors="replace")) > self._max_text_bytes:
            return self._too_large(source, row)
        try:
            return Parsed(source, document_of_text(text))
        except UnicodeEncodeError:
            return Rejected(
                source, "bad_row", f"The text of row {row} is no valid Unicode (lone surrogates)."
            )

    def too_large(self, row: int) -> Rejected:
        """Rejects a row that was not read to its end."""
        return self._too_large(self.source(row), row)

    def bad(self, row: int, reason: str) -> Rejected:
        """Rejects a row that cannot be made out."""
        return Rejected(self.source(row), "bad_row", f"Row {row} {reason}")

    def _too_large(self, source: str, row: int) -> Rejected:
        return Rejected(source, "too_large", f"Row {row} is larger than {self._max_text_bytes:,} bytes.")


def _id_text(identity: Any) -> str:
    """An id as text; empty where it is missing, nested, too long or not storable."""
    if type(identity) is not str:
        if not isinstance(identity, int | float):
            return ""
        identity = str(identity)
    text: str = identity
    if len(text) > _MAX_ID_CHARS:
        return ""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text.replace("\0", "").strip()


class _SeenNames:
    """Remembers names in a fixed 8 MiB (a Bloom filter), so that memory stays flat however many rows come.

    Five of 2**26 bits a name: of a million different names about two are taken for repeated and get the
    row number behind them, which does no harm.
    """

    _BITS: Final = 26
    _PROBES: Final = 5
    _MASK: Final = (1 << _BITS) - 1

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, name: str) -> bool:
        """Remembers a name; False if it was (most probably) there before."""
        if not self._bits:
            self._bits = bytearray(1 << (self._BITS - 3))
        bits = self._bits
        key = int.from_bytes(blake2b(name.encode(), digest_size=20).digest(), "little")
        fresh = False
        for _ in range(self._PROBES):
            position = key & self._MASK
            key >>= self._BITS
            mask = 1 << (position & 7)
            if not bits[position >> 3] & mask:
                fresh = True
                bits[position >> 3] |= mask
        return fresh
