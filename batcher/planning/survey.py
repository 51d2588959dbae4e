"""Reads a corpus as a stream and counts: what is new, what is answered, what is rejected, how long it is."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, select

from batcher.catalog.tokens import estimate_tokens
from batcher.documents.records import Parsed, Rejected
from batcher.domain import Document, ItemStatus
from batcher.money import most_tokens
from batcher.planning.admission import admit
from batcher.planning.entry import EntryRules
from batcher.planning.requests import TEXT_DIVISOR
from batcher.planning.sizes import Distribution, Size, Sizes
from batcher.store.ingestion import NewItem
from batcher.store.results import find_results
from batcher.store.tables import items
from batcher.tasks.spec import TaskSpec

_BATCH_ITEMS: Final = 1_000
_BATCH_BYTES: Final = 16_000_000

_NEEDS_VISION: Final = "needs_vision"


@dataclass(slots=True)
class Survey:
    """What a corpus holds.

    Attributes:
        read: everything that was read.
        reused: items with a valid stored answer.
        duplicates: items with the content of an earlier new one: one paid call answers both.
        ended: items that failed or were cancelled in the unfinished job that would be taken up.
        rejected: documents that cannot be worked on, by code.
        texts: sizes of the new documents of text, apart from those by rule.
        pictures: sizes of the new documents of pictures, also where no model of the order sees them.
        by_rule: where the task has rules for it: sizes of the new documents whose start was decided before
            anything is asked, by the rung; pictures are then all among them.
        tokens: of all documents of text, about as vendors count them.
    """

    read: int = 0
    reused: int = 0
    duplicates: int = 0
    ended: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    texts: Sizes = field(default_factory=Sizes)
    pictures: Sizes = field(default_factory=Sizes)
    by_rule: dict[str, Sizes] = field(default_factory=dict)
    tokens: Distribution = field(default_factory=Distribution)

    @property
    def new(self) -> int:
        """Documents to answer, each content once."""
        unseen = self.rejected[_NEEDS_VISION]
        started = sum(sizes.documents for sizes in self.by_rule.values())
        return started + self.texts.documents + (0 if unseen else self.pictures.documents)

    def sizes(self) -> list[Size]:
        """Of all new documents."""
        return [size for sizes in (self.texts, self.pictures, *self.by_rule.values()) for size in sizes]


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store says of the documents that are read. A plan without a store knows of none.

    Attributes:
        connection: any transaction.
        accepts: names of the models whose answers count.
        refresh_key: as ``find_results`` takes it; None where no stored answer counts.
        job_id: the unfinished job that would be taken up, or None.
    """

    connection: Connection
    accepts: Sequence[str]
    refresh_key: int | None
    job_id: int | None

    def answered(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of these keys that have an answer."""
        if self.refresh_key is None:
            return set()
        return set(find_results(self.connection, keys, self.accepts, self.refresh_key))

    def statuses(self, sources: Sequence[str]) -> dict[str, ItemStatus]:
        """How far those of these sources are that the unfinished job has taken in."""
        if self.job_id is None:
            return {}
        query = select(items.c.source, items.c.status)
        query = query.where(items.c.job_id == self.job_id, items.c.source.in_(sources))
        return {row.source: ItemStatus(row.status) for row in self.connection.execute(query)}


def take_survey(
    corpus: Iterable[Parsed | Rejected],
    spec: TaskSpec,
    image_tier: str | None,
    stored: Stored | None,
    on_progress: Callable[[int, int], None] = lambda *_: None,
    rules: EntryRules | None = None,
) -> Survey:
    """Read a corpus and count.

    Documents are held a batch at a time; what was seen before is kept on disk.

    Args:
        corpus: parsed documents and rejections, in order.
        spec: the task.
        image_tier: the first tier on the ladder whose model sees images, or None.
        stored: what the store knows; None without a store.
        on_progress: told of each batch: documents read, and rejected, so far.
        rules: where documents start, before anything is asked; None: on the job's tier.
    """
    with closing(Seen()) as seen:
        surveyor = Surveyor(spec, image_tier, stored, seen, rules=rules)
        batch: list[Parsed | Rejected] = []
        size = 0
        for entry in corpus:
            batch.append(entry)
            size += len(entry.document.text) if isinstance(entry, Parsed) else 0
            if len(batch) >= _BATCH_ITEMS or size >= _BATCH_BYTES:
                surveyor.take(batch)
                batch, size = [], 0
                on_progress(surveyor.survey.read, surveyor.survey.rejected.total())
        surveyor.take(batch)
        return surveyor.survey


class Surveyor:
    """Counts what it is given, a batch at a time.

    Args:
        spec: the task, or one step of it.
        image_tier: the first tier on the ladder whose model sees images, or None.
        stored: what the store knows; None without a store.
        seen: which keys were there before.
        on_answered: told of the items of each batch that have an answer.
        rules: where documents start, before anything is asked; None: on the job's tier.
    """

    def __init__(
        self,
        spec: TaskSpec,
        image_tier: str | None,
        stored: Stored | None,
        seen: Seen,
        on_answered: Callable[[Sequence[NewItem]], None] = lambda _: None,
        rules: EntryRules | None = None,
    ) -> None:
        self.survey = Survey()
        self._on_answered = on_answered
        self._spec = spec
        self._image_tier = image_tier
        self._stored = stored
        self._seen = seen
        self._rules = rules

    def take(self, batch: Sequence[Parsed | Rejected]) -> None:
        """Count a batch."""
        survey = self.survey
        survey.read += len(batch)
        found = [self._admit(entry) for entry in batch]
        waiting, done = self._without_ended([new for new in found if new is not None])
        keys = list({new.result_key for new in waiting if new.result_key is not None})
        answered = self._stored.answered(keys) if self._stored and keys else set()
        open_items = [new for new in waiting if new.result_key not in answered]
        survey.reused += len(waiting) - len(open_items)
        first = self._seen.add([new.result_key or b"" for new in open_items])
        survey.duplicates += len(open_items) - sum(first)
        for new, is_first in zip(open_items, first, strict=True):
            if is_first and new.document is not None:
                self._count(new.document, new.tier if self._rules is not None else None)
        if done or answered:
            self._on_answered([*done, *(new for new in waiting if new.result_key in answered)])

    def _admit(self, entry: Parsed | Rejected) -> NewItem | None:
        """The item, or None if it is rejected."""
        if isinstance(entry, Parsed) and not entry.document.images:
            self.survey.tokens.add(round(estimate_tokens(entry.document.text) / TEXT_DIVISOR))
        new = admit(entry, self._spec, self._image_tier, self._rules)
        if new.document is not None:
            return new
        self.survey.rejected[new.error_class or "unknown"] += 1
        if isinstance(entry, Parsed):
            self._count(entry.document)
        return None

    def _without_ended(self, found: Sequence[NewItem]) -> tuple[list[NewItem], list[NewItem]]:
        """What the job that would be taken up does not count as done with, and what it has done."""
        if self._stored is None or self._stored.job_id is None:
            return list(found), []
        statuses = self._stored.statuses([new.source for new in found])
        done = {source for source, status in statuses.items() if status is ItemStatus.DONE}
        ended = {source for source, status in statuses.items() if status in _ENDED}
        self.survey.reused += sum(new.source in done for new in found)
        self.survey.ended += sum(new.source in ended for new in found)
        open_items = [new for new in found if new.source not in done | ended]
        return open_items, [new for new in found if new.source in done]

    def _count(self, document: Document, start: str | None = None) -> None:
        tokens = estimate_tokens(document.text)
        sizes = self.survey.pictures if document.images else self.survey.texts
        if start is not None:
            sizes = self.survey.by_rule.setdefault(start, Sizes())
        sizes.add(most_tokens(document.text), len(document.images), tokens)


_ENDED: Final = frozenset({ItemStatus.FAILED, ItemStatus.CANCELLED, ItemStatus.REJECTED})


class Seen:
    """Which keys were there before; in a database that spills to disk: a corpus may be of any size."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode=OFF")
        self._database.execute("PRAGMA cache_size=-16384")
        self._database.execute("CREATE TABLE seen (key BLOB PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def add(self, keys: Sequence[bytes]) -> list[bool]:
        """Remember keys; which of them are new."""
        insert = self._database.execute
        return [insert("INSERT OR IGNORE INTO seen VALUES (?)", (key,)).rowcount == 1 for key in keys]

    def close(self) -> None:
        """Forget everything."""
        self._database.close()
