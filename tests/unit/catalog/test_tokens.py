from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.catalog.models import load_catalog
from batcher.catalog.tokens import (
    IMAGE_TEMPLATE_TOKENS,
    SCHEMA_TEMPLATE_TOKENS,
    TEMPLATE_TOKENS,
    estimate_tokens,
    input_tokens_bound,
)
from batcher.settings import Settings

SAMPLES = [
    (sample["text"], sample["tokens"])
    for sample in json.loads(Path(__file__).with_name("token_samples.json").read_text(encoding="utf-8"))
]
"""Texts and their length in o200k tokens, counted with tiktoken 0.14 on 2026-11-20."""


@pytest.mark.parametrize(("text", "tokens"), SAMPLES)
def test_the_estimate_is_near_the_truth_and_leans_high(text: str, tokens: int) -> None:
    assert 0.95 * tokens - 1 <= estimate_tokens(text) <= 2.1 * tokens + 2


def test_nothing_is_no_tokens() -> None:
    assert estimate_tokens("") == 0
    assert 1 <= estimate_tokens(" ") <= 2


@given(st.text())
def test_any_text_has_an_estimate(text: str) -> None:
    """Lone surrogates too, which a broken file can bring."""
    assert estimate_tokens(text) >= (1 if text else 0)


@given(st.text(), st.text())
def test_more_text_is_not_fewer_tokens(first: str, second: str) -> None:
    assert estimate_tokens(first + second) >= max(estimate_tokens(first), estimate_tokens(second)) * 0.5


def test_the_bound_counts_every_byte_and_allows_for_templates() -> None:
    model = load_catalog(Settings()).model("gpt-4o")
    assert input_tokens_bound(1000, 0, 0, model) == 1000 + TEMPLATE_TOKENS
    assert input_tokens_bound(1000, 300, 0, model) == 1600 + TEMPLATE_TOKENS + SCHEMA_TEMPLATE_TOKENS
    assert input_tokens_bound(0, 0, 3, model) == 3 * (1445 + IMAGE_TEMPLATE_TOKENS) + TEMPLATE_TOKENS
    several = input_tokens_bound(1000, 300, 2, model, calls=3)
    alone = input_tokens_bound(1000, 300, 2, model)
    assert several == alone + 2 * (TEMPLATE_TOKENS + SCHEMA_TEMPLATE_TOKENS)


@pytest.mark.parametrize(("text", "tokens"), SAMPLES)
def test_the_bound_is_above_the_truth(text: str, tokens: int) -> None:
    model = load_catalog(Settings()).model("gpt-4o")
    assert input_tokens_bound(len(text.encode()), 0, 0, model) > tokens
