"""What has to be done now and then where workers do the work, and no run of ``submit`` watches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batcher.domain import JobState
from batcher.engine.deserted import pause_deserted
from batcher.engine.log import log_done
from batcher.engine.reclaiming import reclaim_lost, resume_due
from batcher.store.job_items import cancel_leftovers
from batcher.store.jobs import finish_if_complete, list_job_ids
from batcher.store.turns import ready_tiers, workable_job_ids

if TYPE_CHECKING:
    from batcher.budget.ledger import Ledger
    from batcher.store.database import Store


def maintain(store: Store, ledger: Ledger) -> list[str]:
    """Take back what was lost with its worker or reader, set due jobs going, end what is complete.

    Returns:
        The tiers that have work which may be leased now.
    """
    reclaim_lost(store, ledger)
    pause_deserted(store)
    resume_due(store, ledger)
    with store.write() as connection:
        now = store.now(connection)
        for job_id in list_job_ids(connection, JobState.RUNNING):
            if finish_if_complete(connection, job_id, now):
                log_done(job_id)
        cancel_leftovers(connection)
    with store.read() as connection:
        return ready_tiers(connection, workable_job_ids(connection), now)
