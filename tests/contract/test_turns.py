"""Whose turn it is: shares of a tier, with as few leases at a time as one process has."""

from __future__ import annotations

from collections import Counter, deque

import pytest
from sqlalchemy import Connection, update

from batcher.domain import LeaseState
from batcher.store.database import Store
from batcher.store.jobs import NewJob, create_job
from batcher.store.leases import NewLease, open_lease
from batcher.store.tables import leases
from batcher.store.turns import in_turn, set_priority


def make_jobs(store: Store, *priorities: int) -> list[int]:
    """Jobs with these priorities, oldest first."""
    new = NewJob(
        corpus_key=b"k" * 20, task="t", paths=[], source_options="{}", spec="{}", tier="economy",
        pinned_model=None, ladder=(), accepts=(), refresh=False, max_cost_nusd=None,
    )  # fmt: skip
    with store.write() as connection:
        made = [create_job(connection, new, 0.0).id for _ in priorities]
        for job_id, priority in zip(made, priorities, strict=True):
            set_priority(connection, job_id, priority)
    return made


def serve(store: Store, job_ids: list[int], turns: int, slots: int) -> list[int]:
    """Give so many turns, each lease ending when ``slots`` later ones were given; returns who had them."""
    held: deque[int] = deque()
    served = []
    with store.write() as connection:
        for _ in range(turns):
            if len(held) == slots:
                close(connection, held.popleft())
            job_id = in_turn(connection, job_ids)[0]
            served.append(job_id)
            held.append(open_lease(connection, NewLease(job_id, "economy", "p", "w", "d", 0, 1.0), []))
        for lease_id in held:
            close(connection, lease_id)
    return served


def close(connection: Connection, lease_id: int) -> None:
    changed = update(leases).where(leases.c.id == lease_id).values(state=LeaseState.CLOSED.value)
    connection.execute(changed)


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_equal_jobs_share_evenly_however_few_leases_there_are(store: Store, slots: int) -> None:
    first, second = make_jobs(store, 0, 0)
    served = Counter(serve(store, [first, second], 60, slots))
    assert abs(served[first] - served[second]) <= 2


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_a_priority_is_so_many_shares_more(store: Store, slots: int) -> None:
    plain, urgent = make_jobs(store, 0, 4)
    served = Counter(serve(store, [plain, urgent], 120, slots))
    assert 3.5 < served[urgent] / served[plain] < 7


def test_a_priority_below_zero_is_a_fraction(store: Store) -> None:
    patient, plain = make_jobs(store, -3, 0)
    served = Counter(serve(store, [patient, plain], 100, 3))
    assert 3 < served[plain] / served[patient] < 6


def test_a_job_that_comes_new_is_next_and_does_not_keep_the_others_waiting(store: Store) -> None:
    old, new = make_jobs(store, 0, 0)
    serve(store, [old], 100, 3)
    served = serve(store, [old, new], 30, 3)
    assert served[0] == new
    assert served.count(old) >= 10


def test_a_single_job_needs_no_look_at_others(store: Store) -> None:
    [only] = make_jobs(store, 0)
    with store.read() as connection:
        assert in_turn(connection, [only]) == [only]
        assert in_turn(connection, []) == []
