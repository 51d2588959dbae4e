from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.providers.redaction import redact

KEY = "sk-proj-" + "Ab3" * 14


@pytest.mark.parametrize(
    "text",
    [
        f"Incorrect API key provided: {KEY}. You can find yours on the site",
        f"headers: {{'Authorization': 'Bearer {KEY}'}}",
        f'{{"x-api-key": "{KEY}"}}',
        f"curl -H 'authorization: Bearer {KEY}'",
        f"?api_key={KEY}&model=x",
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_keys_are_hidden_whether_known_or_not(text: str, known: bool) -> None:
    shown = redact(text, [KEY] if known else [])
    assert KEY not in shown
    assert KEY[8:30] not in shown


def test_masked_keys_are_hidden_too() -> None:
    assert "test" not in redact("Incorrect API key provided: bad-key-*******test", [])


def test_ordinary_words_stay() -> None:
    said = "Rate limit reached for gpt-4o-mini in organization org-1 on tokens per min: Limit 200000."
    assert redact(said, [KEY]) == said


@given(st.text(max_size=600), st.text(max_size=600), st.integers(0, 700))
def test_a_known_key_never_survives_cutting(before: str, after: str, limit: int) -> None:
    shown = redact(before + KEY + after, [KEY], limit=max(20, limit))
    assert KEY[:20] not in shown
    assert len(shown) <= max(20, limit)
