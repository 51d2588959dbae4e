"""Taking lost chunks back, and setting jobs going again whose time has come: what anybody may do for all."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from batcher.budget.ledger import Ledger, Movement, Movements
from batcher.domain import JobState
from batcher.engine.booking import funding_of
from batcher.store.database import RETURN_S, Store
from batcher.store.job_items import wake_pending
from batcher.store.jobs import due_jobs, set_state
from batcher.store.leases import LostLease, active_workers, take_lost
from batcher.store.worker_names import is_dead


def reclaim_lost(store: Store, ledger: Ledger) -> int:
    """Take back the chunks of workers that are gone; returns how many chunks.

    What was marked as sending stays on the books as spent at its worst case, what was reserved and never
    marked is released.
    """
    with store.read() as connection:
        dead = [lease_id for lease_id, worker in active_workers(connection) if is_dead(worker)]
        # Nobody could renew while the store was away: those who live come back first.
        now = store.now(connection) if store.back_for_s() >= RETURN_S else 0.0
    with store.write() as connection:
        ledger.lock(connection)
        lost = take_lost(connection, now, dead)
        release(connection, ledger, lost)
    return len(lost)


def release(connection: Connection, ledger: Ledger, lost: Sequence[LostLease]) -> None:
    """Book what lost chunks leave: their calls at the worst case; the rest of what they reserved is free."""
    movements = Movements()
    for lease in lost:
        movements.add(funding_of(lease.unused), Movement(-lease.unused.reserved_nusd, 0))
        for money in lease.sending:
            movements.add(funding_of(money), Movement(-money.reserved_nusd, money.reserved_nusd))
    ledger.move(connection, movements)


def resume_due(store: Store, ledger: Ledger) -> list[int]:
    """Set the jobs running again that a cap paused until now; returns their ids.

    The ledger's new day opens with it, so that what they lease is booked there. A job whose cap is still in
    the way pauses again, until the next day.
    """
    with store.write() as connection:
        ledger.lock(connection)
        now = store.now(connection)
        due = due_jobs(connection, now)
        if due:
            ledger.today(connection)
        for job_id in due:
            wake_pending(connection, job_id)
            set_state(connection, job_id, JobState.RUNNING, now, only=[JobState.PAUSED])
    return due
