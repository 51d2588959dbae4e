"""What of a lane's items fits under the caps."""

from __future__ import annotations

from collections.abc import Sequence

from batcher.budget.ledger import Balance
from batcher.engine.lane import Lane
from batcher.engine.shortages import Shortage
from batcher.store.leases import QueuedItem


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
