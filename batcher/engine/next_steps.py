"""Documents of learned ladders whose next call a cap refused: leased again when that call fits.

A chunk reserves what its first model may cost. A document whose cheap answer is in the store already needs a
dearer call: leased like the others it would be refused again and again, or never find the room that others'
chunks hold. So what it needs is kept in mind, and reserved under its own caps with its lease.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import Connection

from batcher.budget.ledger import Funding, Ledger, accounts_of, least_room
from batcher.domain import ItemStatus
from batcher.engine.fitting import Shortage
from batcher.store.job_items import statuses_of, wake_items
from batcher.store.leases import QueuedItem, next_items, queue_where
from batcher.store.tables import items

if TYPE_CHECKING:
    from batcher.engine.marks import Mark
    from batcher.store.jobs import Job

_PAGE: Final = 200


class _Purse(NamedTuple):
    """Whose caps a call stands under, beside those of its day, job and task."""

    tier: str
    provider: str


class _Need(NamedTuple):
    """What an item's next call may cost. They are kept sorted: the cheapest first."""

    nusd: int
    item_id: int


@dataclass(frozen=True, slots=True)
class NextStepsChunk:
    """Documents that may be leased, and whose money their next calls are.

    Attributes:
        amount_nusd: what these calls may cost together; it fits.
    """

    items: tuple[QueuedItem, ...]
    funding: Funding
    amount_nusd: int


class NextSteps:
    """What waits so of the jobs of one run. Lost with the process: then a document is refused once more.

    Args:
        ledger: where what fits is looked up.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: dict[tuple[int, str], dict[_Purse, list[_Need]]] = {}
        self._known: dict[int, tuple[list[_Need], _Need]] = {}
        self._short: dict[tuple[int, str], list[Shortage]] = {}

    @property
    def shortages(self) -> list[Shortage]:
        """What did not fit when it was last looked at."""
        return [found for short in list(self._short.values()) for found in short]

    def add(self, queue: str, mark: Mark) -> None:
        """Keep in mind the call that a cap refused, of an item that goes back to this queue."""
        purses = self._waiting.setdefault((mark.job_id, queue), {})
        self._drop(mark.item_id)
        needs = purses.setdefault(_Purse(mark.tier, mark.provider), [])
        need = _Need(mark.reserved_nusd, mark.item_id)
        insort(needs, need)
        self._known[mark.item_id] = (needs, need)

    def _drop(self, item_id: int) -> None:
        if (known := self._known.pop(item_id, None)) is not None:
            needs, need = known
            del needs[bisect_left(needs, need)]

    def waits(self, job_id: int, queue: str) -> bool:
        """Whether documents of a queue wait so."""
        return (job_id, queue) in self._waiting

    def keep_jobs(self, running: Collection[int]) -> None:
        """Forget what waits of jobs that do not run any more: their items are woken when they do again."""
        for key in [key for key in self._waiting if key[0] not in running]:
            for needs in self._waiting.pop(key).values():
                for need in needs:
                    del self._known[need.item_id]
        for key in [key for key in self._short if key[0] not in running]:
            del self._short[key]

    def keep_tiers(self, job_id: int, pending: Collection[str]) -> None:
        """Forget the shortages of those of a job's queues where nothing waits now; items may come back."""
        for key in [key for key in self._short if key[0] == job_id and key[1] not in pending]:
            del self._short[key]

    def that_fit(
        self, connection: Connection, job: Job, queue: str, now: float, limit: int
    ) -> NextStepsChunk | None:
        """Documents of a job's queue whose next calls fit by now, those that need least first."""
        key = (job.id, queue)
        day = self._ledger.today(connection)
        short: list[Shortage] = []
        self._short[key] = short
        for purse, needs in self._waiting[key].items():
            funding = Funding(job.payer_id, job.task, purse.tier, purse.provider, day)
            balances = self._ledger.opened(connection, accounts_of(funding))
            room_nusd = least_room(balances)
            pending = self._pending(connection, needs, limit)
            chosen = _that_fit(pending, room_nusd)
            if pending and not chosen:
                blocking = tuple(found for found in balances if not found.admits(pending[0].nusd))
                short.append(Shortage(job.id, purse.tier, blocking, pending[0].nusd))
            elif chosen:
                wake_items(connection, list(chosen))
                of_these = queue_where(items.c.id.in_(list(chosen)))
                if ready := next_items(connection, *key, now, len(chosen), of_these):
                    return NextStepsChunk(tuple(ready), funding, sum(chosen[item.id] for item in ready))
        return None

    def _pending(self, connection: Connection, needs: list[_Need], limit: int) -> list[_Need]:
        """The first that may be leased; those that have ended meanwhile are dropped from the list."""
        found: list[_Need] = []
        at = 0
        while at < len(needs) and len(found) < limit:
            page = needs[at : at + _PAGE]
            statuses = statuses_of(connection, [need.item_id for need in page])
            for need in page:
                if statuses[need.item_id] is ItemStatus.PENDING:
                    found.append(need)
                if statuses[need.item_id] in {ItemStatus.PENDING, ItemStatus.LEASED}:
                    at += 1
                else:
                    self._drop(need.item_id)
        return found[:limit]


def _that_fit(needs: list[_Need], room_nusd: int | None) -> dict[int, int]:
    """Those from the front that fit into the room together: what each needs, by item."""
    chosen: dict[int, int] = {}
    for need in needs:
        if room_nusd is not None:
            if need.nusd > room_nusd:
                break
            room_nusd -= need.nusd
        chosen[need.item_id] = need.nusd
    return chosen
