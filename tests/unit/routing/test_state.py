"""How a job is routed, as it is stored."""

from __future__ import annotations

from dataclasses import replace

import orjson

from batcher.catalog.privacy import Privacy
from batcher.routing.state import MOST_MOVES, Candidate, Excluded, Learning, Move, Routing, Target

ROUTING = Routing(
    floor=0.85,
    queue="economy",
    base=Target("sonnet", "premium"),
    model="sonnet",
    tier="premium",
    reason="nothing is known",
    candidates=(Candidate("llama", "economy", 7_000_000.0), Candidate("sonnet", "premium", 7e7)),
    excluded=(Excluded("o3", "it has no key"),),
    learning=Learning("llama", "economy", known=True, share=0.05),
    proven=("sonnet",),
    refuted=("nano",),
    privacy=Privacy.STRICT,
    max_latency_s=2.5,
    moves=(Move(1.0, "sonnet", "nothing is known"),),
)


def test_what_is_stored_is_read_back() -> None:
    assert Routing.from_json(ROUTING.to_json()) == ROUTING
    assert Routing.from_json(replace(ROUTING, learning=None).to_json()).learning is None


def test_fields_of_a_newer_version_are_left_out_and_missing_ones_have_their_defaults() -> None:
    stored = orjson.loads(ROUTING.to_json()) | {"mood": "good"}
    del stored["privacy"], stored["moves"], stored["excluded"]
    read = Routing.from_json(orjson.dumps(stored).decode())
    assert (read.privacy, read.moves, read.excluded) == (Privacy.STANDARD, (), ())


def test_a_choice_of_another_model_is_a_move_and_the_same_one_is_none() -> None:
    same = ROUTING.chosen(ROUTING.target, "still nothing", 2.0)
    assert (same.moves, same.reason) == (ROUTING.moves, "still nothing")
    moved = ROUTING.chosen(Target("llama", "economy"), "proven", 3.0)
    assert moved.target == Target("llama", "economy")
    assert moved.moves[-1] == Move(3.0, "llama", "proven")
    assert moved.were_in_force == {"llama", "sonnet"}


def test_old_moves_are_forgotten() -> None:
    routing = ROUTING
    for number in range(2 * MOST_MOVES):
        routing = routing.chosen(Target(("llama", "sonnet")[number % 2], "economy"), "again", float(number))
    assert len(routing.moves) == MOST_MOVES
    assert routing.moves[-1].at == 2 * MOST_MOVES - 1


def test_lanes_are_made_anew_for_another_model_or_lesson_and_for_nothing_else() -> None:
    assert ROUTING.binds_like(replace(ROUTING, reason="other", moves=(), proven=()))
    assert not ROUTING.binds_like(replace(ROUTING, model="llama"))
    assert not ROUTING.binds_like(replace(ROUTING, learning=None))
    assert not ROUTING.binds_like(replace(ROUTING, refuted=()))
