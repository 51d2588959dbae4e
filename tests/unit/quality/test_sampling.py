"""Lots: uniform, the same again, and drawn at the probability that is kept."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import select

from batcher.quality.sampling import Sampling, chosen_judge, new_seed, uniform
from batcher.store.database import Store
from batcher.store.sampling import Draw, draw_items
from batcher.store.schema import ensure_schema
from batcher.store.tables import sampled_items
from batcher.store.tallies import Tally, TallyKey, add_to_tallies

NUMBERS = [uniform(7, 3, b"%020d" % n) for n in range(20_000)]


def test_numbers_are_uniform() -> None:
    bins = [0] * 50
    for number in NUMBERS:
        bins[int(number * 50)] += 1
    chi_square = sum((count - 400) ** 2 / 400 for count in bins)
    # 49 degrees of freedom: 99.99 % of uniform samples stay below 94.
    assert chi_square < 94
    assert min(NUMBERS) >= 0
    assert max(NUMBERS) < 1


def test_neighbours_are_independent() -> None:
    pairs = itertools.pairwise(NUMBERS)
    covariance = sum((one - 0.5) * (other - 0.5) for one, other in pairs) / len(NUMBERS)
    assert abs(covariance * 12) < 0.03


def test_the_same_again_and_another_for_another_job_or_seed() -> None:
    key = b"k" * 20
    assert uniform(1, 2, key) == uniform(1, 2, key)
    assert len({uniform(1, 2, key), uniform(2, 2, key), uniform(1, 3, key), uniform(12, 2, key)}) == 4
    assert new_seed() != new_seed()


def test_what_cannot_be_drawn_has_no_lot() -> None:
    sampling = Sampling(share=0.1, at_least=20, seed=7)
    lots = [sampling.lot(3, b"%020d" % n, is_first=False) for n in range(2_000)]
    drawn = [lot for lot in lots if lot is not None]
    assert all(lot.number < 0.1 for lot in drawn)
    assert 150 < len(drawn) < 250
    first = sampling.lot(3, b"%020d" % 0, is_first=True)
    assert first == Draw(NUMBERS[0], 0.1, 20)
    assert Sampling(share=0.0, at_least=20, seed=7).lot(3, b"k" * 20, is_first=True) is None


def test_stored_and_read_again() -> None:
    sampling = Sampling(share=0.25, at_least=3, seed=2**62, judge="premium", judge_own=True)
    assert Sampling.from_json(sampling.to_json()) == sampling
    assert Sampling.from_json('{"share": 0.5, "at_least": 1, "seed": 2, "later": "?"}').judge is None


@pytest.mark.parametrize(
    ("named", "judge"),
    [
        ([None, None, None], None),
        ([None, "premium", "x"], "premium"),
        (["none", "premium"], None),
        ([None, "none", "premium"], None),
        (["gpt-4o", "none"], "gpt-4o"),
    ],
)
def test_the_strongest_word_names_the_judge(named: list[str | None], judge: str | None) -> None:
    assert chosen_judge(named) == judge


@dataclass
class Answer:
    item_id: int
    draw: Draw | None
    job_id: int = 1
    tier: str = "economy"
    model: str | None = "m"


@dataclass
class Drawing:
    store: Store
    answered: list[Answer] = field(default_factory=list)

    def commit(self, answers: list[Answer]) -> dict[int, float]:
        """Draw these in one transaction, count them as answered; returns all that is drawn."""
        with self.store.write() as connection:
            draw_items(connection, answers, 5.0)
            key = TallyKey(1, "economy", "m")
            add_to_tallies(connection, [(key, Tally(answered=1)) for _ in answers])
            return {row.item_id: row.probability for row in connection.execute(select(sampled_items))}


@pytest.fixture
def drawing(tmp_path: Path) -> Drawing:
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    ensure_schema(store)
    return Drawing(store)


def test_the_first_of_a_stratum_are_certain_also_across_transactions(drawing: Drawing) -> None:
    assert drawing.commit([Answer(n, Draw(0.9, 0.1, 3)) for n in (1, 2)]) == {1: 1.0, 2: 1.0}
    late = [Answer(3, Draw(0.01, 0.1, 3)), Answer(4, Draw(0.9, 0.1, 3)), Answer(5, Draw(0.01, 0.1, 3))]
    assert drawing.commit(late) == {1: 1.0, 2: 1.0, 3: 1.0, 5: 0.1}


def test_a_stratum_of_its_own_begins_anew(drawing: Drawing) -> None:
    drawing.commit([Answer(n, Draw(0.9, 0.1, 2)) for n in (1, 2, 3)])
    climbed = [Answer(4, Draw(0.9, 0.1, 2), tier="premium"), Answer(5, Draw(0.9, 0.1, 2), model="other")]
    assert drawing.commit(climbed) == {1: 1.0, 2: 1.0, 4: 1.0, 5: 1.0}


def test_one_that_is_past_the_first_costs_no_look(drawing: Drawing) -> None:
    assert drawing.commit([Answer(1, Draw(0.05, 0.1, 0)), Answer(2, Draw(0.5, 0.1, 0))]) == {1: 0.1}
    assert drawing.commit([Answer(3, None), Answer(1, Draw(0.05, 0.1, 0))]) == {1: 0.1}
