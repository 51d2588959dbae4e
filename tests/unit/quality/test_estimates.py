"""Weighted estimates: unbiased under unequal probabilities, people before judges, nothing counted twice."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
from sqlalchemy import insert

from batcher.quality.correction import Judged, corrected_share
from batcher.quality.estimates import (
    FIRST,
    KNOWN,
    REST,
    Looked,
    Part,
    Sampled,
    _estimate,
    read_sampled,
)
from batcher.store.database import Store
from batcher.store.schema import ensure_schema
from batcher.store.tables import items, results, sampled_items, samples, tallies

SHARE, FIRST_ONES = 0.05, 20
POPULATION = {("economy", "a"): (4_000, 0.9, 0.5), ("premium", "b"): (200, 0.6, 0.9)}
"""By stratum: answers, the accuracy of most of them, that of the first ones."""


def draw(seed: int) -> tuple[list[Looked], dict[Part, int], float]:
    """A job whose first answers are worse or better than the rest, as it would be drawn and judged."""
    chance = random.Random(seed)
    looked, sizes, right = [], {}, 0
    for (tier, model), (answers, accuracy, of_first) in POPULATION.items():
        first, rest = Part(1, tier, model, FIRST), Part(1, tier, model, REST)
        sizes |= {first: FIRST_ONES, rest: answers - FIRST_ONES}
        for rank in range(answers):
            is_first = rank < FIRST_ONES
            correct = chance.random() < (of_first if is_first else accuracy)
            right += correct
            if is_first or chance.random() < SHARE:
                looked.append(Looked(first if is_first else rest, "judge", correct, judge=correct))
    return looked, sizes, right / sum(answers for answers, _, _ in POPULATION.values())


def test_unbiased_under_unequal_probabilities_and_its_interval_holds() -> None:
    errors, held, plain = [], 0, []
    for seed in range(400):
        looked, sizes, truth = draw(seed)
        found = _estimate(looked, sizes)
        assert found is not None
        errors.append(found.interval.share - truth)
        plain.append(fmean(one.correct for one in looked) - truth)
        held += found.interval.low <= truth <= found.interval.high
    assert abs(fmean(errors)) < 0.004, "standard error of this mean is 0.0011"
    assert abs(fmean(plain)) > 0.02, "unweighted, the small strata would count for too much"
    assert held / 400 > 0.92


def test_counted_answers_say_what_they_say_one_by_one() -> None:
    looked, sizes, _ = draw(7)
    counted = [replace(one, count=count) for one, count in Counter(looked).items()]
    assert len(counted) < len(looked) / 10
    assert _estimate(counted, sizes) == _estimate(looked, sizes)
    judged = [Judged(1 + n % 3, n % 5 > 0, (n % 7 > 0) if n % 4 == 0 else None) for n in range(300)]
    together = corrected_share([replace(one, count=count) for one, count in Counter(judged).items()])
    apart = corrected_share(judged)
    assert together is not None
    assert apart is not None
    assert together.interval.low == pytest.approx(apart.interval.low)
    assert together.interval.high == pytest.approx(apart.interval.high)
    assert (together.judged, together.audited) == (apart.judged, apart.audited) == (300, 75)


def test_people_count_before_judges_and_known_answers(store: Store) -> None:
    found = read_sampled_of(store)
    assert found.whole is not None
    assert found.whole.by == {"person": 2, "golden": 1, "judge": 3}
    assert (found.drawn, found.waiting) == (6, 1)
    assert found.agreement["j"].items == 2
    assert found.agreement["j"].interval.share == 0.5


def test_a_part_counts_for_as_much_as_it_holds(store: Store) -> None:
    found = read_sampled_of(store)
    # Of 100 answers one is known (right), two are first ones (right, wrong), 97 others: 2 of 3 are right.
    assert found.whole is not None
    assert found.whole.interval.share == pytest.approx((1 + 1 + 97 * 2 / 3) / 100)
    assert found.whole.answers == 100
    assert set(found.strata) == {("economy", "m")}


def test_what_an_earlier_step_answered_is_no_answer_of_the_job(store: Store) -> None:
    with store.write() as connection:
        connection.execute(insert(items).values(
            id=8, job_id=2, source="d8", accepts_key=1, status="done", tier="economy", ready_at=0.0,
            reused=False, result_id=7,
        ))  # fmt: skip
        connection.execute(insert(samples).values(item_id=8, judged_by="golden", job_id=1, expected="null"))
    found = read_sampled_of(store)
    assert found.whole is not None
    assert found.whole.answers == 100
    assert found.whole.interval.share == pytest.approx((1 + 1 + 97 * 2 / 3) / 100)


def test_a_job_with_known_answers_alone_has_no_estimate_of_what_was_drawn(store: Store) -> None:
    with store.write() as connection:
        connection.execute(samples.delete().where(samples.c.judged_by != "golden"))
        sampled = read_sampled(connection, 1)
    assert sampled is not None
    assert sampled.whole is None


def test_few_of_the_rest_let_the_first_ones_stand_for_them() -> None:
    first, rest = Part(1, "t", "m", FIRST), Part(1, "t", "m", REST)
    looked = [Looked(first, "judge", n < 15) for n in range(20)] + [Looked(rest, "judge", False)]
    found = _estimate(looked, {first: 20, rest: 80})
    assert found is not None
    assert found.interval.share == pytest.approx(15 / 21)
    known = Part(1, "t", "m", KNOWN)
    apart = _estimate([*looked, Looked(known, "golden", True)], {first: 20, rest: 79, known: 1})
    assert apart is not None
    assert apart.interval.share == pytest.approx(0.99 * 15 / 21 + 0.01)


def test_corrected_by_audits_it_finds_what_people_would_whatever_the_judge() -> None:
    shares, held = [], 0
    for seed in range(400):
        chance = random.Random(seed)
        judged = []
        for n in range(300):
            right = chance.random() < 0.8
            says = right if chance.random() < 0.85 else True  # a lenient judge
            judged.append(Judged(1 + n % 3, says, right if n < 60 else None))
        found = corrected_share(judged)
        assert found is not None
        shares.append(found.interval.share)
        held += found.interval.low <= 0.8 <= found.interval.high
    assert abs(fmean(shares) - 0.8) < 0.006
    assert held / 400 > 0.92
    assert found.by_judge > 0.8
    assert (found.judged, found.audited) == (300, 60)
    assert corrected_share([Judged(1, judge=True, person=True)] * 9) is None


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A job of 100 answers by one model: six drawn, and looked at by a judge, people and a known answer."""
    made = Store(f"sqlite:///{tmp_path / 'store.db'}")
    ensure_schema(made)
    probabilities = {1: 1.0, 2: 1.0, 3: 1.0, 4: 0.05, 5: 0.05, 6: 0.05}
    said = [
        (1, "golden", True), (2, "judge:j", False), (2, "person:ann", True), (3, "judge:j", False),
        (4, "judge:j", True), (5, "judge:j", True), (5, "person:ann", False), (5, "person:bob", True),
        (7, "judge:j", False),
    ]  # fmt: skip
    drawn = probabilities | {7: 0.05}
    del drawn[1]
    with made.write() as connection:
        connection.execute(insert(tallies), [{
            "job_id": 1, "tier": "economy", "model": "m", "calls": 100, "input_tokens": 1, "cached_tokens": 0,
            "output_tokens": 1, "cost_nusd": 1, "answered": 100,
        }])  # fmt: skip
        for number in range(1, 8):
            connection.execute(insert(items).values(
                id=number, job_id=1, source=f"d{number}", accepts_key=1, status="done", tier="economy",
                ready_at=0.0, reused=False, result_id=number,
            ))  # fmt: skip
            connection.execute(insert(results).values(
                id=number, result_key=b"%020d" % number, model="m", refresh_job_id=0, tier="economy",
                output="{}", created_at=0.0,
            ))  # fmt: skip
        connection.execute(insert(sampled_items), [
            {"item_id": item, "job_id": 1, "tier": "economy", "model": "m", "probability": chance,
             "drawn_at": 0.0}
            for item, chance in drawn.items()
        ])  # fmt: skip
        connection.execute(insert(samples), [
            {"item_id": item, "judged_by": by, "job_id": 1, "expected": "null", "score": float(correct),
             "correct": correct, "judged_at": float(at)}
            for at, (item, by, correct) in enumerate(said)
        ])  # fmt: skip
    return made


def read_sampled_of(store: Store) -> Sampled:
    with store.read() as connection:
        found = read_sampled(connection, 1)
    assert found is not None
    return found
