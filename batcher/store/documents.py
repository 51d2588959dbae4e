"""Reading stored documents back."""

from __future__ import annotations

import zlib

from sqlalchemy import Connection, select

from batcher.domain import Image
from batcher.store.tables import document_images


def text_of(body: bytes) -> str:
    """A document's text, out of its ``body``."""
    return zlib.decompress(body).decode()


def images_of(connection: Connection, document_hash: bytes) -> tuple[Image, ...]:
    """The pages or the picture of a document of images, in order; empty for a text."""
    query = (
        select(document_images)
        .where(document_images.c.hash == document_hash)
        .order_by(document_images.c.page)
    )
    return tuple(Image(row.mime, row.data, row.width, row.height) for row in connection.execute(query))
