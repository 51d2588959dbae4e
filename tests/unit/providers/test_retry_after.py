from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.providers.retry_after import retry_after_s

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(NOW.timestamp() + seconds, UTC)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": format_datetime(at(90), usegmt=True)}, 90),
        ({"retry-after": format_datetime(at(-5), usegmt=True)}, 0),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "nonsense"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "nonsense", "x-ratelimit-reset-requests": "2s"}, 2),
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "0"}, 360),
        ({"x-ratelimit-reset-tokens": "17ms", "x-ratelimit-remaining-tokens": "0"}, 0.017),
        ({"x-ratelimit-reset-requests": "1h2m3.5s", "x-ratelimit-remaining-requests": "0"}, 3723.5),
        ({"x-ratelimit-reset": "1", "x-ratelimit-remaining": "0"}, 1),
        ({"x-ratelimit-reset": str(int((NOW.timestamp() + 4) * 1000))}, 4),
        ({"x-ratelimit-reset": str(int(NOW.timestamp() + 4))}, 4),
        ({"anthropic-ratelimit-tokens-reset": "2026-11-20T12:00:30Z"}, 30),
        ({"anthropic-ratelimit-tokens-reset": "2026-11-20T13:00:30+01:00"}, 30),
        ({}, None),
    ],
)
def test_every_spelling(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(headers, now=NOW.timestamp()) == (
        pytest.approx(expected) if expected is not None else None
    )


def test_the_limit_that_is_used_up_counts_and_not_the_others() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "4999",
        "x-ratelimit-reset-requests": "12ms",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "8.5s",
    }
    assert retry_after_s(headers) == pytest.approx(8.5)
    assert retry_after_s(headers | {"x-ratelimit-remaining-tokens": "7"}) == pytest.approx(0.012)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("Rate limit reached for TPM. Please try again in 50.5s. Visit the console", 50.5),
        ("Please try again in 1m2.5s", 62.5),
        ("Please retry in 30 seconds", 30),
        ('{"error": {"details": [{"@type": "x.RetryInfo", "retryDelay": "13s"}]}}', 13),
        ("Please try again later", None),
    ],
)
def test_waits_told_in_the_body(body: str, expected: float | None) -> None:
    assert retry_after_s({}, body) == expected


def test_a_date_is_read_by_the_vendors_clock() -> None:
    headers = {
        "date": format_datetime(at(-86400), usegmt=True),
        "retry-after": format_datetime(at(-86390), usegmt=True),
    }
    assert retry_after_s(headers) == 10


@given(st.text(max_size=40), st.text(max_size=200))
def test_no_text_breaks_it(value: str, body: str) -> None:
    for name in ("retry-after", "retry-after-ms", "x-ratelimit-reset", "date"):
        wait = retry_after_s({name: value}, body)
        assert wait is None or wait >= 0
