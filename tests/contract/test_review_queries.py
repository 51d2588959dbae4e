"""Labels of people on both databases: the queue, labels, undo, and known answers made of them."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from batcher.errors import UsageError
from batcher.quality.review import (
    Label,
    Progress,
    golden_rows,
    last_labelled,
    put_label,
    read_item,
    review_progress,
    review_queue,
    take_label_back,
    unfixed_items,
)
from batcher.quality.sampling import Sampling
from batcher.runtime import Runtime
from batcher.store.jobs import Job
from batcher.tasks.golden import load_golden
from tests.support.runs import make_job, run

ANN, BOB = "person:ann", "person:bob"


@pytest.fixture
def job(runtime: Runtime) -> Job:
    made = make_job(
        runtime, {f"d{n}": f"text {n}" for n in range(12)}, sampling=Sampling(share=1.0, at_least=0, seed=1)
    )
    run(runtime, made.id)
    return made


def queue(runtime: Runtime, job: Job, by: str = ANN, *, only_disagreements: bool = False) -> list[int]:
    with runtime.store.read() as connection:
        return review_queue(connection, job.id, by, only_disagreements=only_disagreements)


def label(runtime: Runtime, item_id: int, by: str, label: Label, at: float, **more: object) -> None:
    with runtime.store.write() as connection:
        put_label(connection, read_item(connection, item_id), by, label, at, **more)  # type: ignore[arg-type]


def test_the_order_is_random_and_always_the_same_and_what_is_labelled_is_gone(
    runtime: Runtime, job: Job
) -> None:
    first = queue(runtime, job)
    assert first == queue(runtime, job, BOB)
    assert sorted(first) != first
    label(runtime, first[0], ANN, Label.RIGHT, 1.0)
    label(runtime, first[1], ANN, Label.WRONG, 2.0)
    assert queue(runtime, job) == first[2:]
    assert queue(runtime, job, BOB) == first
    with runtime.store.read() as connection:
        assert review_progress(connection, job.id, ANN) == Progress(2, 10)
        assert last_labelled(connection, job.id, ANN) == first[1]
        assert last_labelled(connection, job.id, BOB) is None
        assert review_queue(connection, job.id, ANN, tier="premium") == []


def test_a_label_is_taken_back_or_replaced(runtime: Runtime, job: Job) -> None:
    [item, *_] = queue(runtime, job)
    label(runtime, item, ANN, Label.RIGHT, 1.0)
    label(runtime, item, ANN, Label.WRONG, 2.0, note="another river")
    with runtime.store.write() as connection:
        [own] = read_item(connection, item).opinions
        assert (own.correct, own.score, own.expected, own.note, own.judged_at) == (
            False, 0.0, None, "another river", 2.0
        )  # fmt: skip
        assert take_label_back(connection, item, ANN)
        assert not take_label_back(connection, item, ANN)
    assert item in queue(runtime, job)


def test_disagreements_are_what_two_said_differently_of(runtime: Runtime, job: Job) -> None:
    one, other, third, *_ = queue(runtime, job)
    for item, by, what in [
        (one, ANN, Label.RIGHT), (one, BOB, Label.WRONG), (other, ANN, Label.RIGHT),
        (other, BOB, Label.RIGHT), (third, BOB, Label.WRONG),
    ]:  # fmt: skip
        label(runtime, item, by, what, 1.0)
    assert queue(runtime, job, ANN, only_disagreements=True) == [one]
    assert queue(runtime, job, "person:cleo", only_disagreements=True) == [one]


def test_what_people_found_right_or_fixed_is_known_from_then_on(
    runtime: Runtime, job: Job, tmp_path: Path
) -> None:
    right, fixed, wrong, changed, *_ = queue(runtime, job)
    label(runtime, right, ANN, Label.RIGHT, 1.0)
    label(runtime, fixed, ANN, Label.FIX, 2.0, fixed={"label": "rivers"}, scorer=lambda *_: (0.5, True))
    label(runtime, wrong, ANN, Label.WRONG, 3.0)
    label(runtime, changed, ANN, Label.RIGHT, 4.0)
    label(runtime, changed, BOB, Label.FIX, 5.0, fixed={"label": "bridges"})
    with runtime.store.read() as connection:
        rows = {row["source"]: row for row in golden_rows(connection, job.id, page=2)}
        items = {item: read_item(connection, item) for item in (right, fixed, wrong, changed)}
        assert unfixed_items(connection, job.id) == [wrong]
    assert rows.keys() == {items[item].source for item in (right, fixed, changed)}
    assert rows[items[right].source] == {
        "source": items[right].source,
        "expected": items[right].output,
        "text": items[right].text,
    }
    assert rows[items[fixed].source]["expected"] == {"label": "rivers"}
    assert rows[items[changed].source]["expected"] == {"label": "bridges"}
    assert (items[fixed].opinions[0].score, items[fixed].opinions[0].correct) == (0.5, True)
    assert items[changed].own(BOB) is not None
    assert [one.judged_by for one in items[changed].others(BOB)] == [ANN]
    path = tmp_path / "known.jsonl"
    path.write_bytes(b"\n".join(map(orjson.dumps, rows.values())))
    assert load_golden(path).lookup(items[fixed].source) == {"label": "rivers"}


def test_what_was_not_drawn_cannot_be_labelled(runtime: Runtime) -> None:
    plain = make_job(runtime, {"d": "text"})
    run(runtime, plain.id)
    with runtime.store.read() as connection, pytest.raises(UsageError, match="was not drawn"):
        read_item(connection, 1)
