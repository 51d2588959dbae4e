from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.documents.images import mime_of, read_image
from batcher.documents.records import ContentError
from tests.support import document_files as files

WHOLE = [
    ("image/png", files.png(30, 20), (30, 20)),
    ("image/jpeg", files.jpeg(640, 480), (640, 480)),
    ("image/gif", files.gif(5, 4), (5, 4)),
    ("image/webp", files.webp(7, 6, b"VP8X"), (7, 6)),
    ("image/webp", files.webp(7, 6, b"VP8L"), (7, 6)),
    ("image/webp", files.webp(7, 6, b"VP8 "), (7, 6)),
]


@pytest.mark.parametrize(("mime", "data", "size"), WHOLE)
def test_size_of_whole_images(mime: str, data: bytes, size: tuple[int, int]) -> None:
    assert mime_of(data) == mime
    image = read_image(data, mime)
    assert (image.width, image.height) == size
    assert image.data == data


@pytest.mark.parametrize(("mime", "data", "size"), WHOLE)
def test_every_cut_is_noticed(mime: str, data: bytes, size: tuple[int, int]) -> None:
    for length in range(12, len(data) - 1):
        with pytest.raises(ContentError) as caught:
            read_image(data[:length], mime)
        assert caught.value.code == "truncated"


def test_junk_behind_the_end_is_no_harm() -> None:
    assert read_image(files.jpeg() + bytes(50), "image/jpeg").width == 640
    assert read_image(files.png() + b"junk", "image/png").width == 3


@pytest.mark.parametrize("size", [(20_000, 20_000), (8_001, 1), (1, 8_001)])
def test_a_side_longer_than_vendors_take(size: tuple[int, int]) -> None:
    with pytest.raises(ContentError) as caught:
        read_image(files.png(*size), "image/png")
    assert caught.value.code == "too_large"
    assert read_image(files.png(8_000, 1), "image/png").width == 8_000


def test_no_pixels() -> None:
    with pytest.raises(ContentError) as caught:
        read_image(files.png(0, 5), "image/png")
    assert caught.value.code == "unreadable"


@given(
    st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\x08\0\0\0WEBP"]), st.binary()
)
def test_damage_is_a_reason_not_a_crash(start: bytes, rest: bytes) -> None:
    data = start + rest
    mime = mime_of(data)
    assert mime is not None
    with contextlib.suppress(ContentError):
        assert read_image(data, mime).width > 0
