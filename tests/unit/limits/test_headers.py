"""What vendors' headers mean. The values are those of real responses, where one was recorded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.limits.headers import read_headers
from batcher.limits.quotas import DAY_S, MINUTE_S, Dimension, Quota, Reading, told_limits


def readings(provider: str, headers: dict[str, str], now: float | None = None) -> dict[Dimension, Reading]:
    found = read_headers(provider, headers, now).readings
    assert len({reading.dimension for reading in found}) == len(found)
    return {reading.dimension: reading for reading in found}


def test_openai_writes_durations() -> None:
    found = readings(
        "openai",
        {
            "x-ratelimit-limit-requests": "10000",
            "x-ratelimit-remaining-requests": "9999",
            "x-ratelimit-reset-requests": "6ms",
            "x-ratelimit-limit-tokens": "30,000",
            "x-ratelimit-remaining-tokens": "149984",
            "x-ratelimit-reset-tokens": "6m0s",
            "x-ratelimit-limit-tokens_usage_based": "250000",
        },
    )
    assert found == {
        Dimension.RPM: Reading(Dimension.RPM, 10_000, MINUTE_S, 9999, 0.006),
        Dimension.TPM: Reading(Dimension.TPM, 30_000, MINUTE_S, 149_984, 360.0),
    }


def test_of_openais_two_token_limits_the_tighter_counts() -> None:
    headers = {"x-ratelimit-limit-tokens": "500000", "x-ratelimit-limit-project-tokens": "60000"}
    observed = read_headers("openai", headers)
    assert len(observed.readings) == 2
    assert told_limits(observed) == {Dimension.TPM: Quota(60_000, MINUTE_S)}


def test_azure_writes_seconds_and_counts_requests_in_a_window_of_its_own() -> None:
    found = readings(
        "my-azure",
        {
            "x-ratelimit-limit-requests": "300",
            "x-ratelimit-remaining-requests": "45",
            "x-ratelimit-reset-requests": "10",
            "x-ratelimit-limit-tokens": "50000",
            "x-ratelimit-remaining-tokens": "46760",
            "x-ratelimit-reset-tokens": "1",
        },
    )
    assert found[Dimension.RPM] == Reading(Dimension.RPM, 300, MINUTE_S, None, 10.0)
    assert found[Dimension.TPM] == Reading(Dimension.TPM, 50_000, MINUTE_S, 46_760, 1.0)


def test_what_is_left_of_an_unknown_limit_means_nothing() -> None:
    headers = {"x-ratelimit-remaining-requests": "119", "x-ratelimit-remaining-tokens": "119984"}
    assert readings("azure", headers) == {}


def test_anthropic_counts_input_and_output_apart_and_writes_times() -> None:
    found = readings(
        "anthropic",
        {
            "date": "Tue, 10 Mar 2026 22:26:40 GMT",
            "anthropic-ratelimit-requests-limit": "20000",
            "anthropic-ratelimit-requests-remaining": "19998",
            "anthropic-ratelimit-requests-reset": "2026-03-10T22:26:48Z",
            "anthropic-ratelimit-tokens-limit": "22500000",
            "anthropic-ratelimit-tokens-remaining": "22499000",
            "anthropic-ratelimit-tokens-reset": "2026-03-10T22:26:48Z",
            "anthropic-ratelimit-input-tokens-limit": "20000000",
            "anthropic-ratelimit-input-tokens-remaining": "19999000",
            "anthropic-ratelimit-input-tokens-reset": "2026-03-10T22:26:39Z",
            "anthropic-ratelimit-output-tokens-limit": "2500000",
            "anthropic-ratelimit-output-tokens-remaining": "2500000",
            "anthropic-ratelimit-output-tokens-reset": "2026-03-10T22:26:50+00:00",
        },
    )
    assert found == {
        Dimension.RPM: Reading(Dimension.RPM, 20_000, MINUTE_S, 19_998, 8.0),
        Dimension.TPM: Reading(Dimension.TPM, 22_500_000, MINUTE_S, 22_499_000, 8.0),
        Dimension.ITPM: Reading(Dimension.ITPM, 20_000_000, MINUTE_S, 19_999_000, 0.0),
        Dimension.OTPM: Reading(Dimension.OTPM, 2_500_000, MINUTE_S, 2_500_000, 10.0),
    }


def test_groqs_requests_are_those_of_a_day_and_its_tokens_those_of_a_minute() -> None:
    headers = {
        "x-ratelimit-limit-requests": "14400",
        "x-ratelimit-remaining-requests": "14397",
        "x-ratelimit-reset-requests": "17.399999999s",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "29987",
        "x-ratelimit-reset-tokens": "26ms",
    }
    assert readings("groq", headers) == {
        Dimension.RPD: Reading(Dimension.RPD, 14_400, DAY_S, 14_397, pytest.approx(17.4)),
        Dimension.TPM: Reading(Dimension.TPM, 30_000, MINUTE_S, 29_987, pytest.approx(0.026)),
    }
    assert Dimension.RPM in readings("openai", headers)


@pytest.mark.parametrize(
    ("limit", "remaining", "reset", "told"),
    [
        ("14400", "14397", "17.4s", Dimension.RPD),
        ("1000", "0", "23h59m0s", Dimension.RPD),
        ("1000", "999", "86.4s", Dimension.RPD),
        ("60", "58", "1.6s", Dimension.RPM),
        ("60", "0", "59.2s", Dimension.RPM),
        ("60", "59", "980ms", None),
        ("1000", "999", "20ms", None),
        ("1000", "990", "300s", Dimension.RPD),
        ("1000", "990", "30s", None),
    ],
)
def test_the_window_of_groqs_requests_shows_in_how_soon_they_refill(
    limit: str, remaining: str, reset: str, told: Dimension | None
) -> None:
    headers = {
        "x-ratelimit-limit-requests": limit,
        "x-ratelimit-remaining-requests": remaining,
        "x-ratelimit-reset-requests": reset,
    }
    assert set(readings("groq", headers)) == ({told} if told else set())


def test_together_counts_by_the_second() -> None:
    headers = {
        "x-ratelimit-limit": "2",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": "1",
        "x-tokenlimit-limit": "3000",
        "x-tokenlimit-remaining": "2999",
    }
    assert readings("together", headers) == {
        Dimension.RPM: Reading(Dimension.RPM, 2, 1.0, None, 1.0),
        Dimension.TPM: Reading(Dimension.TPM, 3000, 1.0, None, None),
    }
    assert readings("openrouter", headers) == {}


def test_together_today_tells_a_reset_alone() -> None:
    headers = {"x-ratelimit-reset": "3"}
    assert readings("together", headers) == {Dimension.RPM: Reading(Dimension.RPM, None, 1.0, None, 3.0)}


def test_fireworks_counts_prompt_and_generated_tokens() -> None:
    headers = {
        "x-ratelimit-limit-tokens-prompt": "7200000",
        "x-ratelimit-remaining-tokens-prompt": "7193993",
        "x-ratelimit-limit-tokens-generated": "72000",
        "x-ratelimit-remaining-tokens-generated": "69338",
        "x-ratelimit-over-limit": "no",
    }
    assert readings("fireworks", headers) == {
        Dimension.ITPM: Reading(Dimension.ITPM, 7_200_000, MINUTE_S, 7_193_993),
        Dimension.OTPM: Reading(Dimension.OTPM, 72_000, MINUTE_S, 69_338),
    }


def test_mistral_names_the_window() -> None:
    headers = {
        "x-ratelimit-limit-req-minute": "50",
        "x-ratelimit-remaining-req-minute": "49",
        "x-ratelimit-limit-tokens-minute": "50000",
        "x-ratelimit-remaining-tokens-minute": "47300",
        "x-ratelimit-limit-tokens-month": "1000000",
        "x-ratelimit-tokens-query-cost": "1300",
    }
    assert readings("mistral", headers) == {
        Dimension.RPM: Reading(Dimension.RPM, 50, MINUTE_S, 49),
        Dimension.TPM: Reading(Dimension.TPM, 50_000, MINUTE_S, 47_300),
    }
    older = {"x-ratelimitbysize-limit-minute": "500000", "x-ratelimitbysize-remaining-minute": "499000"}
    assert readings("mistral", older) == {
        Dimension.TPM: Reading(Dimension.TPM, 500_000, MINUTE_S, 499_000),
    }
    assert readings("mistral", {"x-ratelimit-limit-req-minute": "0"}) == {}, "a model outside the plan"


def test_windows_of_a_day_and_a_second_by_name() -> None:
    headers = {"x-ratelimit-limit-requests-day": "14400", "x-ratelimit-limit-req-second": "5"}
    assert told_limits(read_headers("cerebras", headers)) == {
        Dimension.RPD: Quota(14_400, DAY_S),
        Dimension.RPM: Quota(5, 1.0),
    }


@pytest.mark.parametrize(
    "value", ["", "many", "-5", "0", "nan", "inf", "1e400", "99999999999999999", "0x10", "⁵", "1 000"]
)
def test_a_limit_that_makes_no_sense_is_none(value: str) -> None:
    assert told_limits(read_headers("openai", {"x-ratelimit-limit-requests": value})) == {}


@pytest.mark.parametrize(
    "reset", ["soon", "5", "1m", "2026-13-45T99:00:00Z", "2026-01-01T00:00:00", "nan", "-1"]
)
def test_a_limit_stands_whatever_its_reset_says(reset: str) -> None:
    headers = {"x-ratelimit-limit-tokens": "500", "x-ratelimit-reset-tokens": reset}
    found = readings("openai", headers, now=0.0)[Dimension.TPM]
    assert found.limit == 500
    assert found.reset_s is None or found.reset_s >= 0


_NAMES = st.sampled_from(
    [
        f"{start}{number}{end}"
        for number in ("limit", "remaining", "reset")
        for start, end in (
            ("x-ratelimit-", "-requests"),
            ("x-ratelimit-", "-tokens"),
            ("x-ratelimit-", ""),
            ("anthropic-ratelimit-input-tokens-", ""),
            ("x-ratelimitbysize-", "-minute"),
        )
    ]
    + ["date", "retry-after"]
)
_VALUES = st.text(max_size=30) | st.from_regex(r"-?\d{1,30}(\.\d+)?(ms|s|m|h|Z)?", fullmatch=True)


@given(
    st.dictionaries(_NAMES, _VALUES, max_size=12),
    st.sampled_from(["openai", "groq", "together", "anthropic"]),
)
def test_nothing_raises_and_every_number_makes_sense(headers: dict[str, str], provider: str) -> None:
    for reading in read_headers(provider, headers).readings:
        assert reading.limit is None or reading.limit >= 1
        assert reading.remaining is None or (reading.remaining >= 0 and reading.limit is not None)
        assert reading.reset_s is None or 0 <= reading.reset_s < float("inf")
