"""Each rule on a store that is as it says."""

from __future__ import annotations

import logging
import random

import pytest
from sqlalchemy import insert

from batcher.alerts.book import Alert, Rule
from batcher.alerts.jobs import accuracy_alerts, read_jobs
from batcher.alerts.rates import Rates
from batcher.statistics.intervals import wilson
from batcher.store.tables import leases, samples
from tests.unit.alerts.conftest import NOON, USD, House


def test_each_step_of_a_cap_is_told_once_a_day(house: House) -> None:
    house.cap("day", 10 * USD)
    alerts = house.alerts()
    for spent, rules in ((4.99, []), (5, ["cap_50"]), (7.99, ["cap_50"]), (8, ["cap_50", "cap_80"])):
        house.spend("day", int(spent * USD))
        alerts.check()
        house.alerts().check()
        assert [rule for rule, _ in house.rules()] == rules
    house.spend("day", 10 * USD)
    assert alerts.check() == 1
    assert house.raised()[-1].alert.title == "The daily cap is spent: $10.00 of $10.00"
    house.clock[0] += 86_400
    house.spend("day", 5 * USD)
    assert alerts.check() == 1, "a new day"
    assert [stored.day for stored in house.raised()] == ["2026-11-20"] * 3 + ["2026-11-21"]


def test_every_cap_in_force_is_looked_at(house: House) -> None:
    job_id = house.job()
    for scope in ("tier:economy", "provider:openai", "task:verdict", f"job:{job_id}"):
        house.cap(scope, 100)
        house.spend(scope, 60)
    house.cap("tier:premium", None)
    house.spend("tier:premium", 60)
    assert house.alerts().check() == 4
    assert house.rules() == [
        ("cap_50", f"job:{job_id}"),
        ("cap_50", "provider:openai"),
        ("cap_50", "task:verdict"),
        ("cap_50", "tier:economy"),
    ]
    assert "The cap of tier economy is 50 % spent" in [stored.alert.title[:37] for stored in house.raised()]


def test_what_is_reserved_is_not_spent_and_nothing_of_nothing_is_no_alert(house: House) -> None:
    house.cap("day", 0)
    house.cap("tier:economy", 100)
    assert house.alerts().check() == 0
    house.spend("day", 1)
    house.alerts().check()
    assert ("over_cap", "day") in house.rules()


def test_spend_above_a_cap_that_was_lowered(house: House) -> None:
    house.cap("day", 10 * USD)
    house.spend("day", 4 * USD)
    assert house.alerts().check() == 0
    house.cap("day", 3 * USD)
    house.alerts().check()
    [over] = [stored for stored in house.raised() if stored.alert.rule is Rule.OVER_CAP]
    assert over.alert.title == "More is spent than the daily cap allows: $4.00 of $3.00"


def test_the_last_second_of_a_day_is_looked_at_in_the_first_of_the_next(house: House) -> None:
    house.cap("day", 100)
    house.spend("day", 100)
    house.clock[0] += 12 * 3600 + 1
    house.alerts().check()
    assert {stored.day for stored in house.raised()} == {"2026-11-20"}


@pytest.mark.parametrize(
    ("reason", "scope"),
    [
        ("budget: daily cap $5.00: $4.99 spent, $0.00 reserved; the next call may cost $0.02", "day"),
        ("budget: cap of tier economy $5.00: $4.99 spent, $0.00 reserved; the next", "tier:economy"),
        ("budget: another wording", "job:1"),
    ],
)
def test_a_run_that_a_cap_pauses_has_reached_it(house: House, reason: str, scope: str) -> None:
    job_id = house.job("paused", reason=reason)
    alerts = house.alerts()
    assert alerts.check([job_id]) == 1
    assert house.rules() == [("cap_100", scope)]
    house.clock[0] += 86_400
    assert alerts.check([job_id]) == 0, "the same pause is no news on the next day"


def test_each_cap_that_holds_a_job_back_is_told(house: House) -> None:
    reason = (
        "budget: cap of provider openai $1.00: $0.99 spent, $0.00 reserved; "
        "cap of tier economy $5.00: $4.99 spent, $0.00 reserved; the next call may cost $0.02"
    )
    house.alerts().check([house.job("paused", reason=reason)])
    assert house.rules() == [("cap_100", "provider:openai"), ("cap_100", "tier:economy")]


def test_a_cap_that_only_a_part_of_a_run_waits_for_is_told_in_mid_run(house: House) -> None:
    job_id = house.job(waiting_reason="rate limit: 3 requests/min")
    alerts = house.alerts()
    assert alerts.check([job_id], thorough=False) == 0
    house.change(job_id, waiting_reason="budget: cap of tier economy and daily cap reached")
    assert alerts.check([job_id], thorough=False) == 2
    assert house.rules() == [("cap_100", "day"), ("cap_100", "tier:economy")]
    assert f"job {job_id} waits for it" in house.raised()[0].alert.title


def test_a_cap_is_not_reached_while_what_is_reserved_under_it_may_come_back(house: House) -> None:
    house.cap("day", 20 * USD)
    house.spend("day", 4 * USD)
    house.reserve("day", 15 * USD)
    waiting = house.job(waiting_reason="budget: daily cap reached")
    alerts = house.alerts()
    assert alerts.check([waiting], thorough=False) == 0
    house.reserve("day", 0)
    assert alerts.check([waiting], thorough=False) == 1
    assert house.rules() == [("cap_100", "day")]


def test_a_run_that_pauses_beside_another_has_reached_the_cap(house: House) -> None:
    house.cap("day", 20 * USD)
    house.reserve("day", 15 * USD)
    job_id = house.job(waiting_reason="budget: daily cap reached")
    alerts = house.alerts()
    alerts.check([job_id])
    house.change(job_id, state="paused", waiting_reason=None, reason="budget: daily cap $20.00: $5.00 spent")
    assert alerts.check([job_id]) == 1
    assert house.raised()[0].alert.title == f"The daily cap is reached: job {job_id} is paused"


@pytest.mark.parametrize(
    "reason", ["interrupted", "paused by user", "finish-by 06:00: no time for another call"]
)
def test_what_somebody_asked_for_is_no_failure(house: House, reason: str) -> None:
    assert house.alerts().check([house.job("paused", reason=reason)]) == 0


def test_a_job_that_an_account_stops_has_failed(house: House) -> None:
    job_id = house.job("paused", reason="openai: no credit <left>\nX-Header: 1")
    house.alerts().check([job_id])
    [stored] = house.raised()
    assert (stored.alert.rule, stored.alert.scope) == (Rule.JOB_FAILED, f"job:{job_id}")
    assert stored.alert.title == f"Job {job_id} is stopped: openai: no credit ‹left› X-Header: 1"  # noqa: RUF001
    assert "docs/‹b›" in stored.alert.body  # noqa: RUF001


@pytest.mark.parametrize(
    ("state", "items", "told"),
    [
        ("running", {"done": 80, "failed": 9}, False),
        ("running", {"done": 80, "failed": 10}, True),
        ("running", {"done": 95, "failed": 10}, False),
        ("running", {"failed": 3, "pending": 5}, False),
        ("done", {"failed": 3}, True),
        ("done", {"failed": 1, "done": 2}, False),
        ("done", {"done": 2}, False),
    ],
)
def test_many_dead_letters_are_a_failure(house: House, state: str, items: dict[str, int], told: bool) -> None:
    job_id = house.job(state, finished_at=NOON)
    house.items(job_id, items)
    house.alerts().check([job_id], rates=Rates())
    assert (("job_failed", f"job:{job_id}/items") in house.rules()) is told
    if told:
        assert f"transient {items['failed']}" in house.raised()[-1].alert.body


def test_a_finished_job_is_told_where_that_is_switched_on(house: House) -> None:
    job_id = house.job("done", finished_at=NOON)
    house.items(job_id, {"done": 3, "failed": 1})
    assert house.alerts().check([job_id]) == 0
    alerts = house.alerts(alert_rules={"job_done": True})
    assert alerts.check([job_id]) == 1
    assert house.raised()[0].alert.title == f"Job {job_id} is done: 3 done, 1 failed"
    house.clock[0] += 86_400
    assert alerts.check([job_id]) == 0


def test_whoever_looks_tells_of_a_job_that_has_just_ended(house: House) -> None:
    """Workers ended it, and nobody watches: the schedule looks at no job in particular."""
    house.job("done", finished_at=NOON - 86_400)
    job_id = house.job("done", finished_at=NOON - 20)
    house.items(job_id, {"done": 2, "failed": 12})
    alerts = house.alerts(alert_rules={"job_done": True})
    assert alerts.check() == 2
    assert house.rules() == [("job_done", f"job:{job_id}"), ("job_failed", f"job:{job_id}/items")]
    assert alerts.check() == 0


def test_a_rule_that_is_off_raises_nothing(house: House) -> None:
    house.cap("day", 100)
    house.spend("day", 90)
    assert house.alerts(alert_rules={"cap_50": False}).check() == 1
    assert house.rules() == [("cap_80", "day")]


def test_a_run_without_a_call_for_long_is_stalled_unless_it_says_why(house: House) -> None:
    times = [0.0]
    rates = Rates(lambda: times[0])
    job_id = house.job()
    house.items(job_id, {"pending": 1})
    alerts = house.alerts(alert_stalled_s=600)
    times[0] = 599
    assert alerts.check([job_id], rates=rates) == 0
    times[0] = 600
    house.change(job_id, waiting_reason="rate limit: 3 requests/min")
    assert alerts.check([job_id], rates=rates) == 0
    house.change(job_id, waiting_reason=None)
    assert alerts.check([job_id], rates=rates, thorough=False) == 0
    assert alerts.check([job_id], rates=rates) == 1
    assert house.rules() == [("job_stalled", f"job:{job_id}")]
    assert "No call has ended for 10 minutes" in house.raised()[0].alert.body


def test_a_call_within_its_time_limit_is_no_standstill(house: House) -> None:
    rates = Rates(iter([0.0, 1_000.0, 5_000.0]).__next__)
    alerts = house.alerts(alert_stalled_s=600, call_timeout_s=2_000)
    job_id = house.job()
    assert alerts.check([job_id], rates=rates) == 0


@pytest.mark.parametrize(("expired_ago_s", "told"), [(800, False), (1000, True)])
def test_a_job_whose_worker_was_killed_is_stalled(house: House, expired_ago_s: float, told: bool) -> None:
    job_id = house.job(waiting_reason="what the dead run waited for")
    house.items(job_id, {"pending": 1})
    lease = {
        "job_id": job_id, "tier": "economy", "provider": "p", "worker": "w", "state": "active",
        "day": "2026-11-20", "reserved_nusd": 0, "expires_at": NOON - expired_ago_s,
    }  # fmt: skip
    with house.store.write() as connection:
        connection.execute(insert(leases).values(lease))
    house.alerts().check()
    assert (("job_stalled", f"job:{job_id}") in house.rules()) is told


def test_items_that_wait_for_their_time_are_no_standstill(house: House) -> None:
    job_id = house.job()
    assert house.alerts().check() == 0, "nothing is left to do"
    house.items(job_id, {"pending": 1})
    assert house.alerts().check() == 1


@pytest.mark.parametrize(
    ("correct", "scored", "told"),
    [(0, 9, False), (2, 10, True), (3, 10, False), (67, 100, True), (70, 100, False)],
)
def test_accuracy_below_the_floor_must_be_certain(
    house: House, correct: int, scored: int, told: bool
) -> None:
    job_id = house.job(waiting_reason="x")
    rows = [
        {"item_id": n, "judged_by": "golden", "job_id": job_id, "expected": "1", "score": 1.0 * (n < correct),
         "correct": n < correct}
        for n in range(scored)
    ]  # fmt: skip
    with house.store.write() as connection:
        connection.execute(insert(samples), rows)
    house.alerts().check([job_id], rates=Rates())
    assert (("accuracy", f"job:{job_id}") in house.rules()) is told


def test_accuracy_at_the_floor_is_hardly_ever_told_however_often_one_looks(house: House) -> None:
    draw, told, by_one_look, runs = random.Random(6), 0, 0, 60
    for _ in range(runs):
        job_id, scored, right, below = house.job(waiting_reason="x"), 0, 0, False
        with house.store.write() as connection:
            [job] = read_jobs(connection, [job_id], NOON)
            for _ in range(30):
                correct = [draw.random() < 0.8 for _ in range(10)]
                rows = [
                    {"item_id": job_id * 1000 + scored + n, "judged_by": "golden", "job_id": job_id,
                     "expected": "1", "score": 1.0 * is_right, "correct": is_right}
                    for n, is_right in enumerate(correct)
                ]  # fmt: skip
                connection.execute(insert(samples), rows)
                scored, right = scored + len(rows), right + sum(correct)
                below = below or wilson(right, scored).high < 0.8
                if list(accuracy_alerts(connection, job, lambda hits, of: (0.0, hits / of))):
                    told += 1
                    break
        by_one_look += below
    assert told / runs <= 0.05
    assert by_one_look > 2 * told, "an interval for one look is fooled more often"


def test_routed_jobs_are_left_to_their_router(house: House) -> None:
    job_id = house.job(waiting_reason="x", routing="{}")
    rows = [
        {
            "item_id": n,
            "judged_by": "golden",
            "job_id": job_id,
            "expected": "1",
            "score": 0.0,
            "correct": False,
        }
        for n in range(50)
    ]
    with house.store.write() as connection:
        connection.execute(insert(samples), rows)
    house.alerts().check([job_id], rates=Rates())
    assert house.rules() == []


def test_old_prices_of_models_in_use(house: House) -> None:
    house.price_dates.update(m="2026-08-21", n="2026-08-22", unused="2020-01-01", odd="soon")
    job_id = house.job()
    house.alerts().check([job_id], rates=Rates())
    assert house.rules() == [("prices_old", "model:m")]
    assert house.raised()[0].alert.title == "The prices of m are 91 days old"


def test_what_is_told_goes_to_the_log_once(house: House, caplog: pytest.LogCaptureFixture) -> None:
    alerts = house.alerts()
    with caplog.at_level(logging.INFO, "batcher.alerts"):
        alerts.tell(Alert(Rule.DIGEST, "job:1", "The night", "was quiet"))
        alerts.tell(Alert(Rule.DIGEST, "job:1", "The night", "was quiet"))
        alerts.tell(Alert(Rule.OVER_RESERVATION, "job:1", "Too\nmuch", "x"))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "alert digest job:1: The night"),
        ("WARNING", "alert over_reservation job:1: Too much"),
    ]
    assert {stored.state.value for stored in house.raised()} == {"sent"}


def test_a_look_is_a_handful_of_reads_by_key(house: House) -> None:
    from sqlalchemy import event

    house.cap("day", 100)
    house.spend("day", 10)
    house.items(house.job(), {"pending": 50})
    alerts = house.alerts()
    alerts.check(thorough=False)
    statements: list[str] = []
    event.listen(house.store.engine, "before_cursor_execute", lambda *seen: statements.append(seen[2]))
    alerts.check(thorough=False)
    queries = [text for text in statements if text.startswith("SELECT")]
    assert len(queries) <= 5
    assert not any("FROM items" in text or "FROM attempts" in text for text in queries)


@pytest.mark.parametrize("purpose", ["golden", "judge"])
def test_a_job_that_only_measures_tells_of_no_end_failures_or_accuracy(house: House, purpose: str) -> None:
    for kind, rules in (("answer", {"job_done", "job_failed", "accuracy"}), (purpose, set())):
        job_id = house.job("done", purpose=kind)
        house.items(job_id, {"done": 1, "failed": 50})
        measured = [
            {"item_id": job_id * 1000 + n, "judged_by": "golden", "job_id": job_id, "expected": "1",
             "score": 0.0, "correct": False}
            for n in range(60)
        ]  # fmt: skip
        with house.store.write() as connection:
            connection.execute(insert(samples), measured)
        house.alerts(alert_rules={"job_done": True}).check([job_id])
        told = {stored.alert.rule.value for stored in house.raised() if f":{job_id}" in stored.alert.scope}
        assert told == rules


def test_a_golden_job_that_is_stopped_is_told(house: House) -> None:
    house.alerts().check([house.job("paused", purpose="golden", reason="openai: no credit")])
    assert house.rules() == [("job_failed", "job:1")]
