from __future__ import annotations

import pytest

from batcher.documents.office import mime_of_zip, parse_office
from batcher.documents.records import ContentError
from tests.support import document_files as files


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (files.docx("First paragraph", "Second paragraph"), ["First paragraph", "Second paragraph"]),
        (files.pptx("Words on a slide"), ["Words on a slide"]),
        (files.xlsx("Tea", "Coffee"), ["Tea", "Coffee"]),
        (files.epub("A chapter of words"), ["A chapter of words"]),
    ],
    ids=["docx", "pptx", "xlsx", "epub"],
)
def test_text_of_containers(data: bytes, words: list[str]) -> None:
    text = parse_office(data, mime_of_zip(data)).text
    positions = [text.index(word) for word in words]
    assert positions == sorted(positions)


def test_text_of_rtf_mail_and_notebook() -> None:
    assert "Grüße" in parse_office(rb"{\rtf1\ansi\ansicpg1252 Gr\'fc\'dfe}", "application/rtf").text
    mail = (
        b"Subject: Hi\nFrom: a@b.c\nContent-Transfer-Encoding: base64\nContent-Type: text/plain\n\nSGVsbG8=\n"
    )
    assert "Hello" in parse_office(mail, "message/rfc822").text
    cell = b'{"cell_type": "markdown", "metadata": {}, "source": ["hello"]}'
    notebook = b'{"cells": [' + cell + b'], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
    assert "hello" in parse_office(notebook, "application/x-ipynb+json").text


def test_a_file_without_text() -> None:
    with pytest.raises(ContentError) as caught:
        parse_office(files.docx(), mime_of_zip(files.docx()))
    assert caught.value.code == "empty"


def test_a_damaged_member() -> None:
    data = bytearray(files.docx("words " * 200))
    middle = data.index(b"word/document.xml") + 60
    data[middle : middle + 20] = bytes(20)
    with pytest.raises(ContentError) as caught:
        parse_office(bytes(data), mime_of_zip(bytes(data)))
    assert caught.value.code in {"unreadable", "empty"}
