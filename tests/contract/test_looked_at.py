"""What judges and people said of answers is counted in the store as it would be one by one."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from batcher.quality.estimates import FIRST, KNOWN, REST, Looked, Part, looked_at, read_sampled
from batcher.store.database import Store
from batcher.store.tables import items, results, sampled_items, samples, tallies

WHO = ("judge:j", "judge:k", "person:ann", "person:bob", "golden")


def fill(connection: Connection, chance: random.Random) -> None:
    """60 answers of two models, most of them judged, some also by people or by a second judge."""
    for number in range(1, 61):
        model = chance.choice("ab")
        key = {"id": number, "tier": "economy"}
        item = {"job_id": 1, "source": f"d{number}", "accepts_key": 1, "status": "done", "ready_at": 0.0}
        connection.execute(insert(items).values(**key, **item, reused=False, result_id=number))
        result = {"result_key": b"%020d" % number, "model": model, "refresh_job_id": 0, "created_at": 0.0}
        connection.execute(insert(results).values(**key, **result, output="{}"))
        if chance.random() < 0.9:
            connection.execute(
                insert(sampled_items).values(
                    item_id=number, job_id=1, tier="economy", model=model, drawn_at=0.0,
                    probability=chance.choice([1.0, 0.05]),
                )
            )  # fmt: skip
        said = {"judge:j"} if chance.random() < 0.7 else set(chance.sample(WHO, chance.randrange(5)))
        for by in sorted(said):
            score = chance.choice([None, 0.0, 1.0, 1.0])
            connection.execute(
                insert(samples).values(
                    item_id=number, job_id=1, judged_by=by, expected="null", score=score,
                    correct=None if score is None else score == 1.0, judged_at=chance.random(),
                )
            )  # fmt: skip
    for model in "ab":
        sums = dict.fromkeys(("calls", "input_tokens", "cached_tokens", "output_tokens", "cost_nusd"), 0)
        of = {"job_id": 1, "tier": "economy", "model": model, "answered": 100}
        connection.execute(insert(tallies).values(**of, **sums))


def one_by_one(connection: Connection, but_not_by: str | None) -> Counter[tuple[Any, ...]]:
    """The same, from the rows alone: a person before a known answer, that before a judge, else the latest."""
    said: dict[int, dict[str, Any]] = defaultdict(dict)
    for row in sorted(connection.execute(select(samples)), key=lambda row: row.judged_at):
        if row.score is not None and row.judged_by != f"judge:{but_not_by}":
            said[row.item_id][row.judged_by.partition(":")[0]] = row
    drawn = {row.item_id: row for row in connection.execute(select(sampled_items))}
    models = dict(connection.execute(select(results.c.id, results.c.model)).all())
    found: Counter[tuple[Any, ...]] = Counter()
    for item, rows in said.items():
        by = next(kind for kind in ("person", "golden", "judge") if kind in rows)
        if "golden" in rows:
            part = Part(1, "economy", models[item], KNOWN)
        elif item in drawn:
            part = Part(1, "economy", drawn[item].model, FIRST if drawn[item].probability == 1 else REST)
        else:
            continue
        judge, person = rows.get("judge"), rows.get("person")
        name = "" if judge is None else judge.judged_by.partition(":")[2]
        words = (None if judge is None else judge.correct, None if person is None else person.correct)
        found[part, by, rows[by].correct, *words, name] += 1
    return found


def told(looked: list[Looked]) -> Counter[tuple[Any, ...]]:
    found: Counter[tuple[Any, ...]] = Counter()
    for one in looked:
        found[one.part, one.by, one.correct, one.judge, one.person, one.judged_by] += one.count
    return found


@pytest.mark.parametrize("seed", range(5))
def test_answers_are_counted_as_they_would_be_one_by_one(store: Store, seed: int) -> None:
    with store.write() as connection:
        fill(connection, random.Random(seed))
    with store.read() as connection:
        for but_not_by in (None, "j", "k"):
            counted = looked_at(connection, [1], but_not_by=but_not_by)
            assert told(counted) == one_by_one(connection, but_not_by)
        sampled, looked = read_sampled(connection, 1), looked_at(connection, [1])
    assert len(looked) < sum(one.count for one in looked) / 2, "most were looked at by one judge alone"
    assert sampled is not None
    assert sampled.whole is not None
    assert sum(sampled.whole.by.values()) == sum(one.count for one in looked)
