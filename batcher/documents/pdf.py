"""PDF: the text layer, and pictures of the pages that have none."""

from __future__ import annotations

import re
import struct
import zlib
from typing import TYPE_CHECKING, Final

from batcher.documents.decoding import is_blank
from batcher.documents.records import ContentError, document_of_images, document_of_text
from batcher.domain import Document, Image

if TYPE_CHECKING:
    import pypdfium2

MAX_PAGE_IMAGES: Final = 20
"""More scanned pages than that make requests that several vendors refuse for their size (30 to 50 MB)."""

_LONG_SIDE_PX: Final = 1568
"""Vision models scale larger pictures down to about this (Anthropic's vision guide names 1,568)."""

_MAX_PAGE_BYTES: Final = 1_500_000
"""A colour page that is larger as PNG is rendered in grey: vendors take 5 MB an image at the least."""

_MIN_PAGE_CHARS: Final = 20
"""A page with fewer visible characters (page number, stamp, scanner's name) has no text layer to speak of."""

_SCAN_COVERAGE: Final = 0.4
"""A page whose pictures cover less of it, and that has some text, is short, not scanned."""

_SCAN_SHARE: Final = 0.25
"""From this share of pages without text on, a document with text takes its page pictures along."""

_MAX_OBJECT_DEPTH: Final = 5
_PASSWORD_ERRORS: Final = frozenset({4, 5})
"""FPDF_ERR_PASSWORD and FPDF_ERR_SECURITY of fpdfview.h."""

_LINEARIZED: Final = re.compile(rb"/Linearized\b[^>]{0,400}?/L\s+(\d+)")
_NO_PAGES: Final = re.compile(rb"/Count\s+0\b")
_ANY_PAGE: Final = re.compile(rb"/Type\s*/Page\b")
_SOFT_HYPHEN_BREAK: Final = re.compile("[\ufffe\u0002]\r?\n")
_UNPRINTABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def parse_pdf(data: bytes) -> Document:
    """Reads a PDF.

    Args:
        data: the whole file.

    Returns:
        A document of text; of page images, if there is no text layer; or of both, if a quarter of the
        pages or more are pictures. A page that is left out says so in the text.

    Raises:
        ContentError: ``encrypted``, ``truncated``, ``unreadable``, ``empty``, ``too_large`` (more scanned
            pages than ``MAX_PAGE_IMAGES``), ``no_text_layer`` (and the pages cannot be rendered) or
            ``unsupported`` (a dynamic XFA form).
    """
    _refuse_truncated(data)
    pdf = _open(data)
    try:
        texts = [_page_text(pdf, index) for index in range(len(pdf))]
        pictured = [index for index, text in enumerate(texts) if _is_pictured(pdf, index, text)]
        _refuse_xfa(texts)
        return _assemble(pdf, texts, pictured)
    finally:
        pdf.close()


def _refuse_truncated(data: bytes) -> None:
    """PDFium mends cut files and shows the pages that are left: half a document must not pass for one."""
    linearized = _LINEARIZED.search(data, 0, 2048)
    if b"%%EOF" not in data or (linearized is not None and int(linearized[1]) > len(data)):
        raise ContentError("truncated", "The PDF ends early: the file is cut off.")


def _open(data: bytes) -> pypdfium2.PdfDocument:
    import pypdfium2

    try:
        pdf = pypdfium2.PdfDocument(data)
        if pdf.get_formtype():
            pdf.init_forms()
    except pypdfium2.PdfiumError as error:
        # PDFium leaves the error of an earlier file standing where it reports none for this one.
        if error.err_code in _PASSWORD_ERRORS and b"/Encrypt" in data:
            raise ContentError(
                "encrypted", "The PDF is locked by a password. Save it without one."
            ) from error
        if _NO_PAGES.search(data) and not _ANY_PAGE.search(data):
            raise ContentError("empty", "The PDF has no pages.") from error
        raise ContentError("unreadable", "The PDF is damaged and cannot be opened.") from error
    return pdf


def _page_text(pdf: pypdfium2.PdfDocument, index: int) -> str:
    page = pdf[index]
    try:
        if pdf.formenv is not None:
            page.flatten()
            page.close()
            page = pdf[index]
        text_page = page.get_textpage()
        text: str = text_page.get_text_bounded()
        text_page.close()
    finally:
        page.close()
    text = _SOFT_HYPHEN_BREAK.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _UNPRINTABLE.sub("", text).strip()


def _is_pictured(pdf: pypdfium2.PdfDocument, index: int, text: str) -> bool:
    """Whether a page shows what its text layer does not say."""
    if len("".join(text.split())) >= _MIN_PAGE_CHARS:
        return False
    page = pdf[index]
    try:
        width, height = page.get_size()
        area = 0.0
        drawn = False
        for item in page.get_objects(max_depth=_MAX_OBJECT_DEPTH):
            drawn = True
            if item.type == 3:  # FPDF_PAGEOBJ_IMAGE of fpdf_edit.h
                left, bottom, right, top = item.get_bounds()
                inside_x = min(right, width) - max(left, 0.0)
                inside_y = min(top, height) - max(bottom, 0.0)
                area += max(inside_x, 0.0) * max(inside_y, 0.0)
        return drawn and (not text or area >= _SCAN_COVERAGE * width * height)
    finally:
        page.close()


def _refuse_xfa(texts: list[str]) -> None:
    if len(texts) == 1 and texts[0].startswith("Please wait...") and "Adobe" in texts[0]:
        raise ContentError(
            "unsupported",
            "A dynamic XFA form, which only Adobe Reader shows. Print it to a PDF and take that.",
        )


def _assemble(pdf: pypdfium2.PdfDocument, texts: list[str], pictured: list[int]) -> Document:
    text_chars = sum(len("".join(text.split())) for text in texts)
    has_text = text_chars >= _MIN_PAGE_CHARS * max(1, len(texts) - len(pictured))
    if not pictured:
        return _of_text("\n\n".join(text for text in texts if text), len(texts))
    if not has_text:
        return _of_pages(pdf, pictured if text_chars == 0 else range(len(texts)), "")
    with_pictures = len(pictured) >= _SCAN_SHARE * len(texts)
    note = "see the attached picture" if with_pictures else "left out"
    for index in pictured:
        texts[index] = f"[Page {index + 1} is a picture without text: {note}.]\n{texts[index]}".strip()
    text = "\n\n".join(text for text in texts if text)
    if with_pictures:
        return _of_pages(pdf, pictured, text)
    return _of_text(text, len(texts))


def _of_text(text: str, pages: int) -> Document:
    if is_blank(text):
        raise ContentError("empty", f"The PDF has {pages} pages with nothing on them.")
    return document_of_text(text)


def _of_pages(pdf: pypdfium2.PdfDocument, indices: list[int] | range, text: str) -> Document:
    if len(indices) > MAX_PAGE_IMAGES:
        raise ContentError(
            "too_large",
            f"{len(indices)} pages of the PDF have no text layer; at most {MAX_PAGE_IMAGES} are taken as"
            " pictures. Run OCR over it, or split it.",
        )
    rendered = [_render(pdf, index) for index in indices]
    images = [image for image in rendered if image is not None]
    if not images and not text:
        raise ContentError("empty", f"The PDF has {len(pdf)} pages with nothing visible on them.")
    return document_of_images(images, text) if images else document_of_text(text)


def _render(pdf: pypdfium2.PdfDocument, index: int) -> Image | None:
    """Draws a page as PNG, in colour while that is small; None for a page of a single colour."""
    import pypdfium2

    page = pdf[index]
    try:
        width, height = page.get_size()
        if not (0 < width < 1e5 and 0 < height < 1e5):
            raise ContentError("no_text_layer", f"Page {index + 1} has no text layer and no usable size.")
        scale = _LONG_SIDE_PX / max(width, height)
        for grey in (False, True):
            bitmap = page.render(scale=scale, grayscale=grey, rev_byteorder=True, prefer_bgrx=False)
            pixels = bytes(bitmap.buffer)
            if pixels.count(pixels[:1]) == len(pixels):
                return None
            png = _png(pixels, bitmap.width, bitmap.height, bitmap.stride, bitmap.n_channels)
            size = (bitmap.width, bitmap.height)
            bitmap.close()
            if len(png) <= _MAX_PAGE_BYTES:
                break
        return Image("image/png", png, *size)
    except pypdfium2.PdfiumError as error:
        raise ContentError(
            "no_text_layer", f"Page {index + 1} has no text layer and cannot be drawn."
        ) from error
    finally:
        page.close()


def _png(pixels: bytes, width: int, height: int, stride: int, channels: int) -> bytes:
    """Writes 8-bit grey (1 channel), RGB (3) or RGBA (4) pixels as PNG, rows unfiltered."""
    row_bytes = width * channels
    rows = b"".join(b"\0" + pixels[row * stride : row * stride + row_bytes] for row in range(height))
    colour_type = {1: 0, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 6)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body
