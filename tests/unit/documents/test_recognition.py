from __future__ import annotations

import gzip

import pytest

from batcher.documents.recognition import Kind, recognise
from batcher.documents.records import ContentError
from tests.support import document_files as files


@pytest.mark.parametrize(
    ("data", "name", "kind"),
    [
        (b"hello", "a.txt", Kind.TEXT),
        (b"# Title\n\n<div>markdown</div>", "a.md", Kind.TEXT),
        (b"BMW announces a car", "a.txt", Kind.TEXT),
        (b"%PDF- is how a PDF begins", "", Kind.PDF),
        (b"A text about %PDF-1.4 files", "a.txt", Kind.TEXT),
        (b'{"text": "a"}', "a.json", Kind.TEXT),
        (b"<rss><item>x</item></rss>", "a.xml", Kind.TEXT),
        (b"plain words, no tag", "a.html", Kind.TEXT),
        (b"<!-- c --><!DOCTYPE HTML><p>x", "a.txt", Kind.HTML),
        (b'<?xml version="1.0"?>\n<html xmlns="x"><body/></html>', "a", Kind.HTML),
        (b"<p>fragment</p>", "a.htm", Kind.HTML),
        (files.pdf([files.text_page("x")]), "a.txt", Kind.PDF),
        (b"junk before\n" + files.pdf([files.text_page("x")]), "a.pdf", Kind.PDF),
        (files.docx("x"), "a.txt", Kind.OFFICE),
        (files.epub("x"), "a.zip", Kind.OFFICE),
        (rb"{\rtf1 x}", "a.doc", Kind.OFFICE),
        (files.jpeg(), "photo.txt", Kind.IMAGE),
        (files.png(), "x.jpg", Kind.IMAGE),
        (b"Subject: a\nFrom: b@c.d\n\nHello", "a.eml", Kind.OFFICE),
        (b'{"cells": [], "nbformat": 4}', "a.ipynb", Kind.OFFICE),
    ],
)
def test_content_decides(data: bytes, name: str, kind: Kind) -> None:
    assert recognise(data, name).kind is kind


@pytest.mark.parametrize(
    ("data", "code", "word"),
    [
        (b"", "empty", "0 bytes"),
        (b" \n", "empty", "visible"),
        (b"\xef\xbb\xbf", "empty", "visible"),
        (files.ole("WordDocument"), "unsupported", ".docx"),
        (files.ole("Workbook"), "unsupported", ".xlsx"),
        (files.ole("PowerPoint Document"), "unsupported", ".pptx"),
        (files.ole("__substg1.0_0037001F"), "unsupported", "Outlook"),
        (files.ole("EncryptedPackage"), "encrypted", "password"),
        (files.ole("Other"), "unsupported", "OLE"),
        (gzip.compress(b"hello", mtime=0), "unsupported", "gzip"),
        (files.plain_zip(), "unsupported", "ZIP"),
        (files.docx("x")[:-30], "truncated", "ZIP"),
        (files.unpacking_to(500_000_001), "too_large", "unpacks"),
        (files.epub("x", locked=True), "encrypted", "DRM"),
        (b"II*\0" + bytes(50), "unsupported", "TIFF"),
        (b"\0\0\0\x18ftypheic" + bytes(50), "unsupported", "HEIC"),
        (b"\0\0\0\x18ftypisom" + bytes(50), "unsupported", "film"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"><text>x</text></svg>', "unsupported", "SVG"),
        (bytes(257) + b"ustar" + bytes(300), "unsupported", "tar"),
        (b"SQLite format 3\0" + bytes(80), "unsupported", "SQLite"),
        (b"\x7fELF\x02\x01\x01" + bytes(200), "unsupported", "executable"),
        (bytes(400), "binary", "NUL"),
    ],
)
def test_reasons(data: bytes, code: str, word: str) -> None:
    with pytest.raises(ContentError) as caught:
        recognise(data, "name.txt")
    assert caught.value.code == code
    assert word in caught.value.reason


def test_a_zip_member_under_password() -> None:
    data = bytearray(files.plain_zip())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    with pytest.raises(ContentError) as caught:
        recognise(bytes(data), "a.zip")
    assert caught.value.code == "encrypted"
