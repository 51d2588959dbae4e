"""The leases that a process holds, as it knows them: valid on every clock, renewed or lost."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence

from batcher.limits.clock import Moment
from batcher.store.attempts import SEQUENCE_BITS
from batcher.store.database import Store
from batcher.store.leases import renew


class HeldLease:
    """A lease as its worker sees it.

    Args:
        lease_id: the fencing token.
        lasts_s: how long it is valid if it is not renewed.
        unfinished: how many items it has.
        asked: a moment before the store gave it.

    Attributes:
        unfinished: how many of its items have not ended.
    """

    def __init__(self, lease_id: int, lasts_s: float, unfinished: int, asked: Moment) -> None:
        self.id = lease_id
        self.unfinished = unfinished
        self._lasts_s = lasts_s
        self._since: Moment | None = asked
        self._sequence = itertools.count()

    def renewed(self, asked: Moment) -> None:
        """The store renewed it, some time after this moment."""
        self._since = asked

    def lost(self) -> None:
        """The store gave it to another worker."""
        self._since = None

    def is_valid(self) -> bool:
        """Whether it surely is this worker's still, however long the process or the machine slept."""
        return self._since is not None and self._since.passed_s() < self._lasts_s

    def next_attempt_id(self) -> int:
        """A fresh attempt id, unique across workers."""
        return (self.id << SEQUENCE_BITS) | next(self._sequence)


class HeldLeases:
    """All leases of a process.

    Args:
        store: the store.
        lasts_s: how long a lease is valid if it is not renewed.
    """

    def __init__(self, store: Store, lasts_s: float) -> None:
        self._store = store
        self._lasts_s = lasts_s
        self._held: dict[int, HeldLease] = {}

    def add(self, lease_id: int, unfinished: int, asked: Moment) -> HeldLease:
        """A chunk was leased; see ``HeldLease`` for the arguments."""
        self._held[lease_id] = lease = HeldLease(lease_id, self._lasts_s, unfinished, asked)
        return lease

    def end(self, lease_id: int) -> None:
        """Its items have ended: it is renewed no more."""
        self._held.pop(lease_id, None)

    def known(self) -> list[HeldLease]:
        """Those that are to be renewed."""
        return list(self._held.values())

    def renew(self, known: Sequence[HeldLease]) -> set[int]:
        """Renew them in the store, which may take a while; returns the ids of those that are held still."""
        if not known:
            return set()
        with self._store.write() as connection:
            ends_at = self._store.now(connection) + self._lasts_s
            return renew(connection, [lease.id for lease in known], ends_at)

    @staticmethod
    def learn(known: Sequence[HeldLease], held: Collection[int], asked: Moment) -> None:
        """Take in what the store said when it was asked to renew them, some time after this moment."""
        for lease in known:
            if lease.id in held:
                lease.renewed(asked)
            else:
                lease.lost()
