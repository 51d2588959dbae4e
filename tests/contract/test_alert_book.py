"""The book of alerts on SQLite and PostgreSQL: told once, claimed once, forgotten never."""

from __future__ import annotations

import multiprocessing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batcher.alerts.book import (
    FIRST_WAIT_S,
    MOST_TRIES,
    Alert,
    AlertState,
    Rule,
    StoredAlert,
    claim_due,
    count_pending,
    has_due,
    list_alerts,
    mark_sent,
    mark_taken,
    raise_alert,
)
from batcher.store.database import Store
from tests.contract.conftest import Clock

DAY = "2026-11-20"
KEYS = st.lists(
    st.tuples(
        st.sampled_from([Rule.CAP_50, Rule.OVER_CAP, Rule.JOB_FAILED]),
        st.sampled_from(["day", "job:1", "tier:economy", "tier:" + "x" * 300]),
        st.sampled_from([DAY, "2026-11-21"]),
    ),
    max_size=12,
)


def put(store: Store, rule: Rule = Rule.CAP_50, scope: str = "day", day: str = DAY) -> bool:
    with store.write() as connection:
        return raise_alert(
            connection, Alert(rule, scope, f"{rule} of {scope}", "body"), day, store.now(connection)
        )


def everything(store: Store) -> list[StoredAlert]:
    with store.read() as connection:
        return list_alerts(connection)


def claim(store: Store, *, off: tuple[Rule, ...] = (), at_once: bool = False) -> list[StoredAlert]:
    with store.write() as connection:
        return claim_due(connection, store.now(connection), off, at_once=at_once)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(keys=KEYS)
def test_a_rule_tells_of_a_scope_once_a_day(store: Store, keys: list[tuple[Rule, str, str]]) -> None:
    before = {(found.alert.rule, found.alert.scope, found.day) for found in everything(store)}
    for rule, scope, day in keys:
        key = (rule, scope[:200], day)
        assert put(store, rule, scope, day) is (key not in before)
        before.add(key)
    found = [(stored.alert.rule, stored.alert.scope, stored.day) for stored in everything(store)]
    assert len(found) == len(set(found))
    assert set(found) == before


def _raise_all(url: str, new: multiprocessing.Queue[int]) -> None:
    store = Store(url)
    count = 0
    for number in range(30):
        for day in (DAY, "2026-11-21"):
            count += put(store, Rule.CAP_80, f"tier:{number}", day)
    store.close()
    new.put(count)


def test_racing_processes_raise_each_alert_once(store: Store, store_url: str) -> None:
    store.close()
    assert sum(_race(_raise_all, store_url)) == 60
    assert len(everything(store)) == 60


def _claim_all(url: str, claimed: multiprocessing.Queue[int]) -> None:
    store = Store(url)
    count = 0
    while has_any(store):
        with store.write() as connection:
            found = claim_due(connection, store.now(connection))
            mark_sent(connection, [stored.id for stored in found], store.now(connection))
        count += len(found)
    store.close()
    claimed.put(count)


def has_any(store: Store) -> bool:
    with store.read() as connection:
        return has_due(connection, store.now(connection))


def test_racing_processes_deliver_each_alert_once(store: Store, store_url: str, clock: Clock) -> None:
    clock.now = 0.0  # long ago on the racers' real clock
    for number in range(120):
        put(store, Rule.CAP_80, f"tier:{number}")
    store.close()
    assert sum(_race(_claim_all, store_url)) == 120
    assert {stored.tries for stored in everything(store)} == {1}


def _race(target: object, url: str) -> list[int]:
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[int] = context.Queue()
    racers = [context.Process(target=target, args=(url, results)) for _ in range(4)]  # type: ignore[arg-type]
    for racer in racers:
        racer.start()
    found = [results.get(timeout=60) for _ in racers]
    for racer in racers:
        racer.join()
        assert racer.exitcode == 0
    return found


def test_what_no_channel_took_is_due_again_later_and_later(store: Store, clock: Clock) -> None:
    put(store)
    waits = []
    for _ in range(8):
        [stored] = claim(store)
        assert claim(store) == [], "it is in somebody's hands"
        waits.append(stored.next_try_at - clock.now)
        clock.now = stored.next_try_at
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]


def test_an_alert_is_given_up_after_a_day_of_tries(store: Store, clock: Clock) -> None:
    put(store)
    started = clock.now
    for _ in range(MOST_TRIES):
        [stored] = claim(store)
        assert stored.state is AlertState.PENDING
        clock.now = stored.next_try_at
    assert 24 * 3600 <= clock.now - started < 30 * 3600
    assert [stored.state for stored in claim(store)] == [AlertState.GIVEN_UP]
    assert claim(store) == []


def test_at_once_means_now_but_not_twice_in_a_minute(store: Store, clock: Clock) -> None:
    put(store)
    assert len(claim(store)) == 1
    clock.now += FIRST_WAIT_S - 1
    assert claim(store, at_once=True) == []
    clock.now += 1
    assert len(claim(store, at_once=True)) == 1
    clock.now += FIRST_WAIT_S
    assert claim(store) == [], "the second wait is longer"
    assert len(claim(store, at_once=True)) == 1


def test_an_alert_is_sent_when_every_channel_has_it(store: Store, clock: Clock) -> None:
    put(store)
    [stored] = claim(store)
    for channel, state in (("a", AlertState.PENDING), ("a", AlertState.PENDING), ("b", AlertState.SENT)):
        with store.write() as connection:
            mark_taken(connection, [stored.id], channel, ["a", "b"], clock.now)
        assert everything(store)[0].state is state
    assert everything(store)[0].taken_by == {"a", "b"}
    assert everything(store)[0].sent_at == clock.now
    with store.read() as connection:
        assert count_pending(connection) == 0


def test_an_alert_whose_rule_is_off_is_muted(store: Store) -> None:
    put(store, Rule.CAP_50)
    put(store, Rule.CAP_80)
    assert [stored.state for stored in claim(store, off=(Rule.CAP_50,))] == [
        AlertState.MUTED,
        AlertState.PENDING,
    ]


@pytest.mark.parametrize("text", ["<b>\x00\r\n", "x" * 5000, "ünïcödé \u202e"])
def test_what_is_kept_is_plain_whoever_wrote_it(store: Store, text: str) -> None:
    with store.write() as connection:
        raise_alert(connection, Alert(Rule.DIGEST, "job:1", text, text), DAY, 0.0)
    [stored] = everything(store)
    assert not set(stored.alert.title + stored.alert.body) & set("<>\x00\r\u202e")
    assert len(stored.alert.title) <= 150
