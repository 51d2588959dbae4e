"""Office files, EPUB and their relatives by kreuzberg (extra ``office``), after a look into the container."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from typing import Final

from batcher.documents.decoding import is_blank
from batcher.documents.records import ContentError, document_of_text
from batcher.domain import Document

MAX_UNPACKED_BYTES: Final = 500_000_000
"""What a container may unpack to; more is taken for a decompression bomb."""

_OOXML: Final = "application/vnd.openxmlformats-officedocument."
_MIME_OF_MAIN_PART: Final = (
    ("word/document", _OOXML + "wordprocessingml.document"),
    ("ppt/presentation", _OOXML + "presentationml.presentation"),
    ("xl/workbook.xml", _OOXML + "spreadsheetml.sheet"),
)
_PACKAGE_MIMES: Final = frozenset(
    {
        "application/epub+zip",
        "application/vnd.oasis.opendocument.text",
        "application/vnd.oasis.opendocument.spreadsheet",
        "application/vnd.oasis.opendocument.presentation",
    }
)
_LOCKS: Final = frozenset({"META-INF/rights.xml", "META-INF/license.lcpl", "META-INF/sinf.xml"})
"""What the usual copy protections leave in an EPUB."""

_OLE_STREAMS: Final = (
    ("EncryptedPackage", "encrypted", "The Office file is locked by a password. Save it without one."),
    ("WordDocument", "unsupported", "An old Word file (.doc). Save it as .docx."),
    ("Workbook", "unsupported", "An old Excel file (.xls). Save it as .xlsx."),
    ("PowerPoint Document", "unsupported", "An old PowerPoint file (.ppt). Save it as .pptx."),
    ("__substg1.0_", "unsupported", "An Outlook message (.msg). Save it as .eml."),
)


def mime_of_zip(data: bytes) -> str:
    """Finds out what a ZIP container is, and that it is safe to unpack.

    Args:
        data: the whole file, beginning with ``PK``.

    Returns:
        The MIME type of a document that :func:`parse_office` reads.

    Raises:
        ContentError: ``truncated``, ``encrypted``, ``too_large`` or ``unsupported``.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _refuse_unsafe(members)
            mime = _package_mime(archive) or _main_part_mime(archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OSError) as error:
        raise ContentError(
            "truncated", f"The file is a ZIP container cut off or damaged ({error})."
        ) from error
    if mime is None:
        raise ContentError("unsupported", "A ZIP archive. Unpack it and submit the files in it.")
    return mime


def refuse_ole(data: bytes) -> ContentError:
    """Says what is in a pre-2007 Office container, judged by the names in its directory."""
    for stream, code, reason in _OLE_STREAMS:
        if stream.encode("utf-16-le") in data:
            return ContentError(code, reason)
    return ContentError("unsupported", "An OLE container of a kind that is not read.")


def has_kreuzberg() -> bool:
    """Tells whether the extra ``office`` is installed, without importing it."""
    return importlib.util.find_spec("kreuzberg") is not None


def missing_office(what: str) -> ContentError:
    """The rejection of a file that needs the extra."""
    return ContentError("missing_extra", f"{what} needs the extra 'office': pip install 'batcher[office]'")


def parse_office(data: bytes, mime: str) -> Document:
    """Reads the text of an Office file, EPUB, RTF, e-mail or notebook as Markdown.

    Raises:
        ContentError: ``missing_extra``, ``encrypted``, ``unreadable`` or ``empty``.
    """
    try:
        import kreuzberg
    except ImportError as error:
        raise missing_office("This file") from error
    config = kreuzberg.ExtractionConfig(
        use_cache=False, enable_quality_processing=False, output_format="markdown"
    )
    try:
        text = kreuzberg.extract_bytes_sync(data, mime, config).content.replace("\0", "")
    except kreuzberg.KreuzbergError as error:
        message = str(error).splitlines()[0][:200]
        if "password" in message.lower() or "encrypt" in message.lower():
            raise ContentError(
                "encrypted", "The file is locked by a password. Save it without one."
            ) from error
        raise ContentError("unreadable", f"The file is damaged: {message}") from error
    if is_blank(text):
        raise ContentError("empty", "The file has no text (pictures in Office files are not read).")
    return document_of_text(text)


def _refuse_unsafe(members: list[zipfile.ZipInfo]) -> None:
    total = sum(member.file_size for member in members)
    if total > MAX_UNPACKED_BYTES:
        raise ContentError(
            "too_large",
            f"The container unpacks to {total:,} bytes; at most {MAX_UNPACKED_BYTES:,} are taken.",
        )
    if any(member.flag_bits & 1 for member in members):
        raise ContentError("encrypted", "The ZIP container is locked by a password. Save it without one.")
    if any(member.filename in _LOCKS for member in members):
        raise ContentError("encrypted", "The book is copy-protected (DRM).")


def _package_mime(archive: zipfile.ZipFile) -> str | None:
    """The type that EPUB and OpenDocument declare in a member of their own."""
    try:
        member = archive.getinfo("mimetype")
    except KeyError:
        return None
    if member.file_size > 200:
        return None
    name = archive.read(member).decode("ascii", "replace").strip()
    return name if name in _PACKAGE_MIMES else None


def _main_part_mime(names: list[str]) -> str | None:
    for name in names:
        for prefix, mime in _MIME_OF_MAIN_PART:
            if name.startswith(prefix):
                return mime
    return None
