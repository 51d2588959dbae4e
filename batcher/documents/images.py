"""Width, height and completeness of PNG, JPEG, GIF and WebP files, read from their structure alone."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from batcher.documents.records import ContentError
from batcher.domain import Image

MAX_SIDE: Final = 8_000
"""Pixels: the longest side that Anthropic takes; larger ones are decompression bombs. The catalogue's
``image_tokens``, the most that one image can cost, hold up to it: Gemini cuts 384 x 9,999 into 80 tiles."""

_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_JPEG_SIZE_MARKERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE_MARKERS: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_SCAN: Final = 0xDA
_JPEG_END: Final = b"\xff\xd9"


def mime_of(data: bytes) -> str | None:
    """Names the type of an image that models take, from its first bytes; None for anything else."""
    if data.startswith(_PNG_SIGNATURE):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def read_image(data: bytes, mime: str) -> Image:
    """Reads a picture's size and checks that it is whole. Pixels are not decoded.

    Args:
        data: the whole file.
        mime: what :func:`mime_of` said.

    Returns:
        The image, its bytes unchanged.

    Raises:
        ContentError: ``truncated``, ``unreadable`` (no size) or ``too_large`` (a side over ``MAX_SIDE``).
    """
    try:
        width, height = _READERS[mime](data)
    except (struct.error, IndexError) as error:
        raise _truncated(mime) from error
    if width < 1 or height < 1:
        raise ContentError("unreadable", f"The {_name(mime)} image gives its size as {width} x {height}.")
    if max(width, height) > MAX_SIDE:
        raise ContentError(
            "too_large",
            f"The image has {width} x {height} pixels; a side may have {MAX_SIDE:,}. Scale it down.",
        )
    return Image(mime, data, width, height)


def _name(mime: str) -> str:
    return mime.removeprefix("image/").upper()


def _truncated(mime: str) -> ContentError:
    return ContentError("truncated", f"The {_name(mime)} image ends early: the file is cut off.")


def _png_size(data: bytes) -> tuple[int, int]:
    if len(data) > 33 and data[12:16] != b"IHDR":
        raise ContentError("unreadable", "The PNG image has no header.")
    width, height = struct.unpack_from(">II", data, 16)
    position = len(_PNG_SIGNATURE)
    while True:
        length, kind = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        if position > len(data):
            raise _truncated("image/png")
        if kind == b"IEND":
            return width, height


def _jpeg_size(data: bytes) -> tuple[int, int]:
    size: tuple[int, int] | None = None
    position = 2
    while True:
        while data[position] != 0xFF:
            position += 1
        while data[position] == 0xFF:
            position += 1
        marker = data[position]
        position += 1
        if marker in _JPEG_BARE_MARKERS or marker == 0:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        if marker in _JPEG_SIZE_MARKERS:
            height, width = struct.unpack_from(">HH", data, position + 3)
            size = (width, height)
        position += length
        if marker == _JPEG_SCAN:
            break
    if _JPEG_END not in data[position:]:
        raise _truncated("image/jpeg")
    if size is None:
        raise ContentError("unreadable", "The JPEG image does not give its size.")
    return size


def _gif_size(data: bytes) -> tuple[int, int]:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    while data[position] != 0x3B:
        block = data[position]
        if block == 0x2C:
            local = data[position + 9]
            position += 11 + (3 << ((local & 7) + 1) if local & 0x80 else 0)
        elif block == 0x21:
            position += 2
        else:
            raise ContentError("unreadable", "The GIF image is damaged.")
        while data[position]:
            position += data[position] + 1
        position += 1
    return width, height


def _webp_size(data: bytes) -> tuple[int, int]:
    (riff_length,) = struct.unpack_from("<I", data, 4)
    if riff_length + 8 > len(data) + 1:
        raise _truncated("image/webp")
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
        return width, height
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ContentError("unreadable", "The WebP image is of an unknown kind.")


_READERS: Final[dict[str, Callable[[bytes], tuple[int, int]]]] = {
    "image/png": _png_size,
    "image/jpeg": _jpeg_size,
    "image/gif": _gif_size,
    "image/webp": _webp_size,
}
