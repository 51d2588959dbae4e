"""From a recognised file to a document: text and pictures at once, the rest in a parser process."""

from __future__ import annotations

from dataclasses import dataclass

from batcher.documents.images import read_image
from batcher.documents.office import has_kreuzberg, missing_office
from batcher.documents.recognition import Kind, recognise
from batcher.documents.records import ContentError, Parsed, Rejected, document_of_images, document_of_text
from batcher.domain import Document


@dataclass(frozen=True, slots=True)
class ParseTask:
    """A file for a parser that might crash or hang on it.

    Attributes:
        source: see :class:`Parsed`.
        kind: HTML, PDF or OFFICE.
        content: the decoded page for HTML, else the file's bytes.
        mime: for OFFICE.
    """

    source: str
    kind: Kind
    content: str | bytes
    mime: str = ""


def parse_file(source: str, name: str, data: bytes) -> Parsed | Rejected | ParseTask:
    """Parses what is safe to parse in this process.

    Args:
        source: how the document is named to the user.
        name: the file's name, for its suffix.
        data: the whole file.

    Returns:
        The outcome, or the task to give to a parser process.
    """
    try:
        found = recognise(data, name)
        if found.kind is Kind.TEXT:
            return Parsed(source, document_of_text(found.text))
        if found.kind is Kind.IMAGE:
            return Parsed(source, document_of_images([read_image(data, found.mime)]), found.kind.value)
        if found.kind is Kind.OFFICE and not has_kreuzberg():
            raise missing_office("An Office file, EPUB or RTF")
    except ContentError as error:
        return Rejected(source, error.code, error.reason)
    return ParseTask(source, found.kind, found.text if found.kind is Kind.HTML else data, found.mime)


def parse_isolated(kind: Kind, content: str | bytes, mime: str) -> Document | ContentError:
    """Runs one parser; called in a parser process.

    Returns:
        The document, or the reason against it (returned, not raised, so that it crosses processes as it is).
    """
    try:
        if kind is Kind.HTML and isinstance(content, str):
            from batcher.documents.html_text import text_of_html

            return document_of_text(text_of_html(content))
        if kind is Kind.PDF and isinstance(content, bytes):
            from batcher.documents.pdf import parse_pdf

            return parse_pdf(content)
        if kind is Kind.OFFICE and isinstance(content, bytes):
            from batcher.documents.office import parse_office

            return parse_office(content, mime)
    except ContentError as error:
        return error
    raise TypeError(f"No isolated parser takes {kind} as {type(content).__name__}.")
