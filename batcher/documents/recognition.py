"""What a file is, judged by its content; the name only decides where the content leaves it open."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath
from typing import Final

from batcher.documents.decoding import decode, is_blank
from batcher.documents.images import mime_of
from batcher.documents.office import has_kreuzberg, mime_of_zip, refuse_ole
from batcher.documents.records import ContentError


class Kind(StrEnum):
    """Which parser a document goes to."""

    TEXT = "text"
    HTML = "html"
    PDF = "pdf"
    OFFICE = "office"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class Recognised:
    """A file's kind, and what the parser needs to know.

    Attributes:
        kind: the parser.
        mime: for OFFICE and IMAGE.
        text: the decoded content, for TEXT and HTML.
    """

    kind: Kind
    mime: str = ""
    text: str = ""


_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_REFUSED_SIGNATURES: Final = (
    (b"\x1f\x8b", "A gzip file. Unpack it first (zcat FILE | batcher submit - takes JSONL)."),
    (b"BZh", "A bzip2 file. Unpack it first."),
    (b"\xfd7zXZ\x00", "An xz file. Unpack it first."),
    (b"\x28\xb5\x2f\xfd", "A zstd file. Unpack it first."),
    (b"7z\xbc\xaf\x27\x1c", "A 7-Zip archive. Unpack it and submit the files in it."),
    (b"Rar!\x1a\x07", "A RAR archive. Unpack it and submit the files in it."),
    (b"SQLite format 3\x00", "An SQLite database. Export the rows as JSONL or CSV."),
    (b"%!PS", "A PostScript file. Convert it to PDF."),
    (b"II*\x00", "A TIFF image. Convert it to PNG or PDF."),
    (b"MM\x00*", "A TIFF image. Convert it to PNG or PDF."),
)
_TAR_MARK: Final = (257, b"ustar")
_MEDIA_BRAND: Final = (4, b"ftyp")
_STILL_BRANDS: Final = frozenset({b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis"})
_PDF_WITHIN: Final = 1024
"""PDF readers take the signature anywhere in the first 1,024 bytes (implementation note of PDF 1.7)."""

_PROLOGUE: Final = re.compile(r"\s*(?:<\?xml[^>]*\?>\s*|<!--.*?-->\s*)*", re.DOTALL)
_HTML_START: Final = re.compile(r"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_SVG_START: Final = re.compile(r"(?:<!DOCTYPE\s+svg[^>]*>\s*)?<svg\b", re.IGNORECASE)
_ANY_TAG: Final = re.compile(
    r"<(?:p|div|span|table|tr|td|h[1-6]|ul|ol|dl|a|br|hr|b|i|em|strong|font|center|article|section|main|title|meta"
    r"|link|script|style|pre|img|form)\b[^<>]*>",
    re.IGNORECASE,
)
_MAIL_HEADER: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9-]*:[^\n]*\n(?:[ \t][^\n]*\n)*){2,}\r?\n")
_HTML_SUFFIXES: Final = frozenset({".html", ".htm", ".xhtml", ".shtml"})
_HEAD_CHARS: Final = 20_000


def recognise(data: bytes, name: str) -> Recognised:
    """Judges a whole file.

    Args:
        data: its bytes.
        name: its name; only the suffix is used.

    Raises:
        ContentError: ``empty``, ``binary``, ``unsupported``, ``truncated``, ``encrypted`` or ``too_large``.
    """
    if not data:
        raise ContentError("empty", "The file is empty (0 bytes).")
    by_signature = _by_signature(data)
    if by_signature is not None:
        return by_signature
    try:
        text = decode(data)
    except ContentError as error:
        raise _named_binary(data, error) from error
    if is_blank(text):
        raise ContentError("empty", "The file holds no visible character.")
    return _kind_of_text(text, PurePath(name).suffix.lower())


def has_binary_signature(head: bytes) -> bool:
    """Tells whether a file whose name promises rows of text begins like something else."""
    if mime_of(head) or head.startswith((_OLE, *_ZIP, b"%PDF-")):
        return True
    return any(head.startswith(signature) for signature, _ in _REFUSED_SIGNATURES)


def _by_signature(data: bytes) -> Recognised | None:
    image = mime_of(data)
    if image is not None:
        return Recognised(Kind.IMAGE, image)
    if data.startswith(b"%PDF-"):
        return Recognised(Kind.PDF)
    if data.startswith(_ZIP):
        return Recognised(Kind.OFFICE, mime_of_zip(data))
    if data.startswith(_OLE):
        raise refuse_ole(data)
    if data.startswith(b"{\\rtf"):
        return Recognised(Kind.OFFICE, "application/rtf")
    if b"%PDF-" in data[:_PDF_WITHIN] and b"%%EOF" in data[-_PDF_WITHIN:]:
        return Recognised(Kind.PDF)
    _refuse_unsupported(data)
    return None


def _refuse_unsupported(data: bytes) -> None:
    """Stops formats whose signature says what to do about them.

    Raises:
        ContentError: ``unsupported``.
    """
    for signature, reason in _REFUSED_SIGNATURES:
        if data.startswith(signature):
            raise ContentError("unsupported", reason)
    offset, mark = _TAR_MARK
    if data[offset : offset + len(mark)] == mark:
        raise ContentError("unsupported", "A tar archive. Unpack it and submit the files in it.")
    offset, mark = _MEDIA_BRAND
    if data[offset : offset + len(mark)] == mark:
        still = data[8:12] in _STILL_BRANDS
        what = "A HEIC or AVIF picture. Convert it to PNG or JPEG." if still else "A film or sound file."
        raise ContentError("unsupported", what)


def _named_binary(data: bytes, error: ContentError) -> ContentError:
    """Names a binary file, if the filetype library knows it; asked last, as two letters are enough for it."""
    import filetype

    kind = filetype.guess(data[:8192])
    if kind is None:
        return error
    return ContentError("unsupported", f"A file of type {kind.mime}, which has no text to read.")


def _kind_of_text(text: str, suffix: str) -> Recognised:
    head = text[:_HEAD_CHARS]
    start = _PROLOGUE.match(head)
    position = start.end() if start is not None else 0
    if _HTML_START.match(head, position) or (suffix in _HTML_SUFFIXES and _ANY_TAG.search(head)):
        return Recognised(Kind.HTML, text=text)
    if _SVG_START.match(head, position):
        raise ContentError("unsupported", "An SVG drawing. Convert it to PNG or PDF.")
    if suffix == ".eml" and _MAIL_HEADER.match(head) and has_kreuzberg():
        return Recognised(Kind.OFFICE, "message/rfc822")
    if suffix == ".ipynb" and '"nbformat"' in text and '"cells"' in text and has_kreuzberg():
        return Recognised(Kind.OFFICE, "application/x-ipynb+json")
    return Recognised(Kind.TEXT, text=text)
