"""What of a lane's items fits under the caps, and what does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batcher.budget.ledger import Account, Balance
from batcher.engine.lane import Lane
from batcher.store.leases import QueuedItem


@dataclass(frozen=True, slots=True)
class Shortage:
    """Work waits, but caps do not admit even what costs least of it.

    Attributes:
        tier: whose work.
        blocking: the accounts in the way, as they stood then.
        needed_nusd: the least that could be reserved.
    """

    job_id: int
    tier: str
    blocking: tuple[Balance, ...]
    needed_nusd: int

    @property
    def may_pass(self) -> bool:
        """Whether there is room if what others hold in reserve turns out to cost nothing."""
        return all(balance.would_admit(self.needed_nusd) for balance in self.blocking)

    @property
    def account(self) -> Account:
        """The cap to name: a job's own, which no new day lifts, before those of a day."""
        accounts = [balance.account for balance in self.blocking]
        return next((account for account in accounts if not account.period), accounts[0])


@dataclass(frozen=True, slots=True)
class Floor:
    """What the cheapest item of a lane costs, and until when that may be relied on (monotonic seconds)."""

    needed_nusd: int
    until: float


def that_fit(lane: Lane, queued: Sequence[QueuedItem], room_nusd: int | None) -> list[QueuedItem]:
    """Of these items, in their order, those that fit into the room together."""
    if room_nusd is None:
        return list(queued)
    chosen = []
    for item in queued:
        cost_nusd = lane.first.item_reservation_nusd(item)
        if cost_nusd == 0 or cost_nusd <= room_nusd:
            chosen.append(item)
            room_nusd -= cost_nusd
    return chosen


def shortage_of(lane: Lane, balances: Sequence[Balance], needed_nusd: int) -> Shortage:
    """What keeps so much from being reserved for a lane."""
    blocking = tuple(balance for balance in balances if not balance.admits(needed_nusd))
    return Shortage(lane.job.id, lane.tier, blocking, needed_nusd)


def cheapest_of(lane: Lane, queued: Sequence[QueuedItem]) -> QueuedItem:
    """The item of these for which least is reserved."""
    return min(queued, key=lane.first.item_reservation_nusd)
