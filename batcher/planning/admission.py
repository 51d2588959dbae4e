"""What becomes of a document that was read: an item to answer, or a rejection. Jobs and plans ask alike."""

from __future__ import annotations

from hashlib import blake2b

from batcher.documents.records import Parsed, Rejected
from batcher.domain import Document
from batcher.planning.entry import EntryRules
from batcher.store.ingestion import NewItem
from batcher.tasks.spec import TaskSpec


def result_key(spec: TaskSpec, document: Document) -> bytes:
    """What an answer is stored and found by: the task's fingerprint and the content's hash, 20 bytes."""
    return blake2b(spec.fingerprint + document.hash, digest_size=20).digest()


def admit(
    entry: Parsed | Rejected, spec: TaskSpec, image_tier: str | None, rules: EntryRules | None = None
) -> NewItem:
    """The item that an entry of a corpus makes.

    Args:
        entry: what the reader gave.
        spec: the task.
        image_tier: the first tier on the ladder whose model sees images, or None: then they are rejected.
        rules: where documents start, before anything is asked; None: on the job's tier.
    """
    if isinstance(entry, Rejected):
        return NewItem(entry.source, error_class=entry.code, error=entry.reason)
    document = entry.document
    start = None if rules is None else rules.rung_of(entry)
    if not document.images:
        return NewItem(entry.source, document, result_key(spec, document), tier=start)
    if image_tier is None:
        reason = (
            "the document is an image or a scan without text, and no model of this job's tiers sees images"
        )
        return NewItem(entry.source, error_class="needs_vision", error=reason)
    return NewItem(entry.source, document, result_key(spec, document), tier=start or image_tier)
