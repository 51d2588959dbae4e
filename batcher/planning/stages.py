"""What a step of a staged task hands over, and what steps cost: the first by its documents, others by that.

How long an answer is that is handed over is not known before it is given: likely figures rest on a usual one,
bounds on the longest that the step before may give.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import pairwise
from typing import Final

from sqlalchemy import Connection

from batcher.catalog.models import Catalog
from batcher.documents.records import document_of_images, document_of_text
from batcher.domain import Document, Image
from batcher.planning.answer_length import ANSWER_BYTES_PER_TOKEN
from batcher.planning.choice import Usable
from batcher.planning.evidence import Knowledge
from batcher.planning.fit import Fit
from batcher.planning.history import read_history
from batcher.planning.pricing import Price, fits_of, price_left, price_of, rungs_of, sizes_left, tiers_left
from batcher.planning.sizes import Size
from batcher.store.jobs import Job
from batcher.store.steps import done_tiers
from batcher.tasks.golden import Golden
from batcher.tasks.spec import TaskSpec

_TAG_BYTES: Final = 100
"""Around an answer and a document that are handed over together."""


def handed_document(spec: TaskSpec, output: str, text: str, images: Sequence[Image]) -> Document:
    """What the next step reads of an answer: the same for the same answer, whatever model gave it.

    The answer is JSON. Beside the document it stands first, each between tags that neither can close: their
    names end in a hash of what they enclose.

    Args:
        spec: the step that answered.
        output: its answer, JSON text.
        text: the document's, as it was submitted, where it is handed over too.
        images: its pictures or pages, likewise.
    """
    if spec.hands_over != "answer_and_document":
        return document_of_text(output)
    parts = {spec.stage: output} | ({"document": text} if text else {})
    mark = blake2b("\0".join(parts.values()).encode(), digest_size=8, person=b"handed over").hexdigest()
    body = "\n\n".join(f"<{name}-{mark}>\n{part}\n</{name}-{mark}>" for name, part in parts.items())
    return document_of_images(images, body) if images else document_of_text(body)


def handed_sizes(spec: TaskSpec, sizes: Iterable[Size], answer_tokens: float) -> list[Size]:
    """What the next step reads for documents of these sizes, if answers are this long.

    Args:
        spec: the step that answers.
        sizes: the documents as they were submitted.
        answer_tokens: of each answer.
    """
    answer_bytes = math.ceil(answer_tokens * ANSWER_BYTES_PER_TOKEN)
    if spec.hands_over != "answer_and_document":
        return [Size(answer_bytes, 0, size.items, answer_tokens) for size in sizes]
    around = answer_bytes + _TAG_BYTES
    more = answer_tokens + _TAG_BYTES / ANSWER_BYTES_PER_TOKEN
    return [size._replace(text_bytes=size.text_bytes + around, tokens=size.tokens + more) for size in sizes]


def answer_lengths(fit: Fit, knowledge: Knowledge) -> tuple[float, float]:
    """Tokens of a usual answer of a step, and of its longest."""
    return knowledge.of(fit).output.typical, float(fit.output_tokens)


def blended(usual: Price, longest: Price) -> Price:
    """The price of documents whose length is not known: likely figures of the one, bounds of the other."""
    return replace(usual, first_nusd=longest.first_nusd, worst_nusd=longest.worst_nusd)


def price_steps(
    connection: Connection,
    steps: Sequence[Job],
    catalog: Catalog,
    is_usable: Usable,
    golden: Sequence[Golden] = (),
) -> Price:
    """Price what is left of a job: of each step what has not ended there and what is still to come to it.

    Args:
        connection: any transaction.
        steps: the jobs of its steps, in order; one for a job without stages.
        catalog: the models in force.
        is_usable: which of them there are keys for.
        golden: known answers of the last step, for the length of a usual one.
    """
    total = price_left(connection, steps[0], catalog, is_usable, golden if len(steps) == 1 else ())
    coming: list[Size] = []
    lengths = (0.0, 0.0)
    for before, step in pairwise(steps):
        spec = TaskSpec.from_json(before.spec)
        coming += _sizes(connection, before.id, tiers_left(connection, before.id))
        between = _sizes(connection, before.id, done_tiers(connection, before.id), answered=True)
        coming += between
        lengths = _lengths(connection, before, spec, catalog, is_usable) or lengths
        known = golden if step is steps[-1] else ()
        total += price_left(connection, step, catalog, is_usable, known)
        total += _price_coming(connection, step, spec, coming, lengths, catalog, is_usable, known)
        total += Price(items=sum(size.items for size in between))
    return total


def _sizes(
    connection: Connection, job_id: int, tiers: Iterable[str], *, answered: bool = False
) -> list[Size]:
    return [size for tier in tiers for size in sizes_left(connection, job_id, tier, answered=answered)]


def _lengths(
    connection: Connection, step: Job, spec: TaskSpec, catalog: Catalog, is_usable: Usable
) -> tuple[float, float] | None:
    """How long a step's answers are; None if no model of it can be used."""
    fits = fits_of(step, step.tier, spec, catalog, is_usable)
    if not fits:
        return None
    return answer_lengths(fits[0], Knowledge(spec, read_history(connection, spec, catalog)))


def _price_coming(
    connection: Connection,
    step: Job,
    before: TaskSpec,
    coming: Sequence[Size],
    lengths: tuple[float, float],
    catalog: Catalog,
    is_usable: Usable,
    golden: Sequence[Golden],
) -> Price:
    spec = TaskSpec.from_json(step.spec)
    fits = fits_of(step, step.tier, spec, catalog, is_usable)
    if not fits or not coming:
        return Price()
    knowledge = Knowledge(spec, read_history(connection, spec, catalog), golden)
    usual, longest = (
        price_of(rungs_of(fits, handed_sizes(before, coming, tokens), knowledge)) for tokens in lengths
    )
    # The documents are counted where they are.
    return replace(blended(usual, longest), items=0)
