"""What the sources give: parsed documents and rejections, and how parsed content is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from batcher.domain import Document, Image

HASH_BYTES = 20


@dataclass(frozen=True, slots=True)
class Parsed:
    """One document that can be worked on.

    Attributes:
        source: where it came from: a path, or ``path#id`` for a row. Always storable as UTF-8, without NUL.
        document: the parsed content.
        kind: what the source is, a value of ``recognition.Kind``; a row of a table is text.
    """

    source: str
    document: Document
    kind: str = field(default="text", compare=False)


@dataclass(frozen=True, slots=True)
class Rejected:
    """One document that cannot be worked on, and why.

    Attributes:
        source: as in :class:`Parsed`.
        code: one of the codes listed in docs/documents.md, e.g. ``empty`` or ``encrypted``.
        reason: one sentence for the user.
    """

    source: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How a corpus is read.

    Attributes:
        max_file_bytes: larger files, and rows whose text is larger, are rejected.
        text_column: the column that holds the text of a table; None tries the common names.
        id_column: the column that names the rows of a table; None takes ``id`` where there is one.
        limit: stop after so many parsed documents.
        golden: the file of known answers, its real path. It is read for rows that bring a text; it is never a
            document itself, wherever it lies.
    """

    max_file_bytes: int
    text_column: str | None = None
    id_column: str | None = None
    limit: int | None = None
    golden: str | None = None


class ContentError(Exception):
    """A document's content cannot be used. Becomes a :class:`Rejected`, never an error for the user."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


def document_of_text(text: str) -> Document:
    r"""Names a text by its content.

    Args:
        text: must be encodable as UTF-8 (no lone surrogates).

    Returns:
        A document whose hash is the 20-byte BLAKE2b of ``b"text\0"`` and the UTF-8 bytes.
    """
    return Document(blake2b(b"text\0" + text.encode(), digest_size=HASH_BYTES).digest(), text)


def document_of_images(images: Sequence[Image], text: str = "") -> Document:
    """Names pictures by their bytes.

    Args:
        images: the picture, or the pages in order.
        text: what could be read of a document that is part text, part pictures.

    Returns:
        A document whose hash covers the text, and each image's type, length and bytes.
    """
    digest = blake2b(b"images\0", digest_size=HASH_BYTES)
    for image in images:
        digest.update(f"{image.mime} {len(image.data)}\0".encode())
        digest.update(image.data)
    digest.update(b"text\0" + text.encode())
    return Document(digest.digest(), text, tuple(images))
