"""Reading a corpus for a plan: what is counted, how fast, and what is held."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from batcher.documents.records import Parsed, Rejected, document_of_text
from batcher.planning.survey import take_survey

from .planning_cases import make_task

SPEC = make_task().spec()
TEXT = "On rivers and bridges, and on those who built them. " * 12


def texts(count: int) -> Iterator[Parsed]:
    for number in range(count):
        yield Parsed(f"{number}.txt", document_of_text(f"Document {number}. {TEXT}"))


@given(st.lists(st.integers(0, 12) | st.none(), max_size=60))
def test_every_document_is_counted_once(numbers: list[int | None]) -> None:
    corpus = [
        Rejected(f"{place}.pdf", "encrypted", "It is.")
        if number is None
        else Parsed(f"{place}.txt", document_of_text(f"Text {number}"))
        for place, number in enumerate(numbers)
    ]
    survey = take_survey(corpus, SPEC, None, None)
    found = [number for number in numbers if number is not None]
    assert survey.read == len(numbers)
    assert survey.rejected.total() == len(numbers) - len(found)
    assert survey.new == survey.texts.documents == len(set(found))
    assert survey.duplicates == len(found) - len(set(found))
    assert survey.tokens.count == len(found)


def test_progress_is_told_by_the_batch() -> None:
    told: list[tuple[int, int]] = []
    take_survey(
        texts(2_500), SPEC, None, None, on_progress=lambda read, rejected: told.append((read, rejected))
    )
    assert told == [(1_000, 0), (2_000, 0)]


def test_it_reads_two_thousand_small_documents_a_second() -> None:
    corpus = list(texts(4_000))
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        take_survey(corpus, SPEC, None, None)
        best = min(best, time.process_time() - start)
    assert len(corpus) / best > 4_000  # twice the bar: reading the files comes on top


def test_memory_does_not_grow_with_the_corpus() -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            take_survey(texts(count), SPEC, None, None)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1_000)
    assert peak(12_000) < 1.1 * peak(2_000)
