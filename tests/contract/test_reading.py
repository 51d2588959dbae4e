"""Who reads a corpus: it is noticed when he is gone, and only then."""

from __future__ import annotations

import math

import pytest
from sqlalchemy.exc import OperationalError

from batcher.budget.ledger import Ledger
from batcher.domain import JobState
from batcher.engine.deserted import pause_deserted
from batcher.engine.reading import READER_S, Reader, expect_reader, paused_if_unread
from batcher.engine.reclaiming import reclaim_lost
from batcher.errors import StoreAwayError, UsageError
from batcher.store.database import LONG_AWAY_S, RETURN_S, Store
from batcher.store.jobs import Job, NewJob, create_job, get_job, set_state
from batcher.store.leases import NewLease, open_lease, renew
from batcher.store.reading import end_reading, is_half_read, set_reader
from tests.contract.conftest import Clock

ELSEWHERE = "another-host:123:1.00"


@pytest.fixture
def job(store: Store, clock: Clock) -> Job:
    new = NewJob(
        corpus_key=b"k" * 20, task="t", paths=[], source_options="{}", spec="{}", tier="economy",
        pinned_model=None, ladder=(), accepts=(), refresh=False, max_cost_nusd=None,
    )  # fmt: skip
    with store.write() as connection:
        job = create_job(connection, new, clock.now)
        expect_reader(connection, job.id, clock.now)
        return job


def state(store: Store, job: Job) -> tuple[JobState, str]:
    with store.read() as connection:
        found = get_job(connection, job.id)
        return found.state, found.reason or ""


def test_a_reader_that_never_began_is_noticed(store: Store, clock: Clock, job: Job) -> None:
    assert pause_deserted(store) == []
    clock.now += READER_S
    assert pause_deserted(store) == [job.id]
    paused, reason = state(store, job)
    assert paused is JobState.PAUSED
    assert reason.endswith(f"no process has begun to. Begin with: batcher resume {job.id}")
    assert pause_deserted(store) == []


def test_a_reader_of_another_machine_is_lost_when_he_says_nothing(
    store: Store, clock: Clock, job: Job
) -> None:
    with store.write() as connection:
        set_reader(connection, job.id, ELSEWHERE, clock.now + READER_S)
    clock.now += READER_S - 1
    assert pause_deserted(store) == []
    clock.now += 1
    assert pause_deserted(store) == [job.id]
    assert "process 123 on another-host" in state(store, job)[1]
    with store.read() as connection:
        assert is_half_read(connection, job.id)


def test_one_who_only_slept_takes_his_job_back_unless_the_user_or_another_has_it(
    store: Store, clock: Clock, job: Job
) -> None:
    with Reader(store, job.id) as reader:
        clock.now += READER_S
        assert pause_deserted(store) == [job.id]
        reader.renew()
        assert state(store, job) == (JobState.INGESTING, "")
        assert pause_deserted(store) == []
        with store.write() as connection:
            set_state(connection, job.id, JobState.PAUSED, clock.now, reason="paused by user")
        reader.renew()
        assert state(store, job)[0] is JobState.PAUSED
        with store.write() as connection:
            set_state(connection, job.id, JobState.INGESTING, clock.now)
            set_reader(connection, job.id, ELSEWHERE, clock.now + READER_S)
        clock.now += READER_S
        assert pause_deserted(store) == [job.id]
        reader.renew()
        assert state(store, job)[0] is JobState.PAUSED
        with store.write() as connection:
            end_reading(connection, job.id)
            assert not is_half_read(connection, job.id)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (UsageError("The folder is gone."), "its corpus was not read to the end: The folder is gone."),
        (ZeroDivisionError(), "its corpus was not read to the end: ZeroDivisionError"),
    ],
)
def test_a_reading_that_is_cut_off_leaves_its_job_paused_with_the_reason(
    store: Store, job: Job, error: BaseException, reason: str
) -> None:
    with pytest.raises(type(error)), paused_if_unread(store, job.id), Reader(store, job.id):
        raise error
    assert state(store, job) == (JobState.PAUSED, reason)


class Away:
    """A store that this process cannot reach for a while, by the process's own clock."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self._store = store
        monkeypatch.setattr("batcher.store.database.time.monotonic", lambda: self.now)

    def fail(self) -> None:
        with pytest.raises(StoreAwayError), self._store.read():
            raise OperationalError("SELECT 1", {}, Exception("the server is gone"))


def test_while_the_store_was_away_nobody_could_say_that_he_is_there(
    store: Store, clock: Clock, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.write() as connection:
        set_reader(connection, job.id, ELSEWHERE, clock.now + READER_S)
    clock.now += READER_S
    assert store.back_for_s() == math.inf
    away = Away(store, monkeypatch)
    away.fail()
    assert store.back_for_s() == 0.0
    away.now += LONG_AWAY_S
    away.fail()
    away.now += 1
    assert pause_deserted(store) == []
    away.now += RETURN_S
    assert pause_deserted(store) == [job.id]


def test_a_connection_that_breaks_once_is_no_absence(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    away = Away(store, monkeypatch)
    away.fail()
    away.now += LONG_AWAY_S / 2
    with store.read():
        pass
    assert store.back_for_s() == math.inf


@pytest.mark.parametrize("long", [True, False])
def test_leases_that_ran_out_while_the_store_was_away_wait_for_those_who_hold_them(
    store: Store, clock: Clock, job: Job, monkeypatch: pytest.MonkeyPatch, long: bool
) -> None:
    ledger = Ledger(store, "UTC")
    with store.write() as connection:
        new = NewLease(job.id, "economy", "p", ELSEWHERE, "2026-11-20", 0, clock.now + 60)
        lease_id = open_lease(connection, new, [])
    away = Away(store, monkeypatch)
    away.fail()
    away.now += LONG_AWAY_S if long else LONG_AWAY_S / 2
    clock.now += 65
    with store.read():
        pass
    assert reclaim_lost(store, ledger) == (0 if long else 1)
    if long:
        with store.write() as connection:
            assert renew(connection, [lease_id], clock.now + 60) == {lease_id}
        away.now += RETURN_S
        assert reclaim_lost(store, ledger) == 0
        clock.now += 60
        assert reclaim_lost(store, ledger) == 1
