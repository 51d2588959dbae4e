from __future__ import annotations

import zlib

import pytest

from batcher.documents.images import read_image
from batcher.documents.pdf import MAX_PAGE_IMAGES, parse_pdf
from batcher.documents.records import ContentError
from tests.support.document_files import encrypted_pdf, form_pdf, pdf, picture_page, text_page

LONG = "A line of text that is long enough for a page"


def test_text_layer() -> None:
    document = parse_pdf(pdf([text_page(LONG, "second"), text_page("another page with some words")]))
    assert document.text == f"{LONG}\nsecond\n\nanother page with some words"
    assert document.images == ()


def test_what_is_filled_into_a_form_is_read() -> None:
    assert parse_pdf(form_pdf("Name of the applicant:", "Ada")).text == "Name of the applicant:\nAda"


def test_a_short_page_is_text() -> None:
    assert parse_pdf(pdf([text_page("Paid")])).text == "Paid"


def test_pages_without_text_become_pictures() -> None:
    document = parse_pdf(pdf([picture_page(), picture_page("p. 2"), picture_page()]))
    assert document.text == ""
    assert len(document.images) == 3
    for image in document.images:
        assert read_image(image.data, image.mime) == image
        assert (image.width, image.height) == (1176, 1568)
    idat = document.images[0].data
    start = idat.index(b"IDAT") + 4
    pixels = zlib.decompressobj().decompress(idat[start:])
    assert len(set(pixels)) > 50


def test_mostly_text_says_which_page_is_left_out() -> None:
    document = parse_pdf(pdf([text_page(LONG)] * 4 + [picture_page()]))
    assert document.images == ()
    assert "[Page 5 is a picture without text: left out.]" in document.text


def test_part_text_part_pictures_takes_both() -> None:
    document = parse_pdf(pdf([text_page(LONG), picture_page()]))
    assert len(document.images) == 1
    assert document.text == f"{LONG}\n\n[Page 2 is a picture without text: see the attached picture.]"


def test_the_same_file_has_the_same_name_and_another_not() -> None:
    one, same, other = (parse_pdf(pdf([picture_page(stray)])) for stray in ("a", "a", "b"))
    assert one.hash == same.hash
    assert one.hash != other.hash


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (encrypted_pdf(), "encrypted"),
        (pdf([text_page(LONG)])[:-40], "truncated"),
        (b"%PDF-1.4\n" + bytes(range(1, 256)) + b"\n%%EOF", "unreadable"),
        (pdf([]), "empty"),
        (pdf([""]), "empty"),
        (pdf([picture_page()] * (MAX_PAGE_IMAGES + 1)), "too_large"),
        (b"%PDF-1.5\n1 0 obj<</Linearized 1/L 99999>>endobj\n%%EOF\n", "truncated"),
        (pdf([text_page("Please wait... If this is not replaced, your Adobe Reader is old")]), "unsupported"),
    ],
)
def test_reasons(data: bytes, code: str) -> None:
    with pytest.raises(ContentError) as caught:
        parse_pdf(data)
    assert caught.value.code == code
