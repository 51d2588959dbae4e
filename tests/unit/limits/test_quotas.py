from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.catalog.models import Limits
from batcher.limits.quotas import (
    DAY_S,
    DIMENSIONS,
    MINUTE_S,
    Dimension,
    Quota,
    Quotas,
    wording,
)


@dataclass(frozen=True)
class AllLimits:
    rpm: int | None = None
    rpd: int | None = None
    tpm: int | None = None
    tpd: int | None = None
    itpm: int | None = None
    otpm: int | None = None


def in_force(default: object, ceiling: object, told: dict[Dimension, Quota]) -> dict[str, int]:
    quotas = Quotas(default, ceiling)
    quotas.learn(told)
    return {name.value: quota.limit for name, quota in quotas.in_force().items()}


def per_minute(limit: int) -> Quota:
    return Quota(limit, MINUTE_S)


def test_the_catalogue_counts_until_headers_tell() -> None:
    default = Limits(rpm=500, tpm=30_000)
    assert in_force(default, None, {}) == {"rpm": 500, "tpm": 30_000}
    assert in_force(default, None, {Dimension.RPM: per_minute(10_000)}) == {"rpm": 10_000, "tpm": 30_000}
    assert in_force(default, None, {Dimension.TPM: per_minute(100)}) == {"rpm": 500, "tpm": 100}


def test_headers_lower_but_never_raise_what_the_user_set() -> None:
    user = Limits(rpm=1_000, tpm=None)
    assert in_force(Limits(rpm=1_000, tpm=None), user, {}) == {"rpm": 1_000}
    assert in_force(Limits(rpm=1_000, tpm=None), user, {Dimension.RPM: per_minute(5_000)}) == {"rpm": 1_000}
    assert in_force(Limits(rpm=1_000, tpm=None), user, {Dimension.RPM: per_minute(200)}) == {"rpm": 200}


def test_rates_of_different_windows_are_compared_by_what_they_bring() -> None:
    quotas = Quotas(Limits(rpm=600, tpm=None), Limits(rpm=150, tpm=None))
    quotas.learn({Dimension.RPM: Quota(2, 1.0)})
    assert quotas.in_force()[Dimension.RPM] == Quota(2, 1.0)
    quotas.learn({Dimension.RPM: Quota(3, 1.0)})
    assert quotas.in_force()[Dimension.RPM] == per_minute(150)


def test_a_vendor_that_counts_apart_is_not_held_to_a_total_by_default() -> None:
    told = {Dimension.ITPM: per_minute(7_200_000), Dimension.OTPM: per_minute(72_000)}
    assert in_force(Limits(rpm=600, tpm=180_000), None, told) == {
        "rpm": 600,
        "itpm": 7_200_000,
        "otpm": 72_000,
    }
    assert in_force(Limits(rpm=None, tpm=9), Limits(rpm=None, tpm=9), told)["tpm"] == 9
    told[Dimension.TPM] = per_minute(8_000_000)
    assert in_force(Limits(rpm=None, tpm=9), None, told)["tpm"] == 8_000_000


def test_every_field_is_read_with_its_window() -> None:
    found = Quotas(AllLimits(1, 2, 3, 4, 5, 6)).in_force()
    assert list(found) == list(DIMENSIONS)
    assert {name.value for name, quota in found.items() if quota.span_s == DAY_S} == {"rpd", "tpd"}


def test_only_a_change_is_news() -> None:
    quotas = Quotas(Limits(rpm=1, tpm=None))
    assert not quotas.learn({})
    assert quotas.learn({Dimension.RPM: per_minute(5)})
    assert not quotas.learn({Dimension.RPM: per_minute(5)})
    assert quotas.learn({Dimension.RPM: per_minute(6)})


def test_concurrency_is_the_smaller_of_both() -> None:
    assert Quotas(Limits(None, None)).concurrency is None
    assert Quotas(Limits(None, None, concurrency=8)).concurrency == 8
    assert Quotas(Limits(None, None, concurrency=8), Limits(None, None, concurrency=3)).concurrency == 3


@pytest.mark.parametrize(
    ("dimension", "quota", "text"),
    [
        (Dimension.RPM, per_minute(6_000), "6,000 requests/min"),
        (Dimension.RPD, Quota(1_000, DAY_S), "1,000 requests/day"),
        (Dimension.OTPM, per_minute(8), "8 output tokens/min"),
        (Dimension.ITPM, per_minute(8), "8 input tokens/min"),
        (Dimension.TPM, Quota(3_000, 1.0), "3,000 tokens/s"),
    ],
)
def test_limits_in_words(dimension: Dimension, quota: Quota, text: str) -> None:
    assert quota.text(dimension) == text
    assert wording([(0.0, Dimension.TPD), (2.0, dimension)], {dimension: quota}) == f"rate limit: {text}"
    assert wording([(0.0, dimension)], {dimension: quota}) == ""


_LIMIT = st.none() | st.integers(1, 10**9)


@given(default=_LIMIT, ceiling=_LIMIT, told=_LIMIT)
def test_the_order_of_trust(default: int | None, ceiling: int | None, told: int | None) -> None:
    merged = ceiling if ceiling is not None else default
    found = in_force(
        AllLimits(rpm=merged),
        AllLimits(rpm=ceiling),
        {} if told is None else {Dimension.RPM: per_minute(told)},
    ).get("rpm")
    expected = told if told is not None else merged
    if ceiling is not None and expected is not None:
        expected = min(expected, ceiling)
    assert found == expected
