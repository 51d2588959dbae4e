"""What documents cost on a model: by hand for simple cases, in order for all."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.planning.answer_length import Length
from batcher.planning.estimate import PART_FILL, estimate
from batcher.planning.fit import Fit
from batcher.planning.requests import TEMPLATE_TOKENS, TEXT_DIVISOR, expected_input_tokens, fit_of
from batcher.planning.sizes import Size

from .planning_cases import MODEL, make_catalog, make_evidence, make_task


def make_fit(*, long_documents: str = "merge", **changes: object) -> Fit:
    catalog = make_catalog(**changes)
    return fit_of(make_task(long_documents=long_documents).spec(), catalog.models[MODEL], catalog)


def test_a_call_carries_text_instructions_schema_and_template() -> None:
    fit = make_fit()
    schema_tokens = fit.schema_bytes // 4
    told = fit.overhead_tokens - schema_tokens
    assert expected_input_tokens(fit, 600) == pytest.approx(
        (600 + told) / TEXT_DIVISOR + schema_tokens + TEMPLATE_TOKENS
    )
    without = make_fit(abilities=frozenset())
    assert without.schema_bytes == 0
    assert expected_input_tokens(without, 0) == pytest.approx(
        without.overhead_tokens / TEXT_DIVISOR + TEMPLATE_TOKENS
    )


def test_the_likely_cost_is_tokens_times_prices() -> None:
    fit = make_fit()
    costs = estimate(fit, [Size(2_400, 0, 10, 600.0)], make_evidence())
    tokens = expected_input_tokens(fit, 600)
    assert (costs.items, costs.calls, costs.split, costs.too_long, costs.unseen) == (10, 10, 0, 0, 0)
    assert costs.likely_nusd == pytest.approx(10 * (tokens * 1_000 + 20 * 10_000))
    assert costs.input_tokens == pytest.approx(10 * tokens)
    assert costs.output_tokens == 200
    assert costs.longest_answer_tokens == 1_000
    assert costs.low_nusd == pytest.approx(10 * (0.85 * tokens * 1_000 + 10 * 10_000))
    assert costs.first_nusd == 10 * fit.first_calls_nusd(2_400, 0)
    assert costs.high_nusd == costs.first_nusd


def test_what_was_measured_moves_the_figure() -> None:
    fit = make_fit()
    size = [Size(2_400, 0, 1, 600.0)]
    plain = estimate(fit, size, make_evidence())
    tokens = expected_input_tokens(fit, 600)
    measured = estimate(fit, size, make_evidence(input_factor=0.8, input_calls=30))
    assert plain.likely_nusd - measured.likely_nusd == pytest.approx(0.2 * tokens * 1_000)
    cached = estimate(fit, size, make_evidence(cached_share=0.5))
    assert plain.likely_nusd - cached.likely_nusd == pytest.approx(0.5 * tokens * 500)
    written = estimate(fit, size, make_evidence(cache_write_share=0.25))
    assert written.likely_nusd - plain.likely_nusd == pytest.approx(0.25 * tokens * 1_000)
    repaired = estimate(fit, size, make_evidence(extra_share=0.1))
    assert repaired.likely_nusd == pytest.approx(1.1 * plain.likely_nusd)
    assert repaired.first_likely_nusd == plain.likely_nusd
    assert repaired.low_nusd == plain.low_nusd


def test_a_long_document_is_its_parts_and_their_merge() -> None:
    fit = make_fit(practical_context=2_000)
    room = fit.document_tokens
    tokens = 5.0 * room
    costs = estimate(fit, [Size(int(tokens * 5), 0, 2, tokens)], make_evidence())
    parts = math.ceil(5 / PART_FILL)
    assert (costs.items, costs.split, costs.calls) == (2, 2, 2 * (parts + 1))
    carried = expected_input_tokens(fit, tokens + parts * 20, parts + 1)
    assert costs.input_tokens == pytest.approx(2 * carried)
    assert costs.output_tokens == 2 * 20 * (parts + 1)


def test_a_text_of_many_bytes_and_few_tokens_is_not_split() -> None:
    fit = make_fit(practical_context=2_000)
    room = fit.document_tokens
    costs = estimate(fit, [Size(4 * room, 0, 1, room - 1.0)], make_evidence())
    assert (costs.split, costs.calls) == (0, 1)


def test_what_a_task_does_not_split_costs_nothing() -> None:
    fit = make_fit(long_documents="reject", practical_context=2_000)
    costs = estimate(fit, [Size(10**6, 0, 3, 10.0**5), Size(400, 0, 1, 100.0)], make_evidence())
    assert (costs.too_long, costs.items, costs.calls) == (3, 1, 1)
    assert costs.likely_nusd == estimate(fit, [Size(400, 0, 1, 100.0)], make_evidence()).likely_nusd


def test_pictures_cost_what_was_measured_or_else_the_most() -> None:
    fit = make_fit(image_tokens=5_000)
    pictures = [Size(0, 2, 1, 0.0)]
    unknown = estimate(fit, pictures, make_evidence())
    known = estimate(fit, pictures, make_evidence(image_tokens=800.0))
    assert unknown.input_tokens - known.input_tokens == pytest.approx(2 * (5_000 - 800))
    blind = estimate(make_fit(abilities=frozenset({"schema"})), pictures, make_evidence())
    assert (blind.unseen, blind.items, blind.likely_nusd, blind.first_nusd) == (1, 0, 0, 0)


def test_nothing_costs_nothing() -> None:
    assert estimate(make_fit(), [], make_evidence()).worst_nusd == 0


@given(
    sizes=st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**4)), min_size=1, max_size=10),
    typical=st.floats(1, 100),
    share=st.floats(0, 1),
    tokens_per_byte=st.floats(0.1, 1),
)
def test_low_likely_high_and_worst_are_in_order(
    sizes: list[tuple[int, int]], typical: float, share: float, tokens_per_byte: float
) -> None:
    fit = make_fit(practical_context=3_000)
    documents = [Size(size, 0, items, size * tokens_per_byte) for size, items in sizes]
    evidence = make_evidence(output=Length(typical, typical * share))
    costs = estimate(fit, documents, evidence)
    assert 0 < costs.low_nusd <= costs.likely_nusd <= costs.high_nusd < costs.worst_nusd
    assert costs.items == sum(items for _, items in sizes)
