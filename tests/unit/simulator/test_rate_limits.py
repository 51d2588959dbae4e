"""The simulator's token buckets and their headers, on a clock that is a number."""

from __future__ import annotations

import math

import pytest

from batcher.errors import UsageError
from batcher.providers.retry_after import retry_after_s
from batcher.simulator.rate_headers import go_duration, rate_headers
from batcher.simulator.rate_limits import LimitBook, Limits
from batcher.simulator.vendor_errors import rate_limited

START = 1_795_000_000.0
VENDORS = ("openai", "anthropic", "together", "groq", "mistral")


def admitted(book: LimitBook, vendor: str, now: float, prompt: int = 10, asked: int | None = 20) -> bool:
    buckets = book.buckets(vendor, "account", "model", now)
    return book.admit(buckets, vendor, "model", prompt, asked) is None


def sent_evenly(book: LimitBook, vendor: str, since: float, seconds: float, per_second: float) -> int:
    """How many of so many calls a second are let through."""
    calls = int(seconds * per_second)
    return sum(admitted(book, vendor, since + number / per_second) for number in range(calls))


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_stated_rate_is_let_through_and_no_more(vendor: str) -> None:
    book = LimitBook(Limits(rpm=600, burst_s=1))
    assert sent_evenly(book, vendor, START, 60, 10) == 600
    let_through = sent_evenly(book, vendor, START + 100, 60, 20)
    assert 10 + 600 - 20 <= let_through <= 10 + 600


def test_a_full_bucket_may_be_used_at_once() -> None:
    book = LimitBook(Limits(rpm=100))
    assert [admitted(book, "together", START) for _ in range(101)] == [True] * 100 + [False]
    assert admitted(book, "together", START + 0.61)


def test_where_refused_requests_count_hammering_does_not_help() -> None:
    book = LimitBook(Limits(rpm=60, burst_s=1, count_refused=True))
    assert admitted(book, "openai", START)
    assert not any(admitted(book, "openai", START + 0.3 * number) for number in range(1, 30))
    assert admitted(book, "openai", START + 10)


def test_a_change_in_mid_run_holds_at_once_and_keeps_what_was_used() -> None:
    book = LimitBook(Limits(rpm=600, burst_s=1))
    assert sent_evenly(book, "groq", START, 10, 10) == 100
    book.change({"rpm": 300})
    assert sent_evenly(book, "groq", START + 10, 60, 10) <= 300 + 5
    book.change({"rpm": 60, "vendor": "groq"})
    assert book.of("groq", "model").rpm == 60
    assert book.of("openai", "model").rpm == 300
    book.change({"rpm": None, "vendor": "groq"})
    assert book.buckets("groq", "account", "model", START + 71) == {}


def test_what_a_request_takes_from_the_token_limit() -> None:
    for vendor, charge, left in (
        ("openai", "", 900),
        ("openai", "used", 960),
        ("groq", "", 960),
        ("groq", "asked", 900),
    ):
        book = LimitBook(Limits(tpm=1000, charge=charge))
        buckets = book.buckets(vendor, "a", "m", START)
        assert book.admit(buckets, vendor, "m", 10, 100) is None
        book.answered(buckets, vendor, "m", 30, START)
        assert buckets["tokens"].level == left


def test_anthropic_counts_input_and_output_apart() -> None:
    book = LimitBook(Limits(input_tpm=100, output_tpm=50))
    buckets = book.buckets("anthropic", "a", "m", START)
    assert book.admit(buckets, "anthropic", "m", 60, 10_000) is None
    book.answered(buckets, "anthropic", "m", 80, START)
    met = book.admit(buckets, "anthropic", "m", 10, 10)
    assert met is not None
    assert (met.name, met.limit, round(met.wait_s)) == ("output-tokens", 50, 37)


def test_groq_counts_requests_per_day() -> None:
    book = LimitBook(Limits(rpd=3))
    assert [admitted(book, "groq", START) for _ in range(4)] == [True, True, True, False]
    headers = rate_headers("groq", book.buckets("groq", "account", "model", START), START)
    assert headers["x-ratelimit-limit-requests"] == "3"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"] == "24h0m0s"


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_429_says_how_long_to_wait_and_the_wait_is_enough(vendor: str) -> None:
    for limits in (Limits(rpm=7, burst_s=10), Limits(tpm=700, burst_s=10)):
        book = LimitBook(limits)
        now = START + 0.4
        met = None
        while met is None:
            buckets = book.buckets(vendor, "a", "m", now)
            met = book.admit(buckets, vendor, "m", 37, 37)
        error = rate_limited(vendor, "m", met)
        headers = rate_headers(vendor, book.buckets(vendor, "a", "m", now), now) | error.headers
        wait_s = retry_after_s(headers, str(error.body), now)
        assert error.status == 429
        assert wait_s is not None
        assert met.wait_s <= wait_s <= met.wait_s + 1.001
        buckets = book.buckets(vendor, "a", "m", now + wait_s)
        assert book.admit(buckets, vendor, "m", 37, 37) is None


def test_headers_are_each_vendors_own() -> None:
    names = {}
    for vendor in VENDORS:
        book = LimitBook(Limits(rpm=60, tpm=6000))
        names[vendor] = sorted(rate_headers(vendor, book.buckets(vendor, "a", "m", START), START))
    assert names["openai"] == names["groq"]
    assert "x-ratelimit-reset-tokens" in names["openai"]
    assert "anthropic-ratelimit-input-tokens-remaining" in names["anthropic"]
    assert "x-tokenlimit-remaining" in names["together"]
    assert "x-ratelimit-remaining-req-minute" in names["mistral"]
    assert rate_headers("openai", {}, START) == {}


def test_anthropics_remaining_tokens_are_rounded_and_its_resets_are_times() -> None:
    book = LimitBook(Limits(rpm=60, tpm=6000))
    buckets = book.buckets("anthropic", "a", "m", START)
    book.admit(buckets, "anthropic", "m", 100, 100)
    headers = rate_headers("anthropic", buckets, START)
    assert headers["anthropic-ratelimit-input-tokens-remaining"] == "5000"
    assert headers["anthropic-ratelimit-requests-remaining"] == "59"
    assert headers["anthropic-ratelimit-requests-reset"] == "2026-11-18T11:06:41Z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.017, "17ms"), (1.5, "1.5s"), (360, "6m0s"), (3661, "1h1m1s"), (59.9995, "1m0s")],
)
def test_durations_as_go_writes_them(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text
    wait_s = retry_after_s({"retry-after": text})
    assert wait_s is not None
    assert math.isclose(wait_s, seconds, abs_tol=0.001)


@pytest.mark.parametrize("given", [{"rpm": 0}, {"tpm": -1}, {"burst_s": 0}, {"charge": "x"}, {"rqm": 1}])
def test_a_limit_that_is_none_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        LimitBook(Limits()).change(given)
